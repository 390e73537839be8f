"""MLDR-KD: its losses from the textbook DFRA of its own heads, and its ablations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import zscore

from mldr_deploy.distill.methods.base import Pair, Step
from mldr_deploy.distill.methods.mldr_kd import MldrKd, MldrKdConfig
from mldr_deploy.models.stages import StageOutput, StagePlan, StageShape

CLASSES, BATCH, TEACHER_WIDTH = 5, 6, 24
SHAPES = tuple(StageShape(8 * 2**k, 8 >> k, 8 >> k) for k in range(4))
TEACHER = StagePlan((0, 1, 2, 3), SHAPES, "map", 0, TEACHER_WIDTH, TEACHER_WIDTH)
STEP = Step(torch.eye(CLASSES)[torch.arange(BATCH) % CLASSES], torch.arange(BATCH), torch.tensor(0))


def pair(layout: str) -> Pair:
    shapes = SHAPES if layout == "map" else (StageShape(16, 4, 4),) * 4
    return Pair(CLASSES, StagePlan((0, 1, 2, 3), shapes, layout, 0, 16, 16), TEACHER)  # type: ignore[arg-type]


def outputs(of: Pair) -> tuple[StageOutput, StageOutput]:
    torch.manual_seed(3)
    stages = tuple(torch.randn(BATCH, s.channels, s.height, s.width) for s in of.student.shapes)
    student = StageOutput(2 * torch.randn(BATCH, CLASSES), stages)
    return student, StageOutput(2 * torch.randn(BATCH, CLASSES), ())


def method(layout: str = "map", **weights: Any) -> MldrKd:
    torch.manual_seed(0)
    return MldrKd(MldrKdConfig(**weights), pair(layout))


@pytest.mark.parametrize("layout", ["map", "token"])
def test_total_is_the_textbook_dfra_of_all_six_heads(
    layout: str, textbook: Callable[..., Any]
) -> None:
    made = method(layout, temperature=2.0, alpha=3.0)
    student, teacher = outputs(pair(layout))
    losses = made(student, teacher, STEP)
    heads = made.heads(student)
    assert {name: len(group) for name, (group, _) in heads.items()} == {
        "logits": 1,
        "stages": 4,
        "fused": 1,
    }
    assert heads["logits"][0][0] is student.logits
    expected = sum(
        textbook(logits, teacher.logits, 2.0).total(alpha=3.0)
        for group, _ in heads.values()
        for logits in group
    )
    assert sum(losses.values()).item() == pytest.approx(expected.item(), rel=1e-4)


def test_every_weight_multiplies_its_own_parts() -> None:
    student, teacher = outputs(pair("map"))
    plain = method()(student, teacher, STEP)
    weighted = method(logits_weight=2, stage_weight=3, fused_weight=5)(student, teacher, STEP)
    factor = {"logits": 2, "stages": 3, "fused": 5}
    assert len(plain) == 9
    for name, value in plain.items():
        expected = factor[name.partition(".")[0]] * value
        torch.testing.assert_close(weighted[name], expected)


def test_published_is_one_word_and_the_papers_values() -> None:
    """docs/design.md, section Method: T = 1, alpha = 2, plain logits, every other weight 1."""
    published = MldrKdConfig(form="published").model_dump(exclude={"form", "relations"})
    assert published.pop("standardise") == "none"
    assert published.pop("alpha") == 2
    assert set(published.values()) == {1.0}


def test_a_form_gives_way_to_the_keys_that_are_given_and_comes_back_from_its_dump() -> None:
    config = MldrKdConfig(form="standardised", logits_weight=3)
    assert (config.standardise, config.logits_weight, config.alpha) == ("sample", 3, 2)
    assert MldrKdConfig(form="standardised").logits_weight == 10
    assert MldrKdConfig.model_validate(config.model_dump()) == config
    written_out = MldrKdConfig().model_dump()
    with pytest.raises(ValueError, match="form = standardised and standardise = none contradict"):
        MldrKdConfig.model_validate(written_out | {"form": "standardised"})


def test_a_standardised_loss_is_the_textbook_dfra_of_standardised_logits(
    textbook: Callable[..., Any],
) -> None:
    made = method(form="standardised", stage_weight=1, fused_weight=1)
    student, teacher = outputs(pair("map"))

    def z(logits: Any) -> Any:
        return torch.from_numpy(zscore(logits.detach().double().numpy(), axis=1))

    expected = sum(
        weight * textbook(z(logits), z(teacher.logits)).total()
        for group, weight in made.heads(student).values()
        for logits in group
    )
    losses = made(student, teacher, STEP)
    assert sum(losses.values()).item() == pytest.approx(expected.item(), rel=1e-3)


ABLATIONS = [
    ({"class_weight": 0, "sample_weight": 0, "alpha": 0}, set(), set()),
    ({"logits_weight": 0}, {"stages", "fused"}, {"projectors", "fusion"}),
    ({"stage_weight": 0}, {"logits", "fused"}, {"projectors", "fusion"}),
    ({"fused_weight": 0}, {"logits", "stages"}, {"projectors"}),
    ({"stage_weight": 0, "fused_weight": 0}, {"logits"}, set()),
    ({"logits_weight": 0, "stage_weight": 0, "fused_weight": 0}, set(), set()),
]


@pytest.mark.parametrize(("weights", "losses", "layers"), ABLATIONS)
@pytest.mark.parametrize("layout", ["map", "token"])
def test_weight_0_leaves_out_the_part_and_the_layers_that_nothing_else_needs(
    layout: str, weights: dict[str, float], losses: set[str], layers: set[str]
) -> None:
    made = method(layout, **weights)
    computed = made(*outputs(pair(layout)), STEP)
    assert {name.partition(".")[0] for name in computed} == losses
    assert {name.partition(".")[0] for name, _ in made.named_parameters()} == layers
    if layers:  # DDP waits for the gradient of every parameter
        sum(computed.values()).backward()  # type: ignore[union-attr]
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())


def test_descriptors_are_as_wide_as_the_wider_of_the_two_models() -> None:
    assert method("map").projectors[0].classifier.in_features == SHAPES[-1].channels
    assert method("token").projectors[0].classifier.in_features == TEACHER_WIDTH
