"""Fine-tuning: the head first, slower rates below it, statistics that stay, and an early end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mldr_deploy.bundle.trained import load_trained
from mldr_deploy.data.data_config import AugmentConfig
from mldr_deploy.distill import finish, training_run
from mldr_deploy.distill.evaluate import Evaluation
from mldr_deploy.distill.finetuning import below_head
from mldr_deploy.distill.methods.method_registry import MethodConfig
from mldr_deploy.distill.phase import Phase, Training
from mldr_deploy.distill.teacher_loading import load_teacher
from mldr_deploy.distill.training_config import OptimizerConfig, ScheduleConfig, TrainConfig
from mldr_deploy.errors import MldrError
from mldr_deploy.models.architecture_config import ModelConfig

ONE = TrainConfig(epochs=1, precision="fp32", teacher_precision="fp32", clip_norm=0)
CONSTANT = ScheduleConfig(name="constant")
RESNET = ModelConfig(name="test_resnet")


def after_a_step(
    rig: Any, part: float, folder: Path
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The task's parameters before and after one plain step of gradient descent."""
    optimizer = OptimizerConfig(lr=0.1, momentum=0, weight_decay=0, below_head=part)
    taught = replace(rig, teacher="test_resnet", method=MethodConfig(name="mldr-kd"))
    trainer = replace(
        taught, train=ONE, optimizer=optimizer, schedule=CONSTANT, folder=folder
    ).build()
    before = {name: p.detach().clone() for name, p in trainer.task.named_parameters()}
    trainer.task.train()
    trainer._step(next(trainer.views.epoch(0)))
    return before, {name: p.detach() for name, p in trainer.task.named_parameters()}


def test_below_the_classifier_a_step_is_shorter_and_nowhere_else(rig: Any, tmp_path: Path) -> None:
    start, full = after_a_step(rig, 1.0, tmp_path / "full")
    _, slow = after_a_step(rig, 0.25, tmp_path / "slow")
    of_head = {"student.head.weight", "student.head.bias"}
    assert of_head < set(start)
    for name, before in start.items():
        below = name.startswith("student.") and name not in of_head
        expected = (full[name] - before) * (0.25 if below else 1.0)
        torch.testing.assert_close(slow[name] - before, expected, rtol=1e-2, atol=2e-7, msg=name)
    assert any(not torch.equal(full[name], before) for name, before in start.items())


def test_a_model_that_does_not_tell_its_classifier_is_refused() -> None:
    with pytest.raises(MldrError, match="below_head: Linear does not tell which layer"):
        below_head(nn.Linear(2, 2))


@pytest.mark.parametrize("keep", [False, True])
def test_statistics_stay_where_they_are_to_be_kept(rig: Any, keep: bool) -> None:
    train = ONE.model_copy(update={"keep_statistics": keep})
    trainer = replace(rig, student="test_resnet", train=train).build()
    before = {name: value.clone() for name, value in trainer.task.student.state_dict().items()}
    after, _ = trainer.run()
    statistics = {name for name in before if "running_" in name}
    moved = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert statistics and moved & statistics == (set() if keep else statistics)
    assert {"fc.weight", "conv1.weight"} & moved or len(moved) > len(statistics)


def scores(trainer: Any, tops: list[int]) -> None:
    """Have the epochs score ``tops`` of 100 images."""
    each = iter(tops)
    trainer._evaluate = lambda model: Evaluation(100, next(each), 100, 50.0)


@pytest.mark.parametrize(
    ("patience", "tops", "ends"),
    [
        (2, [10, 30, 20, 30, 90, 90], 4),  # as good is not better
        (2, [10, 20, 15, 30, 25, 26], 6),
        (1, [10, 20, 15, 90, 90, 90], 3),
        (0, [50, 10, 10, 10, 10, 10], 6),
    ],
)
def test_training_ends_once_patience_does(
    rig: Any, patience: int, tops: list[int], ends: int
) -> None:
    train = ONE.model_copy(update={"epochs": 6, "patience": patience})
    trainer = replace(rig, train=train).build()
    scores(trainer, tops)
    _, state = trainer.run()
    assert state.step == ends * trainer.views.steps_per_epoch
    assert state.best_top1 == max(tops[:ends])


def test_of_equally_accurate_epochs_the_one_with_the_lower_loss_is_kept(rig: Any) -> None:
    train = ONE.model_copy(update={"epochs": 4, "patience": 2})
    trainer = replace(rig, train=train).build()
    losses = iter([0.9, 0.7, 0.8, 0.7])
    trainer._evaluate = lambda model: Evaluation(100, 50, 100, 100 * next(losses))
    _, state = trainer.run()
    assert (state.best_epoch, state.best_loss) == (2, 0.7)
    assert state.step == 4 * trainer.views.steps_per_epoch  # two more brought nothing better


