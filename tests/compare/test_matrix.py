"""A comparison's file: equal terms, and every refusal read."""

from __future__ import annotations

from pathlib import Path

import pytest

from mldr_deploy.compare.matrix import load_matrix
from mldr_deploy.compare.units import students, teachers, tuning
from mldr_deploy.errors import MldrError


def test_methods_of_a_pair_differ_in_nothing_but_the_method(matrix: Path, tmp_path: Path) -> None:
    runs = students(load_matrix(matrix), tmp_path, {})
    assert [(run.method, run.seed) for run in runs] == [
        (method, seed) for seed in (0, 1) for method in ("mldr-kd", "scratch", "kd")
    ]
    for seed in (0, 1):
        told = [run.recipe.model_dump() for run in runs if run.seed == seed]
        for recipe in told:
            assert recipe["train"]["seed"] == seed
            recipe.pop("name"), recipe.pop("method")
        assert told[0] == told[1] == told[2]


def test_sections_lie_over_each_other_and_variants_are_methods_of_ones_own(matrix: Path) -> None:
    matrix.write_text(
        matrix.read_text().replace('"kd", ', '"kd", "logits only", ')
        + """train = { epochs = 7 }
[variants."logits only".method]
name = "mldr-kd"
mldr_kd = { stage_weight = 0, fused_weight = 0 }
"""
    )
    recipe = load_matrix(matrix).section("vit", "logits only", 1)
    assert (recipe.train.epochs, recipe.data.batch_size, recipe.train.seed) == (7, 256, 1)
    assert recipe.method.used.stage_weight == 0 and recipe.method.name == "mldr-kd"  # type: ignore[attr-defined]


def test_a_teacher_is_one_run_whatever_learns_from_it(matrix: Path, tmp_path: Path) -> None:
    matrix.write_text(
        matrix.read_text() + '[pairs.other]\nteacher = "resnet"\nstudent = {name = "test_resnet"}\n'
    )
    found = load_matrix(matrix)
    assert list(teachers(found, tmp_path)) == ["resnet"]
    taught = [run for run in students(found, tmp_path, {}) if run.method == "kd"]
    assert len(taught) == 4
    for run in taught:
        assert run.shared == {
            name: tmp_path / "teachers" / "resnet" / name for name in ("teacher", "logits")
        }


def test_tuned_settings_are_laid_over_the_methods_runs(matrix: Path, tmp_path: Path) -> None:
    matrix.write_text(
        matrix.read_text()
        + """[pairs.other]
teacher = "resnet"
tuned_on = "vit"
student = { name = "test_resnet" }
[tuning.choices]
kd = [{}, { method = { kd = { temperature = 3 } } }]
mldr-kd = [{}, { method = { mldr_kd = { alpha = 1 } } }]
"""
    )
    found = load_matrix(matrix)
    assert {trial.pair for trial in tuning(found, tmp_path)} == {"vit"}
    runs = students(found, tmp_path, {"vit": {"kd": 1, "mldr-kd": 0}})
    used = {(run.pair, run.method): run.recipe.method.used for run in runs}
    for pair in ("vit", "other"):
        assert used[pair, "kd"].temperature == 3  # type: ignore[attr-defined]
        assert used[pair, "mldr-kd"].alpha == 2  # type: ignore[attr-defined]


TUNING = "[tuning.choices]\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"kd"', '"kdd"', r"matrix.toml: methods: unknown name 'kdd'; there are .*mldr-kd"),
        ('"kd"', '"scratch"', r"names something twice"),
        ("seeds = [0, 1]", "seeds = []", r"seeds = .* is not allowed"),
        ("seeds = [0, 1]", "seeds = [0, 1]\nfocus = 'ofa'", r"focus: unknown name 'ofa'"),
        ('teacher = "resnet"', 'teacher = "swin"', r"pairs.vit.teacher: unknown name 'swin'"),
        (
            "[pairs.vit]",
            "[pairs.vit]\ntuned_on = 'deit'",
            r"pairs.vit.tuned_on: unknown name 'deit'",
        ),
        (
            "[pairs.vit]",
            "[pairs.b]\ntuned_on = 'c'\n[pairs.c]\ntuned_on = 'vit'\n[pairs.vit]",
            r"pairs.b.tuned_on names a pair that is not tuned itself",
        ),
        ("epochs = 1\n", "epochs = 0\n", r"pair vit, method scratch: train.epochs = 0 is not"),
        ('name = "test_vit"', 'name = "test_vit", nam = 1', r"pair vit, .*unknown key student.nam"),
        ("seeds =", "sedes =", r"unknown key sedes; did you mean seeds\?"),
        ('name = "tiny"', 'name = "../tiny"', r"name = '../tiny' is not allowed"),
        ('name = "tiny"', "name = tiny", r"matrix.toml is not valid TOML"),
        ("[pairs.vit]", TUNING + "kd = [{}, {}]\nmldr-kd = [{}]\n[pairs.vit]", r"equally many"),
        ("[pairs.vit]", TUNING + "ofa = [{}]\n[pairs.vit]", r"tuning.choices: unknown name 'ofa'"),
        (
            "[pairs.vit]",
            '[pairs.b]\nteacher = "resnet"\nstudent = {name = "test_vit"}\n'
            "data = {image_size = 64}\n[pairs.vit]",
            r"pairs b and vit share teacher resnet but differ in \[data\]",
        ),
        (
            "batch_size = 256\n",
            "val_fraction = 0\n" + TUNING + "kd = [{}, {}]\n",
            r"pair vit, method kd: \[tuning\] .* data.val_fraction is 0: set data.val_fraction=0.1",
        ),
        (
            "[pairs.vit]",
            "[tuning]\nrecipe = {data = {val_fraction = 0}}\nchoices.kd = [{}]\n[pairs.vit]",
            r"\[tuning\] .* data.val_fraction is 0",
        ),
        (
            "[pairs.vit]",
            TUNING + "kd = [{}, {data = {val_fraction = 0}}]\n[pairs.vit]",
            r"\[tuning\] .* data.val_fraction is 0",
        ),
        ('teacher = "resnet"\n', "", r"pair vit, method kd: method.name=kd needs a \[teacher\]"),
    ],
)
def test_what_cannot_be_meant_is_refused(matrix: Path, old: str, new: str, said: str) -> None:
    text = matrix.read_text()
    assert old in text
    matrix.write_text(text.replace(old, new, 1))
    with pytest.raises(MldrError, match=said):
        load_matrix(matrix)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MldrError, match=r"no.toml does not exist: give a comparison's TOML file"):
        load_matrix(tmp_path / "no.toml")
