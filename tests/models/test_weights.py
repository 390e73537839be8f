"""Weights files: formats, wrappers, prefixes, other sizes, and refusals."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mldr_deploy.errors import MldrError
from mldr_deploy.models.config import ModelConfig
from mldr_deploy.models.registry import create_model
from mldr_deploy.models.weights import load_weights


def model(seed: int, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", **{"num_classes": 3, **options})


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + k: v for k, v in state.items()}


STATE = dict(model(1).state_dict())


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"model": STATE, "args": argparse.Namespace(lr=0.1)},  # Vim and DeiT
        {"state_dict": STATE, "state_dict_ema": prefixed(STATE, "module.")},
        {"model": {"module": prefixed(STATE, "_orig_mod.module.")}},
        {"state_dict": prefixed(STATE, "model."), "pytorch-lightning_version": "2.0"},
        {**prefixed(STATE, "module."), "n_averaged": torch.tensor(4)},  # AveragedModel
        {k: v for k, v in STATE.items() if not k.endswith("num_batches_tracked")},
    ],
)
def test_wrappers_and_prefixes(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    loaded = model(2)
    load_weights(loaded, tmp_path / "weights.pth")
    assert same(loaded, model(1))


def test_averaged_weights_come_first(tmp_path: Path) -> None:
    torch.save({"state_dict": model(3).state_dict(), "state_dict_ema": STATE}, tmp_path / "w.pth")
    loaded = model(2)
    load_weights(loaded, tmp_path / "w.pth")
    assert same(loaded, model(1))


def test_safetensors_file_and_folders_of_training(tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    trained.mkdir()
    save_file(STATE, trained / "weights.safetensors")
    (trained / "model.json").write_text("{}")
    for source in (tmp_path, trained, trained / "weights.safetensors"):
        config = ModelConfig(name="test_resnet", weights=str(source))
        assert same(create_model(config, num_classes=3, image_size=32), model(1))


def test_position_embeddings_made_for_another_size(tmp_path: Path) -> None:
    large = timm.create_model("test_vit", img_size=64, patch_size=8, num_classes=3)
    save_file(large.state_dict(), tmp_path / "vit.safetensors")
    small = timm.create_model("test_vit", img_size=32, patch_size=8, num_classes=3)
    load_weights(small, tmp_path / "vit.safetensors")
    assert small.pos_embed.shape == (1, 17, 64) and large.pos_embed.shape == (1, 65, 64)
    torch.testing.assert_close(small.blocks[0].attn.qkv.weight, large.blocks[0].attn.qkv.weight)
    # timm keeps the class token's embedding apart and interpolates the grid.
    expected = nn.functional.interpolate(
        large.pos_embed[:, 1:].reshape(1, 8, 8, 64).permute(0, 3, 1, 2),
        size=(4, 4),
        mode="bicubic",
        antialias=True,
    )
    torch.testing.assert_close(small.pos_embed[:, :1], large.pos_embed[:, :1])
    torch.testing.assert_close(small.pos_embed[:, 1:], expected.flatten(2).transpose(1, 2))


def test_a_head_of_another_class_count_needs_leave(tmp_path: Path) -> None:
    save_file(dict(model(1, num_classes=9).state_dict()), tmp_path / "nine.safetensors")
    loaded = model(2)
    before = loaded.fc.weight.clone()
    with pytest.raises(MldrError, match=r"fc\.weight \[9, 96\] where the model has \[3, 96\]"):
        load_weights(loaded, tmp_path / "nine.safetensors")
    assert same(loaded, model(2))  # a refusal changes nothing
    load_weights(loaded, tmp_path / "nine.safetensors", fresh_head=True)
    assert torch.equal(loaded.fc.weight, before)
    assert torch.equal(loaded.conv1[0].weight, model(1, num_classes=9).conv1[0].weight)


def test_differences_are_listed(tmp_path: Path) -> None:
    state = {k: v for k, v in STATE.items() if k != "bn1.bias"}
    state["extra.weight"] = torch.zeros(2)
    state["fc.bias"] = torch.zeros(4)
    save_file(state, tmp_path / "wrong.safetensors")
    with pytest.raises(MldrError) as refusal:
        load_weights(model(2), tmp_path / "wrong.safetensors")
    text = str(refusal.value)
    assert "do not fit ResNet" in text and "\n" not in text
    assert "shapes differ: fc.bias [4] where the model has [3]" in text
    assert "missing: bn1.bias" in text
    assert "not in the model: extra.weight" in text


def test_long_lists_are_cut(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "none.safetensors")
    with pytest.raises(MldrError, match=r"missing: conv1.* and \d+ more; not in the model: a$"):
        load_weights(model(2), tmp_path / "none.safetensors")


class Payload:
    """What a malicious checkpoint would carry."""


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    torch.save({"model": STATE, "hook": Payload()}, tmp_path / "unsafe.pth")
    with pytest.raises(MldrError, match="holds Python objects besides tensors"):
        load_weights(model(2), tmp_path / "unsafe.pth")


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pth"])
def test_damaged_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(STATE, path)
    else:
        save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(MldrError, match=f"{name} is (not a readable file of weights|damaged)"):
        load_weights(model(2), path)


def test_nothing_to_load(tmp_path: Path) -> None:
    with pytest.raises(MldrError, match=r"there are no weights at .*nowhere\.pth"):
        load_weights(model(2), tmp_path / "nowhere.pth")
    with pytest.raises(MldrError, match=r"there are no weights at .*weights\.safetensors"):
        load_weights(model(2), tmp_path)
    (tmp_path / "weights.npz").write_bytes(b"")
    with pytest.raises(MldrError, match=r"weights are read from \.safetensors, \.pth and \.pt"):
        load_weights(model(2), tmp_path / "weights.npz")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(MldrError, match="it holds no tensors, only epoch"):
        load_weights(model(2), tmp_path / "empty.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(MldrError, match="it holds no dictionary of tensors"):
        load_weights(model(2), tmp_path / "list.pth")
