"""What holds for every method: fits, gradients, weights of 0, and one table a name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mldr_deploy.distill.methods import method_registry
from mldr_deploy.distill.methods.method_registry import (
    METHODS,
    MethodConfig,
    create_method,
    table_of,
)
from mldr_deploy.errors import MldrError

TEACHERLESS = {"scratch"}
SMALL = {"crd": {"negatives": 7, "dimension": 4}}
# The keys that switch a method's parts off.
WEIGHTS = {
    "mldr-kd": (
        "logits_weight",
        "stage_weight",
        "fused_weight",
        "class_weight",
        "sample_weight",
        "alpha",
    ),
    "kd": ("kd_weight",),
    "fitnet": ("hint_weight",),
    "cc": ("correlation_weight",),
    "rkd": ("distance_weight", "angle_weight"),
    "crd": ("contrast_weight",),
    "dkd": ("alpha", "beta"),
    "dist": ("beta", "gamma"),
    "ofa": ("logits_weight", "stage_weight"),
    "rsd": ("rsd_weight",),
    "rsd-logits": ("rsd_weight",),
    "scratch": (),
}


def config(name: str, **keys: Any) -> MethodConfig:
    return MethodConfig(name=name, **{table_of(name): SMALL.get(name, {}) | keys})


@pytest.mark.parametrize("student", ["map", "token"])
@pytest.mark.parametrize("teacher", ["map", "token"])
@pytest.mark.parametrize("name", METHODS)
def test_serves_every_pair_and_teaches_the_student(
    name: str, student: str, teacher: str, scene: Callable[..., Any]
) -> None:
    made = scene(student=student, teacher=teacher)
    method = create_method(config(name), made.pair)
    assert method.needs_teacher == (name not in TEACHERLESS)
    losses = method(made.student, made.teacher, made.step)
    assert all(value.shape == () and value.isfinite() for value in losses.values())
    if name in TEACHERLESS:
        assert not losses
        return
    sum(losses.values()).backward()
    seen = (made.student.logits, made.student.features, *made.student.stages)
    assert any(tensor.grad is not None and tensor.grad.any() for tensor in seen)
    assert all(p.grad is not None for p in method.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_asks_for_no_more_than_it_declares(name: str, scene: Callable[..., Any]) -> None:
    made = scene()
    method = create_method(config(name), made.pair)
    student, teacher = made.student, made.teacher
    if not method.needs_features:
        student, teacher = replace(student, features=None), replace(teacher, features=None)
    if not method.needs_teacher_stages:
        teacher = replace(teacher, stages=())
    method(student, teacher if method.needs_teacher else None, made.step)


@pytest.mark.parametrize(("name", "key"), [(n, key) for n in METHODS for key in WEIGHTS[n]])
def test_a_weight_of_0_switches_its_part_off(
    name: str, key: str, scene: Callable[..., Any]
) -> None:
    made = scene()
    whole = create_method(config(name), made.pair)(made.student, made.teacher, made.step)
    without = create_method(config(name, **{key: 0}), made.pair)
    left = without(made.student, made.teacher, made.step)
    assert set(left) < set(whole)
    nothing = create_method(config(name, **dict.fromkeys(WEIGHTS[name], 0)), made.pair)
    assert not list(nothing.parameters())


# Hao840/OFAKD's train.py, whose comparison across architectures the defaults repeat.
OFA_KD = {
    "kd": {"temperature": 1, "standardise": "none", "label_weight": 1, "kd_weight": 1},
    "fitnet": {"stages": (1, 2, 3, 4), "hint_weight": 1, "label_weight": 1},
    "rkd": {"distance_weight": 25, "angle_weight": 50, "label_weight": 1},
    "crd": {
        "dimension": 128,
        "negatives": 16384,
        "momentum": 0.5,
        "temperature": 0.07,
        "contrast_weight": 1,
        "label_weight": 1,
    },
    "dkd": {
        "alpha": 1,
        "beta": 2,
        "temperature": 1,
        "standardise": "none",
        "warmup": 0,
        "label_weight": 1,
    },
    "dist": {"beta": 1, "gamma": 1, "temperature": 1, "standardise": "none", "label_weight": 1},
    "ofa": {
        "gamma": 1,
        "temperature": 1,
        "label_weight": 1,
        "logits_weight": 1,
        "stage_weight": 1,
    },
}


@pytest.mark.parametrize("name", OFA_KD)
def test_defaults_are_those_of_the_published_comparison(name: str) -> None:
    assert MethodConfig(name=name).used.model_dump() == OFA_KD[name]


UNTAUGHT = [
    ("mldr-kd", ("logits_weight",)),
    ("kd", ("kd_weight",)),
    ("dkd", ("alpha", "beta")),
    ("dist", ("beta", "gamma")),
    ("ofa", ("logits_weight",)),
    ("mldr-kd", ("class_weight", "sample_weight", "alpha")),
    ("rsd-logits", ("rsd_weight",)),
    *((name, ()) for name in ("fitnet", "cc", "rkd", "crd", "rsd", "scratch")),
]


@pytest.mark.parametrize(("name", "weights"), UNTAUGHT)
def test_something_has_to_teach_the_classifier(
    name: str, weights: tuple[str, ...], scene: Callable[..., Any]
) -> None:
    """Labels or logits; with the labels off, what is left reaches the student's logits."""
    zero = dict.fromkeys(("label_weight", *weights), 0)
    with pytest.raises(ValidationError, match=" = ".join(zero) + " = 0 nothing would teach"):
        config(name, **zero)
    for kept in weights:
        made = scene()
        method = create_method(config(name, **zero | {kept: 1}), made.pair)
        assert method.label_weight == 0
        sum(method(made.student, made.teacher, made.step).values()).backward()
        assert made.student.logits.grad is not None and made.student.logits.grad.any()


