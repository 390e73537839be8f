"""The training loop over toys: averages, accumulation, broken losses, and what it keeps where."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mldr_deploy.bundle.progress import Silent
from mldr_deploy.data.data_config import AugmentConfig
from mldr_deploy.distill.checkpoint import TrainingState
from mldr_deploy.distill.methods.base import Keys, Method, Pair, Step
from mldr_deploy.distill.methods.method_registry import MethodConfig
from mldr_deploy.distill.trainer import Trainer
from mldr_deploy.distill.training_config import OptimizerConfig, ScheduleConfig, TrainConfig
from mldr_deploy.distill.training_log import read_metrics
from mldr_deploy.errors import MldrError
from mldr_deploy.models.stages import StageOutput, StagePlan

ONE_EPOCH = TrainConfig(epochs=1, precision="fp32", teacher_precision="fp32", log_steps=1)
TIMINGS = ("images_per_second",)


class Killed(BaseException):
    """Ends the loop between two steps as kill -9 would: nothing is written any more."""


class Kill(Silent):
    """Kills after the ``step``-th step from here."""

    def __init__(self, step: int) -> None:
        self.left = step

    def advance(self, n: int = 1, **info: float | str) -> None:
        self.left -= n
        if n and not self.left:
            raise Killed


class Watch(Silent):
    """Copies the student's weights after every step."""

    trainer: Trainer

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []

    def advance(self, n: int = 1, **info: float | str) -> None:
        if n:
            self.weights.append(copy.deepcopy(dict(self.trainer.task.student.state_dict())))


def untimed(folder: Path) -> list[dict[str, float]]:
    lines = read_metrics(folder)
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]


RANDOM = AugmentConfig(
    crop="pad", pad=4, flip=0.5, mixup=0.8, cutmix=1.0, erase=0.25, randaugment=5
)
BUSY = TrainConfig(
    epochs=2,
    precision="fp32",
    teacher_precision="fp32",
    log_steps=1,
    checkpoint_steps=3,
    clip_norm=1.0,
    ema=0.9,
)


