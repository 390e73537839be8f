from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mldr_deploy.bundle.atomic import write_text
from mldr_deploy.bundle.card import FILE, model_card
from mldr_deploy.bundle.chance import Chance
from mldr_deploy.bundle.engine import FORMAT
from mldr_deploy.bundle.manifest import Manifest, describe, write_manifest
from mldr_deploy.bundle.quality import Answers, quality_of
from mldr_deploy.bundle.reader import open_bundle
from mldr_deploy.errors import MldrError

TRAINING = {
    "recipe": {
        "method": {"name": "mldr-kd"},
        "teacher": {"name": "resnet18"},
        "train": {"epochs": 7, "seed": 3},
        "optimizer": {"name": "adamw", "lr": 0.002},
    },
    "teacher": {"name": "resnet18", "parameters": 11_200_000, "metrics": {"val_top1": 91.25}},
    "commit": "abc123",
    "versions": {"timm": "1.0"},
}


def told(folder: Path, **update: Any) -> str:
    return model_card(open_bundle(folder, allow_failed=True).manifest.model_copy(update=update))


def rows(card: str) -> list[list[str]]:
    """Cells of every table line, as any reader of Markdown takes them."""
    lines = [line for line in card.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_of_artifacts_is_the_manifest_s(bundle_folder: Path) -> None:
    found = next(row for row in rows(told(bundle_folder)) if row[0] == "student.onnx")
    assert found[3:7] == ["89.00", "+1.00", "98.00", "passed"]  # 5 differ, 1 of them tied


def test_top5_is_told_from_six_classes_on(bundle_folder: Path) -> None:
    assert "top-5" not in told(bundle_folder)
    card = told(bundle_folder, labels=[str(n) for n in range(6)])
    assert next(row for row in rows(card) if row[0] == "student.onnx")[4] == "98.00"
    assert "top-5 99.00 %" in card


@pytest.mark.parametrize(("hits", "marked"), [(52, True), (90, False)])
def test_a_student_at_chance_is_marked(bundle_folder: Path, hits: int, marked: bool) -> None:
    card = told(bundle_folder, chance=Chance(images=100, hits=hits, largest=50))
    told_so = "**Do not ship it: the student is no better than chance: top-1 52.00 % of 100 images"
    assert (told_so in card) is marked


def test_classes_confusion_and_calibration_are_told(bundle_folder: Path) -> None:
    answers = Answers(2.0)
    answers.add(3 * np.eye(2, dtype=np.float32)[[0, 0, 1, 0]], np.array([0, 1, 1, 1]))
    measured = quality_of(answers, ["cat", "dog"], str, fitted_on=9)
    assert measured is not None
    card = told(bundle_folder, quality=measured[0], temperature=2.0)
    cells = rows(card)
    assert ["dog", "3", "33.3", "6.1 to 79.2"] in cells and ["cat", "1", "100.0"] in [
        row[:3] for row in cells
    ]
    assert ["dog", "cat", "2"] in cells
    assert "fitted on 9 validation images" in card and "nobody calibrated them" not in card
    assert "softmax of the logits over 2." in card
    before = told(bundle_folder)
    assert "nobody calibrated them" in before and "weakest" not in before


def test_how_it_was_taught_is_told_where_it_was_recorded(bundle_folder: Path) -> None:
    card = told(bundle_folder, provenance={"training": TRAINING}, metrics={"val_top1": 88.5})
    facts = {row[0]: row[1] for row in rows(card) if len(row) == 2}
    assert facts["teacher"] == "resnet18, 11.20 M parameters"
    assert facts["teacher, validation top-1"] == "91.25 %"
    assert facts["student, validation top-1"] == "88.50 %"
    assert (facts["epochs"], facts["seed"], facts["commit"]) == ("7", "3", "abc123")
    assert "It learned from resnet18 by mldr-kd." in card


def test_what_was_not_recorded_is_left_out(bundle_folder: Path) -> None:
    card = told(bundle_folder)
    assert "None" not in card and "learned from" not in card and "teacher" not in card


def test_a_failed_artifact_is_called_so(failed_folder: Path) -> None:
    card = told(failed_folder)
    assert "student.onnx FAILED its gate, do not ship it: |dlogit| 0.25 is above 0.001" in card
    assert next(row for row in rows(card) if row[0] == "student.onnx")[6] == "FAILED"


def test_a_class_name_with_a_bar_or_line_break_keeps_the_tables_whole(bundle_folder: Path) -> None:
    card = told(bundle_folder, data={"source": "a|b\nc"})
    assert ["data", "a/b c"] in rows(card)


def test_engines_stay_out_of_it(bundle_folder: Path) -> None:
    manifest = open_bundle(bundle_folder).manifest
    engine = manifest.artifacts[0].model_copy(update={"file": "engines/x.plan", "format": FORMAT})
    more = manifest.model_copy(update={"artifacts": [*manifest.artifacts, engine]})
    assert model_card(more) == model_card(manifest)


@pytest.fixture
def carded(bundle_folder: Path) -> Path:
    manifest = open_bundle(bundle_folder).manifest
    write_text(bundle_folder / FILE, model_card(manifest))
    listed = manifest.model_copy(update={"card": describe(bundle_folder, FILE)})
    write_manifest(bundle_folder, listed)
    return bundle_folder


def test_a_listed_card_is_verified_like_every_file(carded: Path) -> None:
    manifest = open_bundle(carded).manifest
    assert manifest.card is not None and manifest.card in manifest.files
    assert model_card(manifest) == (carded / FILE).read_text()  # listing it changes no word of it
    with (carded / FILE).open("a") as file:
        file.write("99.9 % accurate\n")
    with pytest.raises(MldrError, match=r"MODEL_CARD\.md was changed after export"):
        open_bundle(carded)
    (carded / FILE).unlink()
    with pytest.raises(MldrError, match=r"MODEL_CARD\.md is missing"):
        open_bundle(carded)


def test_a_bundle_from_before_the_card_opens(bundle_folder: Path) -> None:
    manifest: Manifest = open_bundle(bundle_folder).manifest
    assert manifest.card is None and len(manifest.files) == 3


def test_the_card_is_short_where_there_are_many_classes(
    bundle_folder: Path, measured: Callable[[list[str]], Any]
) -> None:
    labels = [f"class-{k}" for k in range(1000)]
    card = told(bundle_folder, labels=labels)
    assert "class-29" in card and "class-30" not in card and "and 970 more" in card


def test_what_was_left_out_of_the_data_is_told(bundle_folder: Path) -> None:
    report = {
        "omissions": [
            {
                **{"split": "train", "label": label, "reason": "empty files", "count": count},
                **{"first": f"train/{label}/0.png", "lost": True},
            }
            for label, count in (("cat", 3), ("dog", 1))
        ],
        **{"test_cut": 0.2, "test_images": 50, "leaked": 2, "contradicted": 4},
    }
    card = told(bundle_folder, provenance={"training": {"data_report": report}})
    assert [line for line in card.splitlines() if line.startswith("- The data: ")] == [
        "- The data: left out: empty files, 4 in all: train/cat 3, train/dog 1; "
        "first train/cat/0.png.",
        "- The data: the data have no test split: 20 % of every class was cut from train (50 "
        "images).",
        "- The data: 2 of 50 test images stand in the training images too, pixel by pixel.",
        "- The data: 4 training images stand twice, under different labels.",
    ]
    for other in (None, {"leaked": "many"}, []):  # another version's
        assert "The data: " not in told(
            bundle_folder, provenance={"training": {"data_report": other}}
        )
