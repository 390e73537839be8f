"""Carrying out a comparison: every process takes the next run that no other has taken.

Processes know of each other only by the files and locks in the comparison's folder, so several on
one machine, or one on each of many machines with a shared file system, need no other arrangement.
"""

from __future__ import annotations

import json
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ..bundle.atomic import write_json, write_text, writing
from ..bundle.progress import Progress
from ..errors import MldrError, Unavailable
from ..pipeline.workspace import Busy
from .recent_data import RecentData
from .units import Unit

_FAILED, _TRACEBACK = "failed.json", "traceback.txt"
_POLL_SECONDS = 2.0


class Failures(MldrError):
    """Some runs of a comparison failed."""


class Work(Protocol):
    """A way of carrying out runs: `work`, `LocalRuns` on this machine, `RayRuns` on a cluster."""

    def __call__(
        self, units: Sequence[Unit], *, device: str, data: RecentData, progress: Progress
    ) -> None:
        """Carry out ``units``. Raises Failures where some did not work out."""


def work(units: Sequence[Unit], *, device: str, data: RecentData, progress: Progress) -> None:
    """Carry out ``units``, beside other processes; returns when all are finished.

    A run that fails is left, with the reason in its folder, and tried again by the next call.
    Raises Failures, after everything else is done, when there are such runs; Unavailable at once,
    since what this machine lacks every run will miss.
    """
    began = time.time()
    while pending := [unit for unit in units if not unit.finished]:
        failed = [unit for unit in pending if failed_since(unit, began)]
        lost = [unit for unit in pending if is_lost(unit, failed)]
        if len(lost) == len(pending):
            raise failures(failed)
        note = f"{len(units) - len(pending)} of {len(units)} done"
        open_units = [unit for unit in pending if unit.ready and unit not in failed]
        if not _take_one(open_units, note, device, data, progress):
            time.sleep(_POLL_SECONDS)


def failure(unit: Unit) -> str | None:
    """Why ``unit`` failed the last time, if it did."""
    path = unit.folder / _FAILED
    if unit.finished or not path.is_file():
        return None
    reason: str = json.loads(path.read_text(encoding="utf-8"))["reason"]
    return reason


def note_failure(unit: Unit, reason: str, progress: Progress) -> None:
    """Say why ``unit`` failed, and keep it in its folder."""
    progress.note(f"{unit.name} failed: {reason}")
    write_json(_made_folder(unit) / _FAILED, {"reason": reason, "time": time.time()})


def forget_failure(unit: Unit) -> None:
    """Take away what was noted of a run that is finished now."""
    for name in (_FAILED, _TRACEBACK):
        (unit.folder / name).unlink(missing_ok=True)


def fault(unit: Unit, error: Exception) -> str:
    """Why ``unit`` failed, by an error that nobody expected; keeps its traceback in the folder."""
    file = _made_folder(unit) / _TRACEBACK
    write_text(file, "".join(traceback.format_exception(error)))
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]} (traceback in {file})"


def _take_one(
    units: Sequence[Unit], note: str, device: str, data: RecentData, progress: Progress
) -> bool:
    """Carry out the first unit that no other process has taken; whether there was one."""
    for unit in units:
        progress.note(f"{note}; {unit.name}")
        try:
            unit.carry_out(device, data, progress)
        except Busy:
            continue
        except Unavailable:
            raise
        except MldrError as error:
            note_failure(unit, str(error), progress)
        except Exception as error:  # memory, or a bug: of this run, as far as anybody knows
            note_failure(unit, fault(unit, error), progress)
        else:
            forget_failure(unit)
        return True
    return False


def _made_folder(unit: Unit) -> Path:
    with writing(unit.folder):
        unit.folder.mkdir(parents=True, exist_ok=True)
    return unit.folder


def failed_since(unit: Unit, began: float) -> bool:
    """Whether ``unit`` failed after ``began``, seconds since 1970."""
    path = unit.folder / _FAILED
    return path.is_file() and path.stat().st_mtime >= began


def is_lost(unit: Unit, failed: Sequence[Unit]) -> bool:
    """Whether ``unit`` or the run that it needs is among the ``failed``."""
    return unit in failed or unit.needs in failed


def failures(failed: Sequence[Unit]) -> Failures:
    """The error that tells of ``failed`` runs."""
    first = failed[0]
    suffix = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return Failures(f"{first.name} failed{suffix}: {failure(first)}; the same command tries again")


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM, which schedulers send, acts as Ctrl-C for the length of the block.

    Only a process's main thread can arrange that; in another the block is as it would be without.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
