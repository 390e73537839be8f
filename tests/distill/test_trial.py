"""A teacher from elsewhere is measured before it teaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mldr_deploy.bundle.evidence import Evidence
from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.bundle.trained import TrainedModel, save_trained
from mldr_deploy.data.dataset import Dataset
from mldr_deploy.data.split import Split
from mldr_deploy.distill.phase import Phase
from mldr_deploy.distill.task import FrozenTeacher
from mldr_deploy.distill.trial import require_worth, try_out
from mldr_deploy.errors import MldrError
from mldr_deploy.models.stages import StagePlan

SPEC = Preprocessing(size=(8, 8), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


class Brightness(nn.Module):
    """Output k is largest for pictures of class ``k``; ``order`` permutes, ``spoil`` breaks."""

    def __init__(self, classes: int, order: list[int] | None = None) -> None:
        super().__init__()
        self.classes, self.order = classes, order or list(range(classes))
        self.spoil: Callable[[Tensor], Tensor] = lambda logits: logits

    def forward(self, x: Tensor) -> Tensor:
        level = x.mean((1, 2, 3)) * 255 / 20
        logits = -(level[:, None] - torch.arange(self.classes)).abs()
        return self.spoil(logits[:, np.argsort(self.order)])


def grey(count: int, classes: int) -> Split:
    labels = np.arange(count) % classes
    pixels = np.broadcast_to((20 * labels)[:, None, None, None], (count, 8, 8, 3))
    return Split.of_pixels(pixels.astype(np.uint8), labels)


NAMES = ("1", "10", "2", "3", "4")


@pytest.fixture
def place(phase: Phase) -> Phase:
    """Five classes, 200 validation and 300 training pictures."""
    data = Dataset("grey", NAMES, grey(300, 5), grey(200, 5), grey(20, 5), fingerprint="grey")
    return replace(phase, dataset=data, progress=Notes())


def teacher(model: nn.Module) -> FrozenTeacher:
    return FrozenTeacher(model, StagePlan((), (), "map", 0, 0, 0), SPEC)


def lines(phase: Phase) -> list[str]:
    assert isinstance(phase.progress, Notes)
    return phase.progress.lines


def test_its_accuracy_is_told(place: Phase) -> None:
    require_worth(teacher(Brightness(5)), "teacher x", None, place)
    (line,) = lines(place)
    assert line.startswith("teacher x, on validation images: top-1 100.00 % of 200 images")


def test_one_in_natural_order_is_refused_with_the_key(place: Phase) -> None:
    told = (
        r"natural order \(1, 2, 3, 4, 10\): top-1 20\.00 % of 200 .* 100\.00 % in that order; set "
    )
    with pytest.raises(MldrError, match=told + r'teacher\.class_order="natural"'):
        require_worth(teacher(Brightness(5, [0, 4, 1, 2, 3])), "teacher x", None, place)


def test_any_other_order_is_refused_with_the_names(place: Phase) -> None:
    told = (
        r"60\.00 % of 200 .*, 100\.00 % in that order; set teacher\.class_order to the class names"
    )
    with pytest.raises(MldrError, match=told + r".*probably \['2', '10', '1', '3', '4'\]"):
        require_worth(teacher(Brightness(5, [2, 1, 0, 3, 4])), "teacher x", None, place)


def test_one_at_chance_is_refused_with_advice(place: Phase) -> None:
    model = Brightness(5)
    model.spoil = lambda logits: torch.zeros_like(logits)
    told = (
        r"nothing to teach, on validation images: top-1 20\.00 % of 200 images, not sig.*fresh_head"
    )
    with pytest.raises(MldrError, match=told):
        require_worth(teacher(model), "teacher x", None, place)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_no_numbers_are_refused(place: Phase, value: float) -> None:
    model = Brightness(5)
    model.spoil = lambda logits: logits.masked_fill(logits == logits[:1, :1], value)
    with pytest.raises(
        MldrError, match=r"teacher x answers with NaN or infinity to \d+ of 200 val"
    ):
        require_worth(teacher(model), "teacher x", None, place)


def test_without_a_validation_split_training_pictures_tell(place: Phase) -> None:
    for count, held in ((0, "none are"), (20, "only 20 are")):
        data = replace(place.dataset, val=grey(count, 5))
        trial = try_out(teacher(Brightness(5)), replace(place, dataset=data))
        assert trial.where == f"training images ({held} for validation)"
        assert trial.chance.hits == trial.chance.images == 300


def test_a_few_pictures_refuse_nobody(place: Phase) -> None:
    data = replace(place.dataset, train=grey(2, 5), val=grey(0, 5))
    model = Brightness(5)
    model.spoil = lambda logits: logits.flip(1)
    few = replace(place, dataset=data)
    assert not try_out(teacher(model), few).chance
    require_worth(teacher(model), "teacher x", None, few)


@pytest.mark.parametrize(("top1", "refused"), [(20.0, True), (60.0, False)])
def test_one_trained_here_is_judged_by_its_own_figures(
    place: Phase, top1: float, refused: bool, tmp_path: Path
) -> None:
    record = TrainedModel(
        model={"name": "x"},
        num_classes=5,
        image_size=8,
        classes=list(NAMES),
        preprocessing=SPEC,
        family="cnn",
        parameters=1,
        data={},
        data_fingerprint="grey",
        evidence=Evidence(images=200, top1=top1, loss=1.0, preprocessing=SPEC),
    )
    save_trained(tmp_path / "trained", record, {"w": np.ones(1, np.float32)})

    def judge() -> None:
        require_worth(teacher(Brightness(5)), "teacher x", tmp_path / "trained", place)

    if refused:
        with pytest.raises(MldrError, match=r"top-1 20\.00 % of 200 .*; train it longer"):
            judge()
    else:
        judge()
