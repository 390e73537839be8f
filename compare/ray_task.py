"""One run as a task of Ray: what a worker does with it, and what it answers."""

from __future__ import annotations

import os
import platform
import signal
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from .. import __version__
from ..bundle.progress import Silent
from ..errors import MldrError, Unavailable
from ..pipeline.workspace import Busy
from .recent_data import RecentData
from .units import Unit
from .workers import fault, forget_failure

_DATA = RecentData()  # of this worker
_DATA_ROOT = "MLDR_DATA"
_PACKAGES = ("torch", "timm")


@dataclass(frozen=True)
class WorkerTerms:
    """What a worker takes over from the process that sends it runs."""

    folder: str  # that relative paths begin at
    threads: int
    data_root: str | None
    versions: dict[str, str]

    @classmethod
    def here(cls, threads: int) -> WorkerTerms:
        """Those of this process."""
        return cls(str(Path.cwd()), threads, os.environ.get(_DATA_ROOT), versions())


@dataclass(frozen=True)
class RunReport:
    """How a task ended."""

    state: Literal["done", "busy", "failed", "unavailable", "died"]
    reason: str = ""


def carry_out(unit: Unit, device: str, terms: WorkerTerms) -> RunReport:
    """The task: ``unit`` on the worker's machine."""
    host = platform.node()
    if (lack := _lack(unit, terms)) is not None:
        return RunReport("unavailable", f"{host} {lack}")
    _settle(terms)
    try:
        unit.carry_out(device, _DATA, Silent())
    except Busy:
        return RunReport("busy")
    except Unavailable as error:
        return RunReport("unavailable", f"{host}: {error}")
    except MldrError as error:
        return RunReport("failed", str(error))
    except ImportError:  # the machine's, which whoever asked tells
        raise
    except Exception as error:
        return RunReport("failed", fault(unit, error))
    forget_failure(unit)
    return RunReport("done")


def versions() -> dict[str, str]:
    """Versions of the packages that decide what a run gives."""
    return {"mldr-deploy": __version__, **{name: version(name) for name in _PACKAGES}}


def _lack(unit: Unit, terms: WorkerTerms) -> str | None:
    """What this machine lacks to carry out ``unit``, in words."""
    for name, here in versions().items():
        if here != terms.versions[name]:
            return (
                f"has {name} {here}, not {terms.versions[name]}: install the same on all machines"
            )
    folder = Path(terms.folder, unit.folder)
    if not folder.is_dir():
        return (
            f"does not see {folder}: --out and the folder in which the command is given must lie "
            "on a file system that all machines of the Ray cluster share"
        )
    return None


def _settle(terms: WorkerTerms) -> None:
    """Take over the terms in this process."""
    import torch

    os.chdir(terms.folder)
    if terms.data_root is not None:
        os.environ.setdefault(_DATA_ROOT, terms.data_root)
    os.environ["OMP_NUM_THREADS"] = str(terms.threads)
    torch.set_num_threads(terms.threads)
    # Ray cancels by this signal, which workers that a shell's background job started ignore.
    signal.signal(signal.SIGINT, signal.default_int_handler)
