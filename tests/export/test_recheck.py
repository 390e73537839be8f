from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

from mldr_deploy.bundle.atomic import sha256
from mldr_deploy.bundle.golden import load_golden, save_golden
from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.bundle.sealed import write_sealed
from mldr_deploy.data.split import Split
from mldr_deploy.errors import MldrError
from mldr_deploy.export import recheck
from mldr_deploy.export.recheck import CheckResult, check_bundle


def holds(result: CheckResult) -> dict[str, bool | None]:
    return {finding.subject: finding.holds for finding in result.findings}


def rehash(folder: Path, key: str, number: int | None = None) -> None:
    """Someone who changes a file and its hash: only the proofs can notice."""
    content = json.loads((folder / "manifest.json").read_text())
    entry = content[key] if number is None else content[key][number]
    path = folder / entry["file"]
    entry.update(bytes=path.stat().st_size, sha256=sha256(path))
    write_sealed(folder / "manifest.json", content)


def test_a_healthy_bundle_holds(run: Any, exported: Bundle) -> None:
    result = check_bundle(exported.path, dataset=run.dataset)
    assert result
    assert holds(result) == {
        "manifest.json": True,
        "files": True,
        "golden inputs": True,
        "infer.py": True,
        "golden pixels": True,
        "weights": True,
        "trained function": True,
        "temperature": True,
        "timm's student": True,
        "student.onnx at export": True,
        "student.onnx graph": True,
        "student.onnx golden logits": True,
        "student.onnx parity": True,
    }
    assert result.parity["student.onnx"].samples == len(run.dataset.test)
    assert str(result).endswith("the bundle holds")
    assert f"as written, SHA-256 {exported.manifest.record_sha256}\n" in str(result)


def test_what_a_bundle_lacks_and_what_it_has_too_many_of_is_told(copied: Path) -> None:
    content = json.loads((copied / "manifest.json").read_text())
    del content["record_sha256"]
    (copied / "manifest.json").write_text(json.dumps(content | {"schema_version": 2}))
    (copied / "old.plan").touch()
    lines = str(check_bundle(copied)).splitlines()
    assert "skipped manifest.json: schema version 2 has no digest of the manifest, so a" in lines[0]
    assert "skipped old.plan: not of the manifest: nothing reads it" in lines
    assert lines[-1] == "the bundle holds"


def test_a_temperature_that_validation_does_not_give_is_refuted(run: Any, copied: Path) -> None:
    content = json.loads((copied / "manifest.json").read_text())
    content["temperature"] *= 1.5
    write_sealed(copied / "manifest.json", content)
    result = check_bundle(copied, dataset=run.dataset)
    assert not result and holds(result)["temperature"] is False
    assert holds(result)["trained function"] is True


def test_without_the_validation_split_the_temperature_is_said_to_be_untried(
    copied: Path,
) -> None:
    assert holds(check_bundle(copied))["temperature"] is None
    content = json.loads((copied / "manifest.json").read_text())
    content["quality"]["fitted_on"] = 0
    write_sealed(copied / "manifest.json", content)
    assert holds(check_bundle(copied))["temperature"] is False


def test_a_script_that_is_not_ours_is_told_and_not_run(copied: Path) -> None:
    with (copied / "infer.py").open("a", encoding="utf-8") as file:
        file.write("raise SystemExit('run')\n")
    with pytest.raises(MldrError, match=r"infer\.py was changed after export"):
        check_bundle(copied)
    rehash(copied, "script")
    result = check_bundle(copied)
    assert result and holds(result)["infer.py"] is None
    assert "skipped infer.py: not this version's: read it before you run it" in str(result)


def test_without_data_parity_is_skipped_and_said_so(exported: Bundle) -> None:
    result = check_bundle(exported.path)
    assert result
    assert holds(result)["student.onnx parity"] is None
    assert "skipped student.onnx parity: no data set given" in str(result)


