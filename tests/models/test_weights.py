"""Weights files: formats, wrappers, prefixes, other sizes, and refusals."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mldr_deploy.errors import MldrError
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model
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


WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network")
WRAPPERS += ("weights", "params", "student", "teacher", "model_ema", "ema_state_dict", "generator")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "student.", "teacher.", "backbone.")
PREFIXES += ("encoder.", "_orig_mod.module.", "model.module.", "ema_model.", "any.thing.")


@pytest.mark.parametrize(
    "content",
    [
        *({wrapper: STATE, "epoch": 3} for wrapper in WRAPPERS),
        *(prefixed(STATE, prefix) for prefix in PREFIXES),
        *({"model": prefixed(STATE, prefix), "loss": 0.1} for prefix in PREFIXES),
        STATE,
        {"model": STATE, "args": argparse.Namespace(lr=0.1)},  # Vim and DeiT
        {"state_dict": STATE, "state_dict_ema": prefixed(STATE, "module.")},
        {"model": {"module": prefixed(STATE, "_orig_mod.module.")}},
        {"state_dict": prefixed(STATE, "model."), "pytorch-lightning_version": "2.0"},
        {**prefixed(STATE, "module."), "n_averaged": torch.tensor(4)},  # AveragedModel
        {k: v for k, v in STATE.items() if not k.endswith("num_batches_tracked")},
        # Something that looks better stands beside what is complete.
        {"model": STATE, "ema": {}},
        {"model": STATE, "ema": {"decay": 0.999, "updates": 3}},
        {"model": STATE, "model_ema": {k: v for k, v in STATE.items() if "fc" not in k}},
        {"state_dict": {"a": torch.zeros(1)}, "net": STATE},
        {"model": None, "best_model": STATE, "optimizer": {"state": {0: {"m": torch.ones(3)}}}},
        {"models": [STATE]},
        {"checkpoint": {"model": {"state_dict": STATE}}},
        {"callbacks": {"EMA": {"state": prefixed(STATE, "model.")}}, "state_dict": {}},
        # What a loss, a metric or a whole other network keeps.
        {"state_dict": {**prefixed(STATE, "model."), "criterion.weight": torch.ones(3)}},
        {"state_dict": {**prefixed(STATE, "net."), "val_acc.correct": torch.tensor(3)}},
        {**STATE, "loss_fn.pos_weight": torch.ones(3), "train_metrics.total": torch.tensor(1)},
        {**prefixed(STATE, "student."), "teacher.stem.weight": torch.ones(5)},
    ],
)
def test_wrappers_and_prefixes(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    loaded = model(2)
    load_weights(loaded, tmp_path / "weights.pth")
    assert same(loaded, model(1))


@pytest.mark.parametrize(
    "beside",
    [
        {"model": model(3).state_dict(), "model_ema": STATE},
        {"state_dict_ema": STATE, "state_dict": model(3).state_dict()},
        {"model": model(3).state_dict(), "best_model": STATE},
        {"student": prefixed(model(3).state_dict(), "module."), "teacher": STATE},
        {**prefixed(model(3).state_dict(), "online_model."), **prefixed(STATE, "ema_model.")},
        {"init": model(3).state_dict(), "model": STATE},
    ],
)
def test_of_several_complete_sets_averaged_then_best_then_usual_ones_come_first(
    beside: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(beside, tmp_path / "w.pth")
    loaded, notes = model(2), list[str]()
    load_weights(loaded, tmp_path / "w.pth", note=notes.append)
    assert same(loaded, model(1))
    assert len(notes) == 1 and " taken (averaged, then best first), not " in notes[0]


def test_two_sets_that_no_rule_tells_apart_are_refused(tmp_path: Path) -> None:
    torch.save({"first": STATE, "second": model(3).state_dict()}, tmp_path / "two.pth")
    with pytest.raises(MldrError, match="several complete sets of weights, first and second: save"):
        load_weights(model(2), tmp_path / "two.pth")
    torch.save({"first": STATE, "second": dict(STATE)}, tmp_path / "same.pth")
    load_weights(model(2), tmp_path / "same.pth")


@pytest.mark.parametrize(
    "name", ["w.PTH", "w.Pt", "w.BIN", "w.ckpt", "w.pth.tar", "w", "w.safetensors"]
)
def test_the_content_decides_not_the_suffix(name: str, tmp_path: Path) -> None:
    torch.save({"model": STATE}, tmp_path / name)
    loaded = model(2)
    load_weights(loaded, tmp_path / name)
    assert same(loaded, model(1))
    save_file(STATE, tmp_path / name)
    loaded = model(2)
    load_weights(loaded, tmp_path / name)
    assert same(loaded, model(1))


class Colour(enum.Enum):
    RED = 1


class Settings(dict[str, int]):
    """As EasyDict and its like: a dict of its own class."""


BESIDE: dict[str, Any] = {
    "numpy scalar": np.float64(70.1),
    "numpy array": np.arange(3),
    "path": Path("data"),
    "command line": argparse.Namespace(data=Path("data"), device=torch.device("cpu")),
    "date": datetime.datetime(2024, 1, 2),
    "enum": Colour.RED,
    "defaultdict": collections.defaultdict(list, a=[1]),
    "dict of its own class": Settings(a=1),
    "range": range(3),
    "function": nn.functional.relu,
    "module": nn.Linear(2, 2),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", BESIDE)
def test_objects_beside_the_weights_do_no_harm(kind: str, legacy: bool, tmp_path: Path) -> None:
    if legacy and kind in ("range", "module"):
        pytest.skip("PyTorch before 1.6 kept these in its own way: refused in one line")
    torch.save(
        {"model": STATE, "beside": BESIDE[kind]},
        tmp_path / "w.pth",
        _use_new_zipfile_serialization=not legacy,
    )
    loaded = model(2)
    load_weights(loaded, tmp_path / "w.pth")
    assert same(loaded, model(1))


def test_a_whole_model_is_read_without_its_code(tmp_path: Path) -> None:
    torch.save({"ema": model(1), "epoch": 3}, tmp_path / "w.pt")
    loaded = model(2)
    load_weights(loaded, tmp_path / "w.pt")
    assert same(loaded, model(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_becomes_the_models(dtype: torch.dtype, tmp_path: Path) -> None:
    other = {k: v.to(dtype) if v.is_floating_point() else v for k, v in STATE.items()}
    torch.save(other, tmp_path / "w.pth")
    loaded = model(2)
    load_weights(loaded, tmp_path / "w.pth")
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, other[name].to(STATE[name].dtype))


def spoiled(kind: str) -> Tensor:
    weight = STATE["fc.weight"].clone()
    if kind == "NaN":
        weight[0, 0] = float("nan")
    elif kind == "infinity":
        weight[1, 2] = float("inf")
    elif kind == "float64":
        return weight.double() * 1e300
    elif kind == "sparse":
        return weight.to_sparse()
    elif kind == "qint8":
        return torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
    else:
        return weight.to(getattr(torch, kind))
    return weight


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("NaN", "holds NaN: training diverged"),
        ("infinity", "holds infinity: float32 overflowed"),
        ("float64", "holds infinity: float64 overflowed"),
        ("sparse", "is sparse"),
        ("int8", "is int8, not floating point"),
        ("uint8", "is uint8, not floating point"),
        ("int64", "is int64, not floating point"),
        ("bool", "is bool, not floating point"),
        ("qint8", "is qint8, not floating point"),
        ("complex64", "is complex64, not floating point"),
    ],
)
def test_tensors_that_are_no_weights_are_refused_by_name(
    kind: str, told: str, tmp_path: Path
) -> None:
    torch.save({"model": {**STATE, "fc.weight": spoiled(kind)}}, tmp_path / "w.pth")
    loaded = model(2)
    with pytest.raises(MldrError, match=rf"w\.pth are not usable: fc\.weight of model {told}"):
        load_weights(loaded, tmp_path / "w.pth")
    assert same(loaded, model(2))


def test_nan_outside_the_model_does_not_matter(tmp_path: Path) -> None:
    spoilt = {**STATE, "fc.weight": torch.full((9, 96), float("nan")), "fc.bias": torch.zeros(9)}
    save_file(spoilt, tmp_path / "w.safetensors")
    load_weights(model(2), tmp_path / "w.safetensors", fresh_head=True)


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
    """What a malicious checkpoint carries: a call that is made when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, Any]:
        return self.call, self.arguments


