"""The student as strangers load it: timm's own loader and transform, the Hub's own card reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import ModelCard
from PIL import Image

from mldr_deploy.bundle.manifest import describe
from mldr_deploy.bundle.preprocess import preprocess
from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.bundle.sealed import write_sealed
from mldr_deploy.bundle.tensors import read_tensors, write_tensors
from mldr_deploy.bundle.trained import TrainedModel
from mldr_deploy.export.recheck import check_bundle
from mldr_deploy.export.timm_folder import timm_difference, write_timm_folder
from mldr_deploy.export.trained_student import Student
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model


def test_timm_gives_the_student_bit_for_bit(run: Any, exported: Bundle) -> None:
    loaded = timm.create_model(f"local-dir:{exported.path / 'timm'}", pretrained=True).eval()
    inputs = torch.from_numpy(exported.golden.inputs)
    with torch.inference_mode():
        assert torch.equal(loaded(inputs), run.model.eval()(inputs))
    assert loaded.pretrained_cfg["label_names"] == exported.manifest.labels


def test_the_manifest_pins_every_file_of_the_folder(exported: Bundle) -> None:
    folder = {path.name for path in (exported.path / "timm").iterdir()}
    assert folder == {"config.json", "model.safetensors", "README.md"}
    assert {f"timm/{name}" for name in folder} <= {entry.file for entry in exported.manifest.files}
    assert "local-dir:BUNDLE/timm" in (exported.path / "MODEL_CARD.md").read_text()


def test_timms_transform_feeds_what_the_bundle_feeds(exported: Bundle) -> None:
    model = timm.create_model(f"local-dir:{exported.path / 'timm'}", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    fed = transform(Image.fromarray(pixels)).numpy()
    ours = preprocess([pixels], exported.manifest.preprocessing)[0]
    np.testing.assert_allclose(fed, ours, atol=1e-5)


def test_the_hub_reads_the_card(exported: Bundle) -> None:
    card = ModelCard.load(exported.path / "timm" / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("timm", "image-classification")
    assert "test_resnet" in card.text and "hf-hub:USER/NAME" in card.text
    assert "infer.py" not in card.text and ".png" not in card.text


def test_check_sees_other_values_in_timms_file(copied: Path) -> None:
    path = copied / "timm" / "model.safetensors"
    tensors = read_tensors(path)
    name = next(name for name in tensors if name.endswith("fc.weight"))
    write_tensors(path, {**tensors, name: tensors[name] + 1})
    manifest = json.loads((copied / "manifest.json").read_text())
    pinned = describe(copied, "timm/model.safetensors").model_dump()
    entries = manifest["timm_files"]
    manifest["timm_files"] = [pinned if e["file"] == pinned["file"] else e for e in entries]
    write_sealed(copied / "manifest.json", manifest)
    refuted = [f for f in check_bundle(copied).findings if f.holds is False]
    assert [f.subject for f in refuted] == ["timm's student"]
    assert name in refuted[0].detail


@pytest.mark.parametrize(
    ("config", "size", "reason"),
    [
        ({"name": "vim_tiny_patch16_224", "options": {"depth": 1}}, 32, "timm does not have vim_"),
        ({"name": "resnet10t", "stem": "small"}, 32, "no argument for stem"),
        ({"name": "mixer_s32_224", "patch_size": 16}, 32, "timm cannot rebuild it"),
    ],
)
def test_what_timm_cannot_build_gets_no_folder_and_a_reason(
    config: dict[str, object], size: int, reason: str, run: Any, tmp_path: Path
) -> None:
    student = _student(ModelConfig(**config), size, run.record)
    assert reason in str(write_timm_folder(tmp_path, student, _images(size)))
    assert [*tmp_path.iterdir()] == []


def test_a_vision_transformer_keeps_its_size_and_patches(run: Any, tmp_path: Path) -> None:
    config = ModelConfig(name="test_vit", patch_size=8)
    student = _student(config, 48, run.record)
    assert write_timm_folder(tmp_path, student, _images(48)) is None
    with torch.no_grad():
        next(student.model.parameters()).add_(1)
    assert "other values" in str(timm_difference(tmp_path, student.model, _images(48)))


def _student(config: ModelConfig, size: int, record: TrainedModel) -> Student:
    model = create_model(config, num_classes=10, image_size=size)
    preprocessing = record.preprocessing.model_copy(update={"size": (size, size)})
    update = {
        "model": config.model_dump(mode="json"),
        "preprocessing": preprocessing,
        "image_size": size,
    }
    return Student(model, record.model_copy(update=update))


def _images(size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 3, size, size)).astype(np.float32)