def test_a_method_is_found_by_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file more in the folder, and there is a method more; nothing else names it."""
    folder = Path(method_registry.__file__).parent
    for file in folder.glob("*.py"):
        (tmp_path / file.name).symlink_to(file)
    text = (folder / "kd.py").read_text().replace('"kd"', '"kd-again"')
    (tmp_path / "again.py").write_text(text)
    monkeypatch.setattr(method_registry, "__file__", str(tmp_path / "method_registry.py"))
    package = sys.modules[method_registry.__package__]
    monkeypatch.setattr(package, "__path__", [str(tmp_path)])
    assert set(method_registry._found()) == {*METHODS, "kd-again"}
    del sys.modules[f"{method_registry.__package__}.again"]


def test_every_method_has_its_table_and_its_name() -> None:
    assert set(METHODS) == set(WEIGHTS)
    assert set(MethodConfig.model_fields) == {"name", *map(table_of, METHODS)}
    chosen = MethodConfig(name="dkd", dkd={"beta": 3}, kd={"temperature": 2})
    assert chosen.used.beta == 3 and chosen.kd.temperature == 2
    with pytest.raises(ValidationError, match="'kd', 'mldr-kd'"):
        MethodConfig(name="dkdd")
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        MethodConfig(dkdd={})


@pytest.mark.parametrize(
    ("name", "least"), [("cc", 2), ("dist", 2), ("rkd", 3), ("rsd", 2), ("rsd-logits", 2)]
)
def test_relations_need_images_to_relate(name: str, least: int, scene: Callable[..., Any]) -> None:
    few = replace(scene().pair, batch=least - 1)
    message = f"method {name} compares {least} or more images .* has {least - 1}: raise data.batch"
    with pytest.raises(MldrError, match=message):
        create_method(config(name), few)
    create_method(config(name), replace(few, batch=least))


@pytest.mark.parametrize("name", ["cc", "rkd", "crd", "rsd"])
@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_model_that_keeps_its_features_to_itself_is_refused(
    name: str, who: str, scene: Callable[..., Any]
) -> None:
    pair = scene().pair
    mute = replace(pair, **{who: replace(getattr(pair, who), pooled_width=0)})
    with pytest.raises(MldrError, match=f"which the {who} does not give: choose another {who}"):
        create_method(config(name), mute)


def test_bf16_answers_are_compared_in_float32(scene: Callable[..., Any]) -> None:
    made = scene()
    half = {"logits": made.teacher.logits.bfloat16(), "features": made.teacher.features.bfloat16()}
    stages = tuple(stage.bfloat16() for stage in made.teacher.stages)
    teacher = replace(made.teacher, stages=stages, **half)
    for name in set(METHODS) - TEACHERLESS:
        method = create_method(config(name), made.pair)
        with torch.autocast("cpu", torch.bfloat16):
            losses = method(made.student, teacher, made.step)
        assert all(value.dtype == torch.float32 for value in losses.values())