def test_no_code_of_a_checkpoint_is_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save(
        {"model": STATE, "hook": Payload(eval, f"open({str(trace)!r}, 'w')")}, tmp_path / "w"
    )
    load_weights(model(2), tmp_path / "w")
    torch.save({"model": STATE, "hook": Payload(os.system, f"touch {trace}")}, tmp_path / "w.pth")
    with pytest.raises(MldrError, match=r"never loaded \(it refers to posix\.system\): save its"):
        load_weights(model(2), tmp_path / "w.pth")
    assert not trace.exists()


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


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("w.pth", b"", "is empty"),
        ("w.pth", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        ("w.pth", b"<!DOCTYPE html><html>", "is a web page, not weights"),
        ("w.h5", b"\x89HDF\r\n\x1a\n" + bytes(40), "is an HDF5 file"),
        ("w.pth.gz", b"\x1f\x8b\x08" + bytes(40), "is compressed with gzip: unpack it"),
        ("model.safetensors.index.json", b'{"weight_map": {}}', "in several files: merge them"),
        ("w.onnx", b"\x08\x0a\x12\x07pytorch" + bytes(40), r"is no file of weights: give a \.saf"),
        ("w.pth", b"PK\x03\x04" + bytes(60), "is not a readable file of weights"),
    ],
)
def test_what_people_take_for_weights(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MldrError, match=told) as refusal:
        load_weights(model(2), tmp_path / name)
    assert "\n" not in str(refusal.value)


