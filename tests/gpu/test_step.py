"""A training step on an NVIDIA GPU: what CPU tests show on doubles. Skipped where there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mldr_deploy.pipeline.recipe import load_recipe

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
SETTINGS = ["data.batch_size=64", "train.precision=bf16", "train.clip_norm=5", "train.ema=0.9"]


@pytest.fixture
def trainer_of(tmp_path: Path) -> Iterator[Any]:
    """``trainer_of(*settings)``: the trainer of benchmarks/step.py, ours, on the GPU."""
    folder = str(Path(__file__).resolve().parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    import step as bench

    def make(*settings: str) -> Any:
        recipe = load_recipe("cifar100-cpu", [*SETTINGS, *settings])
        phase = bench.phase_of(recipe, bench.pictures(256), "cuda", tmp_path)
        return bench.ready(phase, recipe, "mldr-kd", views=0)

    yield make
    sys.path.remove(folder)


def losses(trainer: Any, steps: int) -> torch.Tensor:
    """The named losses of the first steps, [steps, parts]."""
    views = trainer.views.epoch(0)
    for _ in range(steps):
        trainer._step(next(views))
    return torch.stack(trainer.meter._rows).cpu()


def test_no_step_waits_for_the_gpu(trainer_of: Any) -> None:
    """CUDA itself raises at the first thing that does; the first two steps may set up."""
    everything = ["augment.randaugment=9", "augment.erase=0.5", "augment.mixup=0.8"]
    trainer = trainer_of(*everything, "augment.crop=random-resized")
    views = trainer.views.epoch(0)
    for _ in range(2):
        trainer._step(next(views))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            trainer._step(next(views))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_compiled_step_equals_the_eager_one(trainer_of: Any) -> None:
    """CUDA graphs included; bf16 kernels differ by rounding, which four steps let grow a little."""
    eager = losses(trainer_of(), 4)
    compiled = losses(trainer_of("train.compile=true"), 4)
    torch.testing.assert_close(compiled, eager, rtol=3e-2, atol=3e-2)