def test_without_torch_the_rest_is_proven(
    run: Any, exported: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_torch(name: str) -> None:
        assert name == "torch"

    monkeypatch.setattr(recheck, "find_spec", no_torch)
    result = check_bundle(exported.path, dataset=run.dataset)
    assert result
    assert holds(result)["weights"] is None and holds(result)["student.onnx parity"] is None
    assert holds(result)["student.onnx golden logits"] and holds(result)["golden pixels"]


def test_a_changed_file_is_refused(copied: Path) -> None:
    data = bytearray((copied / "student.onnx").read_bytes())
    data[-1] ^= 1
    (copied / "student.onnx").write_bytes(data)
    with pytest.raises(MldrError, match=r"student\.onnx was changed after export"):
        check_bundle(copied)


def swap_head(folder: Path) -> None:
    proto = onnx.load(folder / "student.onnx")
    (weight,) = [tensor for tensor in proto.graph.initializer if tensor.name == "fc.weight"]
    value = numpy_helper.to_array(weight)[::-1].copy()
    weight.CopyFrom(numpy_helper.from_array(value, weight.name))
    onnx.save(proto, folder / "student.onnx")
    rehash(folder, "artifacts", 0)


def other_weights(folder: Path) -> None:
    tensors = load_file(folder / "weights.safetensors")
    tensors["fc.bias"] = tensors["fc.bias"] + 0.01
    save_file(tensors, folder / "weights.safetensors")
    rehash(folder, "weights")


def other_golden_image(folder: Path) -> None:
    golden = load_golden(folder / "golden.npz")
    order = np.r_[0, 1, 3:8, 2, 8 : len(golden)]
    moved = dataclasses.replace(
        golden,
        pixels=golden.pixels[order],
        inputs=golden.inputs[order],
        logits=golden.logits[order],
        sources=tuple(golden.sources[k] for k in order),
    )
    save_golden(folder / "golden.npz", moved)
    rehash(folder, "golden")


@pytest.mark.parametrize(
    ("change", "refuted"),
    [
        (swap_head, {"student.onnx golden logits", "student.onnx parity"}),
        (other_weights, {"weights", "timm's student", "student.onnx parity"}),
        (other_golden_image, {"golden pixels"}),
    ],
)
def test_changes_with_matching_hashes_are_found_by_proof(
    run: Any, copied: Path, change: Callable[[Path], None], refuted: set[str]
) -> None:
    change(copied)
    result = check_bundle(copied, dataset=run.dataset)
    assert not result
    assert {finding.subject for finding in result.findings if finding.holds is False} == refuted
    assert str(result).endswith("the bundle does NOT hold")


def test_an_artifact_that_does_not_load_is_a_finding(copied: Path) -> None:
    (copied / "student.onnx").write_bytes(b"hello")
    rehash(copied, "artifacts", 0)
    result = check_bundle(copied)
    assert holds(result)["student.onnx golden logits"] is False
    assert "does not load in ONNX Runtime" in str(result)


def test_other_images_of_the_same_classes(run: Any, exported: Bundle) -> None:
    assert run.dataset.train.pixels is not None
    images = run.dataset.train.pixels[:64]
    other = dataclasses.replace(
        run.dataset,
        fingerprint="0" * 64,
        test=Split.of_pixels(images, run.dataset.train.labels[:64]),
    )
    result = check_bundle(exported.path, dataset=other)
    assert result
    assert holds(result)["golden pixels"] is None
    assert result.parity["student.onnx"].samples == 64


def test_a_data_set_of_other_classes_is_refused(run: Any, exported: Bundle) -> None:
    other = dataclasses.replace(run.dataset, classes=("cat", "dog"))
    message = r"10 classes are known \(0, \.\.\.\) where digits has 2 \(cat"
    with pytest.raises(MldrError, match=message):
        check_bundle(exported.path, dataset=other)


def test_evidence_of_training_is_found_again_or_refuted(run: Any, copied: Path) -> None:
    content = json.loads((copied / "manifest.json").read_text())
    content["evidence"]["loss"] *= 1.01
    write_sealed(copied / "manifest.json", content)
    result = check_bundle(copied, dataset=run.dataset)
    assert not result
    assert [f.subject for f in result.findings if f.holds is False] == ["trained function"]
    assert "where training recorded" in str(result)
    assert holds(check_bundle(copied))["trained function"] is None