def test_a_program_of_torchscript_is_told(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(tmp_path / "w.pt"))
    with pytest.raises(MldrError, match="it is a TorchScript program; save its tensors alone"):
        load_weights(model(2), tmp_path / "w.pt")


def test_a_refusal_says_what_the_file_holds(tmp_path: Path) -> None:
    near = prefixed({k: v for k, v in STATE.items() if k != "bn1.bias"}, "module.")
    torch.save({"model": near, "ema": {}, "epoch": 3, "optimizer": {}}, tmp_path / "w.pth")
    with pytest.raises(MldrError) as refusal:
        load_weights(model(2), tmp_path / "w.pth")
    total = sum(not k.endswith("num_batches_tracked") for k in STATE)
    assert (
        f"{total - 1} of its {total} tensors are in model.module; missing: bn1.bias; the file "
        in (str(refusal.value))
    )
    assert f"model ({len(STATE) - 1} tensors), ema (no tensors), epoch, optimizer (no" in str(
        refusal.value
    )


def test_another_network_that_has_all_our_names_is_refused(tmp_path: Path) -> None:
    """ResNet-34 has every tensor of ResNet-18, in the same shapes."""
    for content in ((deep := timm.create_model("resnet34").state_dict()), prefixed(deep, "model.")):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(MldrError, match=r"not in the model: layer1\.2"):
            load_weights(timm.create_model("resnet18"), tmp_path / "w.pth")


def test_weights_without_a_classifier_need_leave(tmp_path: Path) -> None:
    bare = {k: v for k, v in STATE.items() if not k.startswith("fc")}
    torch.save({"teacher": prefixed(bare, "backbone.")}, tmp_path / "w.pth")
    with pytest.raises(MldrError, match=r"missing: fc\.weight, fc\.bias"):
        load_weights(model(2), tmp_path / "w.pth")
    loaded = model(2)
    load_weights(loaded, tmp_path / "w.pth", fresh_head=True)
    assert torch.equal(loaded.fc.weight, model(2).fc.weight)
    assert torch.equal(loaded.conv1[0].weight, STATE["conv1.0.weight"])


def test_nothing_to_load(tmp_path: Path) -> None:
    with pytest.raises(MldrError, match=r"there are no weights at .*nowhere\.pth"):
        load_weights(model(2), tmp_path / "nowhere.pth")
    with pytest.raises(MldrError, match=r"there are no weights at .*weights\.safetensors"):
        load_weights(model(2), tmp_path)
    save_file(STATE, tmp_path / "model.safetensors")
    with pytest.raises(MldrError, match=r"the folder holds model\.safetensors: name the file"):
        load_weights(model(2), tmp_path)
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(MldrError, match="holds no tensors by name, only epoch"):
        load_weights(model(2), tmp_path / "empty.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(MldrError, match="holds no tensors by name, only a list"):
        load_weights(model(2), tmp_path / "list.pth")
