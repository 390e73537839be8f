"""NVIDIA's multi-process service for the length of a block, where it is there."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which
from tempfile import TemporaryDirectory

CONTROL = "nvidia-cuda-mps-control"
# The shell ends when its input does, which the kernel closes however this process ends: the daemon
# never outlives the run.
_SCRIPT = f"{CONTROL} -d >&2 && echo started && read -r _; echo quit | {CONTROL}"
_STOP_SECONDS = 5.0


@contextmanager
def multi_process_service() -> Iterator[bool]:
    """Whether CUDA processes forked in the block share the GPU through the service.

    Its folders are its own, so that another user's daemon is not touched. Neither the compute mode
    nor anything else of the card is set.
    """
    if which(CONTROL) is None:
        yield False
        return
    with TemporaryDirectory(prefix="mps-") as folder:
        variables = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        daemon = subprocess.Popen(
            ["sh", "-c", _SCRIPT],
            env=os.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # not killed with the part's group, so that it can say quit
        )
        assert daemon.stdin is not None and daemon.stdout is not None
        started = daemon.stdout.readline().strip() == b"started"
        if started:
            os.environ.update(variables)
            time.sleep(0.5)
        try:
            yield started
        finally:
            for name in variables:
                os.environ.pop(name, None)
            daemon.stdin.close()
            _wait_for_end(daemon)


def _wait_for_end(daemon: subprocess.Popen[bytes]) -> None:
    """Wait for its end a little; a service that hangs is not worth more."""
    try:
        daemon.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"{CONTROL} did not end within {_STOP_SECONDS:g} s", flush=True)
