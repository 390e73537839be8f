"""How a run computes, chosen once and kept with it: precisions, the teacher's runtime, threads.

FOLDER/execution.json

Another machine, or this one under another load, would choose otherwise and end with other bits.
So a choice is written before it is used, and a resumed run computes as the record says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..bundle.sealed import unsealed, write_sealed
from ..errors import MldrError
from .precision import uses_bf16
from .training_config import TrainConfig

_FILE = "execution.json"
ComputedIn = Literal["bf16", "fp32"]
TeacherRuntime = Literal["PyTorch", "ONNX Runtime"]


class Execution(BaseModel):
    """What `auto` stands for in one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: ComputedIn
    teacher_precision: ComputedIn
    teacher_runtime: TeacherRuntime | None = Field(default=None, description="None: not chosen.")
    threads: dict[int, int] = Field(
        default={}, description="Threads by the first step that takes so many; {}: not chosen."
    )

    def of_step(self, step: int) -> int | None:
        """The threads of ``step``; None where they are not chosen."""
        begun = [first for first in self.threads if first <= step]
        return self.threads[max(begun)] if begun else None

    def applied(self, train: TrainConfig) -> TrainConfig:
        """``train`` with these precisions in the place of `auto`."""
        precisions = {"precision": self.precision, "teacher_precision": self.teacher_precision}
        return train.model_copy(update=precisions)


class ExecutionRecord:
    """The choices of the run in ``folder``; ``writes`` where this process keeps them."""

    def __init__(self, folder: Path, chosen: Execution, *, writes: bool = True) -> None:
        self._path, self.chosen, self._writes = folder / _FILE, chosen, writes
        self._shared: Path | None = None

    @classmethod
    def open(
        cls, folder: Path, train: TrainConfig, device: torch.device, *, writes: bool = True
    ) -> ExecutionRecord:
        """What was chosen in ``folder`` before, else what ``train`` means on ``device``.

        What ``train`` says by name is not chosen. Raises MldrError for a damaged record.
        """
        before = _read(folder / _FILE)
        precision: ComputedIn = "bf16" if uses_bf16(train.precision, device) else "fp32"
        teacher: ComputedIn = "bf16" if uses_bf16(train.teacher_precision, device) else "fp32"
        if before is None:
            chosen = Execution(precision=precision, teacher_precision=teacher)
            if any((folder / "checkpoints").glob("step-*")):  # older than such a record
                chosen = chosen.model_copy(update={"teacher_runtime": "PyTorch"})
        else:
            by_name = {"precision": precision} if train.precision != "auto" else {}
            if train.teacher_precision != "auto":
                by_name["teacher_precision"] = teacher
            chosen = before.model_copy(update=by_name)
        record = cls(folder, chosen, writes=writes)
        record.choose()
        return record

    def share(self, logits: Path, train: TrainConfig) -> None:
        """Compute the teacher as every run does that keeps its logits in ``logits``.

        The first run's choice is kept there and taken by the others, which would else choose by
        their own clocks and ask for logits of another precision. Raises MldrError for a damaged
        record.
        """
        self._shared = logits / _FILE
        chosen = _read(self._shared)
        if chosen is None or self.chosen.teacher_runtime is not None:
            return
        shared = {"teacher_runtime", *(["teacher_precision"] * (train.teacher_precision == "auto"))}
        self.choose(**chosen.model_dump(include=shared))

    def choose(self, **choices: object) -> None:
        """Take these values of `Execution` from now on; they are on the disk afterwards.

        Raises MldrError where they cannot be written.
        """
        self.chosen = Execution(**{**self.chosen.model_dump(), **choices})
        if not self._writes:
            return
        _write(self._path, self.chosen)
        if self._shared is not None and "teacher_runtime" in choices:
            _write(self._shared, self.chosen.model_copy(update={"threads": {}}))


def _write(path: Path, chosen: Execution) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(path, chosen.model_dump())
    except OSError as error:
        raise MldrError(f"{path} cannot be written ({error.strerror})") from error


def _read(path: Path) -> Execution | None:
    if not path.is_file():
        return None
    try:
        return Execution(**unsealed(path.read_bytes())[0])
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise MldrError(
            f"{path} is damaged ({type(error).__name__}): delete it to choose precision and "
            "threads anew, which may end with other bits, or give --restart"
        ) from error