def test_a_resumed_run_has_not_become_more_patient(rig: Any) -> None:
    train = ONE.model_copy(update={"epochs": 6, "patience": 2})
    first = replace(rig, train=train).build()
    scores(first, [50, 10])  # the third evaluation fails, as when killed there
    with pytest.raises(StopIteration):
        first.run()
    again = replace(rig, train=train).build()
    scores(again, [10, 99, 99])
    _, state = again.run()
    assert (state.step, state.best_top1) == (3 * again.views.steps_per_epoch, 50)


def test_patience_ends_at_an_evaluation_alone(rig: Any) -> None:
    """Epochs that nobody looked at do not count as no better."""
    train = ONE.model_copy(update={"epochs": 8, "patience": 3, "evaluate_every": 4})
    trainer = replace(rig, train=train).build()
    scores(trainer, [50, 90])
    _, state = trainer.run()
    assert (state.best_epoch, state.best_top1) == (8, 90)


def test_the_taught_head_alone_may_be_the_best(rig: Any) -> None:
    """Fine-tuning from weights may do nothing but harm."""
    train = ONE.model_copy(update={"epochs": 6, "patience": 2, "parts": "head-first"})
    trainer = replace(rig, train=train).build()
    before = {name: value.clone() for name, value in trainer.task.student.state_dict().items()}
    scores(trainer, [60, 50, 55])
    best, state = trainer.run()
    assert (state.best_epoch, state.best_top1) == (0, 60)
    assert state.step == 2 * trainer.views.steps_per_epoch
    assert all(torch.equal(best[name], value) for name, value in before.items())


def test_a_part_of_an_epoch_that_rounds_away_is_evaluated_too(rig: Any) -> None:
    """2.004 epochs are as many steps as two, of three passes."""
    train = ONE.model_copy(update={"epochs": 2.004, "evaluate_every": 3})
    trainer = replace(rig, train=train).build()
    scores(trainer, [70])
    _, state = trainer.run()
    assert (state.best_epoch, state.best_top1) == (2, 70)


@pytest.fixture(scope="module")
def pretrained(phase_in: Callable[[Path], Phase], tmp_path_factory: Any) -> ModelConfig:
    plain = Training(train=TrainConfig(epochs=1, precision="fp32"))
    folder = training_run.train_teacher(
        phase_in(tmp_path_factory.mktemp("pretrained")), RESNET, plain
    )
    return RESNET.model_copy(update={"weights": str(folder)})


def test_head_first_begins_where_a_head_alone_ends(
    phase_in: Callable[[Path], Phase], pretrained: ModelConfig, tmp_path: Path
) -> None:
    """At a rate that moves nothing the student is the frozen model with its taught head."""

    def trained(parts: str, method: str) -> dict[str, Any]:
        training = Training(
            train=TrainConfig(parts=parts, head_views=2, epochs=1, precision="fp32"),  # type: ignore[arg-type]
            optimizer=OptimizerConfig(lr=1e-30, weight_decay=0),
            schedule=ScheduleConfig(min_lr=0),
            augment=AugmentConfig(crop="none", flip=0),
        )
        keep = training.train.model_copy(update={"keep_statistics": True})
        phase = phase_in(tmp_path / parts)
        teacher = None if method == "scratch" else load_teacher(pretrained, phase)
        training = training.model_copy(update={"train": keep})
        folder = training_run.distill(
            phase, pretrained, teacher, MethodConfig(name=method), training
        )
        return load_trained(folder)[1]

    alone, first = trained("head", "scratch"), trained("head-first", "kd")
    before = load_trained(Path(str(pretrained.weights)))[1]
    assert not np.array_equal(alone["fc.weight"], before["fc.weight"])
    for name, value in alone.items():
        np.testing.assert_allclose(first[name], value, rtol=1e-6, err_msg=name)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_features_of_other_views_are_not_gone_on_with(
    phase: Phase, pretrained: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "save_trained", _killed)
    for view_seed in (1, 2):
        train = TrainConfig(parts="head", head_views=1, view_seed=view_seed)
        with pytest.raises(KeyboardInterrupt):
            training_run.train_teacher(phase, pretrained, Training(train=train))
    assert len([*(phase.folder / "features").iterdir()]) == 2


def test_a_resumed_run_does_not_teach_the_head_again(
    phase: Phase, pretrained: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = []
    monkeypatch.setattr(training_run, "teach_head", lambda *_: taught.append(1))
    monkeypatch.setattr(finish, "save_trained", _killed)
    training = Training(train=TrainConfig(parts="head-first", epochs=1, precision="fp32"))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            training_run.distill(phase, pretrained, None, MethodConfig(name="scratch"), training)
    assert taught == [1]
