from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.bundle.sealed import write_sealed
from mldr_deploy.bundle.trained import TrainedModel, load_trained, save_trained
from mldr_deploy.errors import MldrError

TENSORS: dict[str, Any] = {
    "head.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
    "bn.num_batches_tracked": np.array(7, np.int64),
}


def record(**changes: Any) -> TrainedModel:
    values: dict[str, Any] = {
        "model": {"name": "resnet10t", "options": {"act_layer": "silu"}},
        "num_classes": 2,
        "image_size": 32,
        "classes": ["Käse", "dog"],
        "preprocessing": Preprocessing(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
        "family": "cnn",
        "parameters": 6,
        "data": {"source": "digits"},
        "data_fingerprint": "f" * 64,
        "metrics": {"val_top1": 97.5},
        "provenance": {"recipe": {"train": {"seed": 0}}},
    }
    return TrainedModel(**{**values, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_trained(tmp_path / "student", record(), TENSORS)
    return tmp_path / "student"


def change(folder: Path, **values: Any) -> None:
    content = json.loads((folder / "model.json").read_text())
    write_sealed(folder / "model.json", {**content, **values})


def test_what_was_saved_is_loaded(folder: Path) -> None:
    loaded, tensors = load_trained(folder)
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    written = (folder / "model.json").read_bytes()
    seal = f',\n  "record_sha256": "{loaded.record_sha256}"'.encode()
    assert loaded.record_sha256 == hashlib.sha256(written.replace(seal, b"")).hexdigest()
    assert loaded == record(weights_sha256=digest, record_sha256=loaded.record_sha256)
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype and tensors[name].shape == tensor.shape
        assert np.array_equal(tensors[name], tensor)


def test_the_weights_are_ordinary_safetensors(folder: Path) -> None:
    read = load_file(folder / "weights.safetensors")
    assert torch.equal(read["head.weight"], torch.from_numpy(TENSORS["head.weight"].copy()))
    assert read["bn.num_batches_tracked"].shape == ()


def test_whoever_reads_the_record_reads_the_weights(folder: Path) -> None:
    modes = {name: (folder / name).stat().st_mode for name in ("weights.safetensors", "model.json")}
    assert modes["weights.safetensors"] == modes["model.json"]


def test_a_folder_without_a_record(tmp_path: Path) -> None:
    with pytest.raises(MldrError, match=r"holds no trained model \(model\.json is missing\)"):
        load_trained(tmp_path)


def test_missing_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    with pytest.raises(MldrError, match=r"weights\.safetensors is missing"):
        load_trained(folder)


def test_truncated_weights(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(MldrError, match=r"weights\.safetensors is damaged"):
        load_trained(folder)


@pytest.mark.parametrize("values", [[1, np.nan], [np.nan], [1, np.inf]])
def test_weights_that_are_not_numbers(folder: Path, values: list[float]) -> None:
    save_trained(folder, record(), {"a.w": np.array(values, np.float32)})
    with pytest.raises(MldrError, match=r"tensor a\.w holds NaN or infinity"):
        load_trained(folder)


def test_an_infinite_bound_of_a_layer_is_sound(folder: Path) -> None:
    save_trained(folder, record(), {"a.output_min": np.array(-np.inf, np.float32)})
    assert load_trained(folder)[1]["a.output_min"] == -np.inf


def test_truncated_record(folder: Path) -> None:
    (folder / "model.json").write_text((folder / "model.json").read_text()[:50])
    with pytest.raises(MldrError, match="is not readable JSON"):
        load_trained(folder)


def test_newer_schema(folder: Path) -> None:
    change(folder, schema_version=4, a_field_of_the_future=1)
    with pytest.raises(MldrError, match="has schema version 4, this program reads up to 3"):
        load_trained(folder)


def test_a_record_of_the_first_schema_is_read(folder: Path) -> None:
    content = json.loads((folder / "model.json").read_text())
    del content["evidence"], content["weights_sha256"], content["record_sha256"]
    (folder / "model.json").write_text(json.dumps({**content, "schema_version": 1}))
    loaded, _ = load_trained(folder)
    assert (loaded.evidence, loaded.weights_sha256) == (None, None)


def test_a_record_that_lost_its_digest(folder: Path) -> None:
    content = json.loads((folder / "model.json").read_text())
    del content["record_sha256"]
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(MldrError, match=r"has lost its record_sha256, which schema version 3 car"):
        load_trained(folder)


def test_a_record_with_another_figure(folder: Path) -> None:
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace("97.5", "97.6"))
    with pytest.raises(MldrError, match=r"model\.json was changed after it was written"):
        load_trained(folder)


def test_weights_of_another_run(folder: Path, tmp_path: Path) -> None:
    other = {**TENSORS, "head.weight": TENSORS["head.weight"] + 1}
    save_trained(tmp_path / "other", record(), other)
    (tmp_path / "other/weights.safetensors").replace(folder / "weights.safetensors")
    with pytest.raises(
        MldrError, match=r"weights\.safetensors is not the file that training wrote"
    ):
        load_trained(folder)


def test_wrong_type_is_named(folder: Path) -> None:
    change(folder, parameters="many")
    with pytest.raises(MldrError, match=r"model\.json: parameters: Input should be a valid int"):
        load_trained(folder)


def test_class_names_must_match_the_logits() -> None:
    with pytest.raises(ValidationError, match="3 class names for 2 logits"):
        record(classes=["a", "b", "c"])


def test_a_foreign_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(MldrError, match="holds other files"):
        save_trained(tmp_path, record(), TENSORS)