@pytest.mark.parametrize(
    ("optimizer", "killed_at"),
    [
        ("sgd", 7),
        *(pytest.param("sgd", step, marks=pytest.mark.slow) for step in (1, 3, 10)),
        pytest.param("adamw", 4, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_continues_to_the_same_bits(
    rig: Any, optimizer: str, killed_at: int, tmp_path: Path
) -> None:
    """Batch norm, stochastic depth, every augmentation, EMA; checkpoints at 3, 5, 6, 9, 10."""
    busy = replace(
        rig,
        student="test_resnet",
        drop_path=0.2,
        teacher="test_vit",
        method=MethodConfig(name="mldr-kd"),
        train=BUSY,
        optimizer=OptimizerConfig(name=optimizer, lr=0.01),  # type: ignore[arg-type]
        schedule=ScheduleConfig(warmup_epochs=0.5),
        augment=RANDOM,
    )
    expected, state = replace(busy, folder=tmp_path / "whole").build().run()
    with pytest.raises(Killed):
        busy.build(Kill(killed_at)).run()
    mine, resumed = busy.build().run()
    torch.testing.assert_close(mine, expected, rtol=0, atol=0)
    assert (resumed.step, resumed.best_top1) == (state.step, state.best_top1)
    assert untimed(busy.folder) == untimed(tmp_path / "whole")
    steps = [line["step"] for line in read_metrics(busy.folder) if "loss" in line]
    assert steps == list(range(1, 11))


@pytest.mark.slow
@pytest.mark.parametrize("file", ["student", "optimizer", "best"])
def test_a_run_whose_newest_checkpoint_is_damaged_ends_with_the_same_bits(
    rig: Any, file: str, tmp_path: Path
) -> None:
    busy = replace(rig, train=BUSY, augment=RANDOM)
    expected, _ = replace(busy, folder=tmp_path / "whole").build().run()
    with pytest.raises(Killed):
        busy.build(Kill(7)).run()
    checkpoints = busy.folder / "checkpoints"
    assert sorted(p.name for p in checkpoints.iterdir()) == ["step-00000005", "step-00000006"]
    path = checkpoints / "step-00000006" / f"{file}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    torch.testing.assert_close(busy.build().run()[0], expected, rtol=0, atol=0)
    assert untimed(busy.folder) == untimed(tmp_path / "whole")


@pytest.mark.parametrize(
    "method",
    [
        *("fitnet", "crd", "dkd", "dist", "ofa", "rsd-logits"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("cc", "rkd", "rsd")),
    ],
)
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ("test_efficientnet", "test_vit"),
        pytest.param("test_vit", "test_resnet", marks=pytest.mark.slow),
    ],
)
def test_every_peer_trains_across_families_and_resumes_to_the_same_bits(
    rig: Any, method: str, student: str, teacher: str, tmp_path: Path
) -> None:
    """What a method remembers (CRD's memories) and where the run is (DKD's warm-up) come back."""
    keys = MethodConfig(name=method, crd={"negatives": 50, "dimension": 8})
    once = replace(rig, student=student, teacher=teacher, method=keys, train=BUSY, augment=RANDOM)
    expected, _ = replace(once, folder=tmp_path / "whole").build().run()
    with pytest.raises(Killed):
        once.build(Kill(7)).run()
    resumed = once.build()
    torch.testing.assert_close(resumed.run()[0], expected, rtol=0, atol=0)
    assert untimed(once.folder) == untimed(tmp_path / "whole")


def test_every_step_of_every_process_draws_its_own_augmentation_and_dropout(rig: Any) -> None:
    trainer = rig.build()
    seeds: list[int] = []
    for step, rank in product(range(20), range(4)):
        trainer.state = TrainingState(identity="a run", step=step)
        trainer.accelerator = SimpleNamespace(process_index=rank)
        trainer._seed_step()
        trainer.views._rank = rank
        seeds += [trainer.views._generator(step).initial_seed(), torch.initial_seed()]
    assert len(set(seeds)) == 2 * 20 * 4


def test_the_moving_average_is_what_is_kept(rig: Any) -> None:
    watch = Watch()
    train = ONE_EPOCH.model_copy(update={"ema": 0.8})
    watch.trainer = replace(rig, train=train).build(watch)
    kept, _ = watch.trainer.run()
    first, *later = watch.weights
    for name, average in first.items():
        for weights in later:
            average = 0.8 * average + 0.2 * weights[name]
        torch.testing.assert_close(kept[name], average, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["scratch", "kd"])
def test_accumulated_parts_make_the_step_of_the_whole_batch(
    rig: Any, method: str, tmp_path: Path
) -> None:
    """Without batch statistics; three parts of 3, 3 and 2 images."""
    whole = replace(rig, teacher="test_resnet", method=MethodConfig(name=method), train=ONE_EPOCH)  # type: ignore[arg-type]
    parts = replace(
        whole, train=ONE_EPOCH.model_copy(update={"accumulate": 3}), folder=tmp_path / "parts"
    )
    expected, _ = whole.build().run()
    torch.testing.assert_close(parts.build().run()[0], expected, rtol=1e-4, atol=1e-6)
    for mine, reference in zip(untimed(parts.folder), untimed(whole.folder), strict=True):
        assert mine == pytest.approx(reference, rel=1e-4)


def test_the_teacher_is_in_no_checkpoint_and_learns_nothing(rig: Any) -> None:
    taught = replace(rig, teacher="test_resnet", method=MethodConfig(), train=BUSY)
    trainer = taught.build(Kill(8))
    assert trainer.teacher is not None
    before = copy.deepcopy(trainer.teacher.model.state_dict())
    with pytest.raises(Killed):
        trainer.run()
    torch.testing.assert_close(trainer.teacher.model.state_dict(), before, rtol=0, atol=0)
    files = {path.stem: load_file(path) for path in taught.folder.rglob("*.safetensors")}
    student, method = trainer.task.student.state_dict(), trainer.task.method.state_dict()
    assert set(files) == {"student", "method", "optimizer", "best", "ema"}
    assert set(files["student"]) == set(files["best"]) == set(student)
    assert set(files["method"]) == set(method)
    assert set(files["ema"]) == {"n_averaged"} | {f"module.{name}" for name in student}
    trained = len(list(trainer.task.parameters()))
    assert {int(name.partition(".")[0]) for name in files["optimizer"]} == set(range(trained))


def test_a_part_of_an_epoch_is_as_many_steps_and_a_whole_schedule(rig: Any, tmp_path: Path) -> None:
    """1.6 epochs of 5 steps: evaluated after 5 and 8; the rate falls to its end within the 8."""
    train = ONE_EPOCH.model_copy(update={"epochs": 1.6, "checkpoint_steps": 1})
    part = replace(rig, train=train, schedule=ScheduleConfig(min_lr=0.0))
    whole = replace(part, folder=tmp_path / "whole").build()
    expected, state = whole.run()
    assert state.step == 8 and state.best_epoch in (1, 2)
    evaluated = [line for line in read_metrics(tmp_path / "whole") if "val_top1" in line]
    assert [line["step"] for line in evaluated] == [5, 8]
    assert whole._rate(7) == pytest.approx(0.0, abs=1e-12) and whole._rate(6) > 0
    with pytest.raises(Killed):
        part.build(Kill(6)).run()
    for _ in range(2):  # resumed, and resumed when it has ended
        mine, resumed = part.build().run()
        torch.testing.assert_close(mine, expected, rtol=0, atol=0)
        assert resumed.step == 8


@pytest.mark.parametrize("epochs", [0, -1, 0.0, float("nan"), float("inf"), "many"])
def test_epochs_that_are_none(epochs: Any) -> None:
    with pytest.raises(ValueError, match="epochs"):
        TrainConfig(epochs=epochs)


def test_what_is_kept_is_the_student_alone(rig: Any) -> None:
    taught = replace(rig, teacher="test_resnet", method=MethodConfig(), train=ONE_EPOCH)
    trainer = taught.build()
    kept, _ = trainer.run()
    assert set(kept) == set(trainer.task.student.state_dict())


def test_the_best_epoch_on_validation_is_kept(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores 50, 75, 75: the second epoch's weights, not the third's."""
    watch = Watch()
    train = ONE_EPOCH.model_copy(update={"epochs": 3})
    watch.trainer = replace(rig, train=train).build(watch)
    scores = iter((50, 75, 75))
    evaluate = watch.trainer._evaluate
    monkeypatch.setattr(
        watch.trainer,
        "_evaluate",
        lambda model: replace(evaluate(model), images=100, top1_hits=next(scores)),
    )
    kept, state = watch.trainer.run()
    assert (state.best_epoch, state.best_top1) == (2, 75)
    torch.testing.assert_close(kept, watch.weights[9], rtol=0, atol=0)


class Breaks(Method):
    """Scratch, but for one step: there its loss, or only the loss's gradient, is NaN."""

    def __init__(self, step: int, *, gradient: bool) -> None:
        super().__init__(Keys(), Pair(4, StagePlan((), (), "map", 0, 1, 1), None))
        self.left, self.gradient = step, gradient

    def forward(
        self, student: StageOutput, teacher: StageOutput | None, step: Step
    ) -> dict[str, Tensor]:
        self.left -= 1
        nothing = 0 * student.logits.sum()
        if self.left:
            return {"odd": nothing}
        return {"odd": nothing.abs().sqrt() if self.gradient else nothing / 0}


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (False, r"loss is not finite at step 5 \(labels 1\.\d+, odd nan\); the last good"),
        (True, r"student\.\S+ is not finite after step 5; the last good checkpoint is kept"),
    ],
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(
    rig: Any, gradient: bool, message: str, accumulate: int
) -> None:
    train = BUSY.model_copy(
        update={"accumulate": accumulate, "log_steps": 5, "clip_norm": 0.0, "ema": 0.0}
    )
    breaks = Breaks(4 * accumulate + 1, gradient=gradient)
    with pytest.raises(MldrError, match=message):
        replace(rig, method=breaks, train=train).build().run()
    (kept,) = (rig.folder / "checkpoints").iterdir()
    assert kept.name == "step-00000003"
    assert all(
        tensor.isfinite().all() for tensor in load_file(kept / "student.safetensors").values()
    )


class Shown(Silent):
    """The losses shown after each step."""

    def __init__(self) -> None:
        self.step, self.losses = 0, dict[int, float | str]()

    def advance(self, n: int = 1, **info: float | str) -> None:
        self.step += n
        if "labels" in info:
            self.losses[self.step] = info["labels"]


def test_losses_are_shown_from_the_first_step_on(rig: Any, tmp_path: Path) -> None:
    """As a run logs them that logs every step."""
    shown, train = Shown(), ONE_EPOCH.model_copy(update={"log_steps": 50})
    replace(rig, train=train).build(shown).run()
    every = replace(rig, train=ONE_EPOCH, folder=tmp_path / "every")
    every.build().run()
    logged = {line["step"]: line["labels"] for line in untimed(every.folder) if "labels" in line}
    assert [*shown.losses] == [1, 2, 4, 5]
    assert all(shown.losses[k] == pytest.approx(logged[k], abs=6e-4) for k in (1, 2, 4))
