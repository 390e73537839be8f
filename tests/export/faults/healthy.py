"""Healthy exports, none of which may raise an alarm: neither at export nor in a later check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.export.recheck import check_bundle
from mldr_deploy.models.architecture_config import ModelConfig

from .subjects import CNN, HALF, INT8, VIM, VIT, Recipe, train

LARGER = DataConfig(image_size=64)

HALVES = ("fp32", "fp16", "bf16")


def _recipe(name: str, model: str, seed: int, **others: Any) -> Recipe:
    return Recipe(name, ModelConfig(name=model), seed=seed, **{"steps": 12, **others})


HEALTHY = [
    CNN,
    VIT,
    HALF,
    INT8,
    _recipe("cnn-untrained", "test_resnet", 19, steps=1),
    _recipe("cnn-64", "test_resnet", 3, data=LARGER),
    _recipe("cnn-half", "test_resnet", 5, precisions=HALVES),
    _recipe("cnn-opset-18", "test_resnet", 4, opset=18),
    _recipe("vit-half", "test_vit", 8, precisions=HALVES),
    _recipe("vit-int8", "test_vit", 9, precisions=("fp32", "int8"), methods=("percentile",)),
    _recipe("vit-64", "test_vit", 10, data=LARGER),
    _recipe("vit-relative", "test_vit2", 16),
    _recipe("efficientnet", "test_efficientnet", 11),
    _recipe("efficientnet-int8", "test_efficientnet", 12, precisions=("fp32", "int8")),
    _recipe("efficientnet-ln", "test_efficientnet_ln", 20),
    _recipe("convnext", "test_convnext", 13),
    _recipe("byobnet", "test_byobnet", 14),
    _recipe("nfnet", "test_nfnet", 15),
    _recipe("mambaout", "test_mambaout", 17),
    VIM,
]


@dataclass(frozen=True)
class Told:
    """What export and check said of a healthy student."""

    alarms: list[str]
    figures: str


def alarms(recipe: Recipe, work: Path) -> Told:
    """Train, export, check again; every word of complaint, but that so short a training taught
    nothing: that is no fault of the export.
    """
    subject = train(recipe, work / "run")
    bundle = subject.exported(work / "bundle")
    result = check_bundle(bundle.path, dataset=subject.dataset)
    said = [f for a in bundle.manifest.artifacts for f in a.parity.failures]
    refuted = [f for f in result.findings if f.holds is False and f.subject != "student"]
    said += [f"{f.subject}: {f.detail}" for f in refuted]
    figures = "; ".join(
        f"{a.precision} |dlogit| {a.parity.needed.max_dlogit:.1g} of {a.parity.largest_logit:.1f}, "
        f"drop {a.parity.drop:+.2f}"
        for a in bundle.manifest.artifacts
    )
    return Told(said, figures)
