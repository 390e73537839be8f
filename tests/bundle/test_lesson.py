"""What is said of a lesson: against the intervals of SciPy, and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from mldr_deploy.bundle.card import model_card
from mldr_deploy.bundle.chance import Chance
from mldr_deploy.bundle.evidence import Evidence
from mldr_deploy.bundle.lesson import Lesson, Rival, lesson_of
from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.bundle.reader import open_bundle
from mldr_deploy.bundle.trained import TrainedModel
from mldr_deploy.demo.about import header
from mldr_deploy.distill.training_log import first_and_last_loss

SPEC = Preprocessing(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


def trained(top1: float, images: int, **metrics: float) -> TrainedModel:
    return TrainedModel(
        model={"name": "tiny"},
        num_classes=2,
        image_size=32,
        classes=["cat", "dog"],
        preprocessing=SPEC,
        family="cnn",
        parameters=5,
        data={},
        data_fingerprint="f",
        metrics=metrics,
        evidence=Evidence(images=images, top1=top1, loss=1.0, preprocessing=SPEC),
        provenance={"teacher": {"name": "big", "metrics": {"val_top1": 80.0}}},
    )


@pytest.mark.parametrize(
    ("top1", "images", "distance", "below"),
    [
        (70.0, 1000, 5.0, True),
        (70.0, 1000, 10.0, False),  # ten points, and no more, may be
        (74.0, 1000, 5.0, True),
        (78.0, 1000, 1.0, False),  # two points of a thousand images are inside the noise
        (70.0, 20, 5.0, False),  # so are ten points of twenty
        (85.0, 1000, 0.0, False),
    ],
)
def test_below_its_teacher(top1: float, images: int, distance: float, below: bool) -> None:
    lines = lesson_of(trained(top1, images), distance, None).lines()
    interval = binomtest(round(top1 * images / 100), images).proportion_ci(method="wilson")
    assert below is bool(80 - top1 > distance and interval.high < 0.80)
    assert bool(lines) is below
    if below:
        assert f"{80 - top1:.2f} points below its teacher big (80.00 %)" in lines[0]
        assert f"more than {distance:g} points" in lines[0] and "try: train longer" in lines[0]


@pytest.mark.parametrize(("plain", "below"), [(75.0, True), (71.0, False), (60.0, False)])
def test_below_labels_alone(plain: float, below: bool) -> None:
    rival = Rival(name="the same student by labels alone", top1=plain)
    lines = lesson_of(trained(70.0, 1000), 50.0, rival).lines()
    assert bool(lines) is below
    if below:
        assert "5.00 points below the same student by labels alone (75.00 %)" in lines[0]
        assert "ship the one of labels alone" in lines[0]


@pytest.mark.parametrize(
    ("losses", "fell"),
    [
        ([2.3, 2.3, 2.299], False),
        ([2.3, 1.2, 2.9], False),  # it fell and rose again
        ([2.3, 2.0, 1.1], True),
        ([2.3], True),  # nothing to compare with
        ([], True),
    ],
)
def test_a_loss_that_never_fell(losses: list[float], fell: bool) -> None:
    log = [{"loss": value, "step": float(k)} for k, value in enumerate(losses)]
    metrics = first_and_last_loss([*log, {"val_top1": 3.0}])
    lesson = lesson_of(trained(79.0, 1000, **metrics), 5.0, None)
    assert bool(lesson) is fell
    if not fell:
        assert f"{losses[0]:.4g} at first, {losses[-1]:.4g} at the end" in lesson.lines()[0]


def test_the_loss_of_labels_decides_and_the_last_tenth_is_averaged() -> None:
    log = [{"loss": 9.0 + k, "labels": 5.0 - k / 10} for k in range(20)]
    assert first_and_last_loss(log) == {
        "first_loss": 5.0,
        "last_loss": pytest.approx((3.1 + 3.2) / 2),
    }


def test_card_and_demo_say_it_and_a_student_at_chance_is_told_once(bundle_folder: Path) -> None:
    bundle = open_bundle(bundle_folder, allow_failed=True)
    lesson = Lesson(images=1000, top1=50.0, teacher=Rival(name="its teacher big", top1=80.0))

    def card(**update: Any) -> str:
        return model_card(bundle.manifest.model_copy(update=update))

    assert "**The student's top-1 on 1000 validation images, 50.00 %, is 30.00" in card(
        lesson=lesson
    )
    assert "below its teacher" not in card()
    at_chance = Chance(images=1000, hits=500, largest=500)
    assert "below its teacher" not in card(lesson=lesson, chance=at_chance)
    manifest = bundle.manifest.model_copy(update={"lesson": lesson})
    object.__setattr__(bundle, "manifest", manifest)
    assert "lesson in doubt" in header(bundle, None)
