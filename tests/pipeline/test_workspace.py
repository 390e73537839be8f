"""A run's folder: one recipe, one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from mldr_deploy.errors import MldrError
from mldr_deploy.pipeline.recipe import Recipe, load_recipe
from mldr_deploy.pipeline.workspace import workspace


def recipe(*overrides: str) -> Recipe:
    return load_recipe("digits", overrides)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of a run of `digits` whose student has begun."""
    with workspace(tmp_path / "run", recipe()) as space:
        space.claim(restart=False)
        space.folder("student").mkdir()
        space.record_time("student", 1.5)
    return tmp_path / "run"


def claim(out: Path, of: Recipe, *, restart: bool = False) -> None:
    with workspace(out, of) as space:
        space.claim(restart=restart)


def test_the_same_recipe_goes_on_whatever_its_data_lie_in(out: Path) -> None:
    claim(out, recipe("data.root=/elsewhere", "data.workers=7", "data.download=false"))
    assert (out / "student").is_dir()


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("train.epochs=99", f"train.epochs = {recipe().train.epochs}, not 99"),
        ("student.patch_size=2", "student.patch_size = unset, not 2"),
    ],
)
def test_another_recipe_is_refused_by_its_first_difference(
    out: Path, override: str, difference: str
) -> None:
    with pytest.raises(MldrError) as caught:
        claim(out, recipe(override))
    told = str(caught.value)
    assert told.startswith(
        f"{out} holds a run with {difference}: choose another --out, or --restart"
    )
    assert (out / "student").is_dir()


def test_the_same_data_said_in_another_way_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path("run")
    for said in ("photos", "photos/", "./photos", str(tmp_path / "photos"), "photos"):
        claim(out, recipe(f"data.source=folder:{said}"))
        (out / "student").mkdir(exist_ok=True)
    with pytest.raises(MldrError, match=r"data\.source = folder:photos, not folder:other"):
        claim(out, recipe("data.source=folder:other"))


def test_keys_of_the_export_count_once_something_was_exported(out: Path) -> None:
    claim(out, recipe("export.max_batch=8"))
    (out / "bundle").mkdir()
    (out / "bundle" / "manifest.json").write_text("{}")
    with pytest.raises(MldrError, match=r"holds a run with export\.max_batch = 8, not 64: choose"):
        claim(out, recipe())


def test_restart_throws_the_other_run_away(out: Path) -> None:
    claim(out, recipe("train.epochs=99"), restart=True)
    assert {path.name for path in out.iterdir()} == {".lock", "recipe.toml"}
    assert load_recipe(str(out / "recipe.toml")) == recipe("train.epochs=99")


def test_results_without_a_recipe_are_told_in_words(out: Path) -> None:
    (out / "recipe.toml").unlink()
    with pytest.raises(MldrError) as caught:
        claim(out, recipe())
    told = str(caught.value)
    assert told.startswith(f"{out} holds a run, and no recipe.toml that says of which recipe: ")
    assert "Errno" not in told and told.endswith("choose another --out, or --restart to discard it")


@pytest.mark.parametrize("content", [b"name = ", b"\xff"])
def test_results_without_a_readable_recipe_are_not_guessed_at(out: Path, content: bytes) -> None:
    (out / "recipe.toml").write_bytes(content)
    with pytest.raises(MldrError, match=r"run is not known to be of this recipe \(.*recipe\.toml"):
        claim(out, recipe())


def test_a_second_process_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    """Two open files of one process exclude each other as those of two processes do."""
    refusal = f"another mldr-deploy is at work in {tmp_path}: wait"
    with workspace(tmp_path, recipe()), pytest.raises(MldrError, match=refusal):
        claim(tmp_path, recipe())
    claim(tmp_path, recipe())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MldrError, match=r"file/run cannot be written \(Not a directory\): choose"):
        claim(tmp_path / "file" / "run", recipe())


def test_times_are_kept_by_stage(out: Path) -> None:
    with workspace(out, recipe()) as space:
        space.record_time("export", 2.25)
        assert space.times() == {"student": 1.5, "export": 2.25}
