"""Several processes that train as one (torchrun, accelerate launch, MPI) meet before they begin.

The environment says how many they are and where they meet. It may say so by mistake, left there by
an earlier job: then nobody comes, and PyTorch waits for half an hour without a word.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..bundle.processor import usable_cores
from ..errors import Unavailable

SECONDS = 5.0  # before a message says which processes are awaited

# Variables that state the number of processes and this one's, in the order that Accelerate reads.
_SIZE = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_ADDRESS = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LOCAL_SIZE = (
    "LOCAL_WORLD_SIZE",
    "MPI_LOCALNRANKS",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "MV2_COMM_WORLD_LOCAL_SIZE",
)
_DEFAULT_PORT = "29500"

_waiting = False


@dataclass(frozen=True)
class Meeting:
    """Where this process, ``rank`` of ``size``, is to meet the others. Prints itself."""

    rank: int
    size: int
    place: str

    def __str__(self) -> str:
        return (
            f"process {self.rank} of {self.size} (0 is the first) waits for the others at "
            f"{self.place}, as the environment says; {remedy()}"
        )


def remedy() -> str:
    """How to train with one process where nobody else is to come."""
    present = [name for name in (*_SIZE, *_RANK, *_ADDRESS) if name in os.environ]
    return f"for one process alone: unset {' '.join(present)}"


def meeting(device: str) -> Meeting | None:
    """The meeting that awaits a process on ``device``; None for a process on its own.

    Raises Unavailable for an environment that no meeting can come of.
    """
    size, rank = _number(_SIZE) or 1, _number(_RANK) or 0
    local = _number(("LOCAL_RANK",))
    on_cpu = device.partition(":")[0] == "cpu"
    if size <= 1 or (local is None and not on_cpu):  # then there is one process a GPU
        return None
    if not 0 <= rank < size:
        raise Unavailable(f"there is no process {rank} of {size} (0 is the first): {remedy()}")
    address = os.environ.get("MASTER_ADDR")
    if not address:
        raise Unavailable(
            f"the environment says that this is process {rank} of {size}, but not where they meet "
            f"(MASTER_ADDR): start all of them by torchrun; {remedy()}"
        )
    port = os.environ.get("MASTER_PORT") or _DEFAULT_PORT
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise Unavailable(f"MASTER_PORT={port} is no port: {remedy()}")
    return Meeting(rank, size, f"{address}:{port}")


def peer_threads(device: str) -> int | None:
    """How many threads a process that meets others may start: its share of the usable cores.

    None for a process on its own, and where OMP_NUM_THREADS says it: another number than that of
    all usable cores, which is what a command sets under a quota before it knows of the others.
    """
    chosen = os.environ.get("OMP_NUM_THREADS") not in (None, str(usable_cores()))
    if chosen or meeting(device) is None:
        return None
    return max(1, usable_cores() // (_number(_LOCAL_SIZE) or 1))


@contextmanager
def wait_notice(device: str) -> Iterator[None]:
    """Say on standard error who is waited for, where the block lasts longer than a few seconds.

    Ctrl-C ends the process at once meanwhile: PyTorch's own waiting would not listen to it.
    Within another such block this one does nothing. Raises as ``meeting`` does.
    """
    global _waiting
    awaited = None if _waiting else meeting(device)
    if awaited is None:
        yield
        return
    message = f"{awaited}; Ctrl-C stops"
    timer = threading.Timer(SECONDS, lambda: print(message, file=sys.stderr, flush=True))
    timer.daemon = True
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_DFL) if is_main else None
    _waiting = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _waiting = False
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _number(names: tuple[str, ...]) -> int | None:
    """The first of the variables that is a number from 0 on, as Accelerate reads them."""
    for name in names:
        text = os.environ.get(name)
        if text is None:
            continue
        try:
            value = int(text)
        except ValueError:
            raise Unavailable(f"{name}={text} in the environment is no number: unset it") from None
        if value >= 0:
            return value
    return None
