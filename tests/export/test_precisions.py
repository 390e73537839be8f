"""A bundle of every precision: what is in it, what is added and kept, and what a full disk does."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from mldr_deploy.bundle.card import model_card
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.bundle.shipping import recommended
from mldr_deploy.bundle.trained import load_trained, save_trained
from mldr_deploy.errors import MldrError
from mldr_deploy.export import kinds
from mldr_deploy.export.build_bundle import build_bundle
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.recheck import check_bundle
from mldr_deploy.pipeline.artifact_table import artifact_table

ALL = ["fp32", "fp16", "bf16", "int8", "int8-symmetric", "fp8"]
FP16 = ExportConfig(
    max_batch=32, precisions=("fp16",), calibration={"images": 32}, latency_seconds=0.05
)


class Notes(Silent):
    """Keeps what a person would have been told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_all_precisions_pass_and_are_what_they_are_called(every_precision: Bundle) -> None:
    assert every_precision, [a.parity.failures for a in every_precision.manifest.artifacts]
    artifacts = {a.precision: a for a in every_precision.manifest.artifacts}
    assert list(artifacts) == ALL
    assert all(a.parity.samples == 359 and a.opset for a in artifacts.values())
    size = {name: artifact.bytes for name, artifact in artifacts.items()}
    assert size["fp16"] < 0.55 * size["fp32"] and size["bf16"] < 0.55 * size["fp32"]
    assert size["int8"] < 0.35 * size["fp32"] and size["int8-symmetric"] < 0.35 * size["fp32"]
    emulated = [name for name, artifact in artifacts.items() if artifact.emulated]
    assert emulated == ["fp16", "bf16", "fp8"]
    assert artifacts["bf16"].opset == 22
    for name in ("int8", "int8-symmetric", "fp8"):
        record = artifacts[name].quantization
        assert record is not None
        assert (record.method, record.calibration_images) == ("minmax", 64)
        assert len(record.quantised) + len(record.excluded) == 16
    assert {path.name for path in every_precision.path.iterdir()} == {
        "manifest.json",
        "weights.safetensors",
        "golden.npz",
        "MODEL_CARD.md",
        "infer.py",
        "quality.json",
        "quality.png",
        "mistakes.png",
        "timm",
        *(artifact.file for artifact in artifacts.values()),
    }


def test_the_card_has_every_precision_that_was_added(every_precision: Bundle) -> None:
    card = (every_precision.path / "MODEL_CARD.md").read_text()
    assert card == model_card(every_precision.manifest)
    assert all(f"| {a.file} | {a.precision} |" in card for a in every_precision.manifest.artifacts)


def test_check_proves_every_precision_again(run: Any, every_precision: Bundle) -> None:
    result = check_bundle(every_precision.path, dataset=run.dataset)
    assert result, str(result)
    assert {a.file for a in every_precision.manifest.artifacts} == set(result.parity)


def test_the_table_has_them_all_and_says_what_to_ship(every_precision: Bundle) -> None:
    text = artifact_table(every_precision.manifest)
    rows = [row for row in text.splitlines() if len(row.split()) > 5]  # a long name is wrapped
    for artifact in every_precision.manifest.artifacts:
        (line,) = [row for row in rows if artifact.file.startswith(row.split()[0])]
        assert f"{artifact.parity.artifact.top1:.2f}" in line and "passed" in line
        assert (artifact.latency is None) == (artifact.precision in ("bf16", "fp8"))
        notes = [row for row in text.splitlines() if row.startswith(f"{artifact.file}: ")]
        assert ("proven by emulation" in " ".join(notes)) == artifact.emulated
    advice = recommended(every_precision.manifest)  # which file it is depends on the machine
    assert str(advice) in " ".join(text.split()) and re.search(r"\d threads?, in turns", text)


def test_an_export_adds_to_a_bundle_of_the_same_student(
    run: Any, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(context: object) -> None:
        raise AssertionError("fp32 is there")

    first = kinds.KINDS[kinds.FIRST]
    monkeypatch.setitem(
        kinds.KINDS,
        kinds.FIRST,
        kinds.ArtifactKind(again, first.run),  # type: ignore[arg-type]
    )
    before = open_bundle(copied).manifest.artifacts[0]
    added = build_bundle(run.folder, copied, FP16, dataset=run.dataset)
    artifacts = added.manifest.artifacts
    assert [artifact.precision for artifact in artifacts] == ["fp32", "fp16"]
    assert artifacts[0].model_copy(update={"latency": None}) == before
    assert all(artifact.latency is not None for artifact in artifacts)


@pytest.mark.parametrize(
    "what",
    ["weights", *(pytest.param(what, marks=pytest.mark.slow) for what in ("batch", "damage"))],
)
def test_a_bundle_of_something_else_is_replaced_and_that_is_told(
    run: Any, every_precision: Bundle, tmp_path: Path, what: str
) -> None:
    out = Path(shutil.copytree(every_precision.path, tmp_path / "bundle"))
    trained, config = run.folder, ExportConfig(max_batch=32)
    if what == "weights":
        _, tensors = load_trained(run.folder)
        tensors["fc.bias"] = tensors["fc.bias"] + 1e-3
        trained = tmp_path / "student"
        save_trained(trained, run.record, tensors)
    if what == "batch":
        config = ExportConfig(max_batch=16)
    if what == "damage":
        (out / "student.int8.onnx").unlink()
    notes = Notes()
    bundle = build_bundle(trained, out, config, dataset=run.dataset, progress=notes)
    assert [artifact.precision for artifact in bundle.manifest.artifacts] == ["fp32"]
    assert not (out / "student.fp16.onnx").exists()
    (note,) = [text for text in notes.notes if "replaced as a whole" in text]
    told = {"weights": "other weights", "batch": "another largest batch", "damage": "is missing"}
    assert told[what] in note


@pytest.mark.parametrize("written", [1, 3])
def test_a_full_disk_leaves_the_earlier_bundle_untouched(
    run: Any, copied: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """The first file (weights) fails to reach the disk, or the third (the fp16 graph)."""
    before, calls, fsync = content(copied), [0], os.fsync

    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_file():
            calls[0] += 1
            if calls[0] == written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        MldrError, match=r"cannot be written \(No space left on device\): free space"
    ):
        build_bundle(run.folder, copied, FP16, dataset=run.dataset)
    assert calls[0] == written
    assert content(copied) == before
    assert [path.name for path in copied.parent.iterdir()] == ["copied"]


def test_a_disk_that_fills_while_artifacts_are_kept(
    run: Any, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = content(copied)
    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(MldrError, match=f"{copied} cannot be written .No space left on device"):
        build_bundle(run.folder, copied, FP16, dataset=run.dataset)
    assert content(copied) == before
    assert [path.name for path in copied.parent.iterdir()] == ["copied"]


def test_a_folder_that_cannot_be_written(run: Any) -> None:
    with pytest.raises(MldrError, match="/proc/bundle cannot be written"):
        build_bundle(run.folder, Path("/proc/bundle"), FP16, dataset=run.dataset)
