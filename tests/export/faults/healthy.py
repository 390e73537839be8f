"""Healthy exports, none of which may raise an alarm: neither at export nor in a later check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mldr_deploy.data.config import DataConfig
from mldr_deploy.export.check import check_bundle
from mldr_deploy.models.config import ModelConfig

from .subjects import CNN, HALF, VIM, VIT, Recipe, train

LARGER = DataConfig(image_size=64)

HALVES = ("fp32", "fp16", "bf16")

HEALTHY = [
    CNN,
    VIT,
    HALF,
    VIM,
    Recipe("cnn-untrained", ModelConfig(name="test_resnet"), seed=19, steps=1),
    Recipe("cnn-64", ModelConfig(name="test_resnet"), LARGER, seed=3, precisions=HALVES),
    Recipe("cnn-opset-18", ModelConfig(name="test_resnet"), seed=4, opset=18),
    Recipe("cnn-opset-23", ModelConfig(name="test_resnet"), seed=5, opset=23),
    Recipe("cnn-small-stem", ModelConfig(name="test_resnet", stem="small"), seed=6),
    Recipe("vit-half", ModelConfig(name="test_vit"), seed=8, precisions=HALVES),
    Recipe("vit-64", ModelConfig(name="test_vit"), LARGER, seed=9),
    Recipe("vit-patch-8", ModelConfig(name="test_vit", patch_size=8), seed=10, steps=20),
    Recipe("vit-relative", ModelConfig(name="test_vit2"), seed=16),
    Recipe("efficientnet", ModelConfig(name="test_efficientnet"), seed=11, precisions=HALVES),
    Recipe("efficientnet-ln", ModelConfig(name="test_efficientnet_ln"), seed=20),
    Recipe("convnext", ModelConfig(name="test_convnext"), seed=12, precisions=HALVES),
    Recipe("convnext-64", ModelConfig(name="test_convnext2"), LARGER, seed=13),
    Recipe("byobnet", ModelConfig(name="test_byobnet"), seed=14),
    Recipe("nfnet", ModelConfig(name="test_nfnet"), seed=15),
    Recipe("mambaout", ModelConfig(name="test_mambaout"), seed=17),
    Recipe("edgenext", ModelConfig(name="edgenext_xx_small"), seed=18, steps=12),
]


@dataclass(frozen=True)
class Told:
    """What export and check said of a healthy student."""

    alarms: list[str]
    figures: str


def alarms(recipe: Recipe, work: Path) -> Told:
    """Train, export, check again; every word of complaint."""
    subject = train(recipe, work / "run")
    bundle = subject.exported(work / "bundle")
    result = check_bundle(bundle.path, dataset=subject.dataset)
    said = [f for a in bundle.manifest.artifacts for f in a.parity.failures]
    said += [f"{f.subject}: {f.detail}" for f in result.findings if f.holds is False]
    figures = "; ".join(
        f"{a.precision} |dlogit| {a.parity.needed.max_dlogit:.1g} of {a.parity.largest_logit:.1f}, "
        f"drop {a.parity.drop:+.2f}"
        for a in bundle.manifest.artifacts
    )
    return Told(said, figures)
