"""How large everything is: on the GPU, and in a rehearsal, where a CPU does it in seconds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Scale:
    """Sizes of a run."""

    device: str  # cuda or cpu
    products: int  # rows and columns of a product that shows what the machine can do
    dfra: tuple[tuple[int, int], ...]  # batch, classes
    recipe: str  # of the training step
    settings: tuple[str, ...]
    turns: int
    processes: tuple[int, ...]  # side by side, the most telling first
    seconds: float  # that each number of processes trains
    comparison: Path  # laid out as `mldr-deploy compare` takes it
    rehearsal: bool = False

    @property
    def cores(self) -> int:
        """Processors that this process may use."""
        return len(os.sched_getaffinity(0))

    def threads(self, processes: int = 1) -> int:
        """Threads of each of ``processes``; a rehearsal, on a busy machine, takes one."""
        return 1 if self.rehearsal else max(1, self.cores // processes)


FULL = Scale(
    device="cuda",
    products=8192,
    dfra=((128, 100), (128, 200), (256, 1000), (1024, 1000), (64, 21841)),
    recipe="cifar100-vit-s-resnet18",
    settings=("train.precision=bf16", "train.teacher_precision=bf16"),
    turns=3,
    processes=(8, 4, 1, 2),
    seconds=1.0,
    comparison=HERE / "h100.toml",
)
REHEARSAL = Scale(
    device="cpu",
    products=256,
    dfra=((8, 10), (16, 20)),
    recipe="digits",
    settings=("data.batch_size=16", "train.precision=fp32", "train.teacher_precision=fp32"),
    turns=1,
    processes=(2, 1),
    seconds=0.3,
    comparison=HERE / "rehearsal.toml",
    rehearsal=True,
)
