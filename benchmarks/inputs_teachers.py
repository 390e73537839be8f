"""Weights from elsewhere: wrapped, prefixed, damaged, or of other classes."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from inputs_situation import Situation, command, digits_run, photos

OK = r"^taken, all weights"
REFUSED = "refused"
MODEL = "resnet10t"


def weights(make: Callable[[Mapping[str, Any]], Any], suffix: str = ".pth") -> Callable[[], str]:
    """Whether the weights that ``make`` wraps arrive in another model."""

    def probe() -> str:
        import timm
        import torch

        from mldr_deploy.errors import MldrError
        from mldr_deploy.models.weights import load_weights

        torch.manual_seed(0)
        trained = timm.create_model(MODEL, num_classes=10).state_dict()
        torch.save(make(trained), f"x{suffix}")
        model = timm.create_model(MODEL, num_classes=10)
        try:
            load_weights(model, f"x{suffix}")
        except MldrError as error:
            return f"refused: {error}"
        same = [bool(torch.equal(v, trained[k])) for k, v in model.state_dict().items()]
        return f"taken, {'all weights' if all(same) else f'{same.count(False)} of them others'}"

    return probe


def prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in values.items()}


def with_numpy(values: Mapping[str, Any]) -> Any:
    return {"model": values, "best_acc": np.float64(70.1), "history": [np.float32(1)]}


def spoilt(
    spoil: Callable[[Any], Any], name: str = "fc.weight"
) -> Callable[[Mapping[str, Any]], Any]:
    return lambda values: {**values, name: spoil(values[name].clone())}


def with_nan(tensor: Any) -> Any:
    tensor[0, 0] = float("nan")
    return tensor


def with_infinity(tensor: Any) -> Any:
    tensor[0, 0] = float("inf")
    return tensor


def quantised(values: Mapping[str, Any]) -> Any:
    import torch

    return {k: (v * 100).to(torch.int8) if v.is_floating_point() else v for k, v in values.items()}


WRAPPED: list[tuple[str, Callable[[Mapping[str, Any]], Any]]] = [
    (
        "model_state_dict beside epoch and optimiser",
        lambda d: {"epoch": 1, "model_state_dict": d, "optimizer_state_dict": {}},
    ),
    ("net beside acc", lambda d: {"net": d, "acc": 90.0}),
    ("network", lambda d: {"network": d}),
    ("model beside an empty ema", lambda d: {"model": d, "ema": {}}),
    (
        "model beside counters called ema",
        lambda d: {"model": d, "ema": {"decay": 0.999, "updates": 3}},
    ),
    ("model beside half an ema", lambda d: {"model": d, "ema": dict(list(d.items())[:9])}),
    ("numpy scalars beside it", with_numpy),
    (
        "args that hold a Path",
        lambda d: {"state_dict": d, "args": argparse.Namespace(data=Path("/d"))},
    ),
    (
        "Lightning, model., with class weights of its criterion",
        lambda d: {"state_dict": {**prefixed("model.", d), "criterion.weight": d["fc.bias"]}},
    ),
    ("Lightning, net.", lambda d: {"state_dict": prefixed("net.", d)}),
    ("DDP, module.", lambda d: prefixed("module.", d)),
    ("torch.compile, _orig_mod.", lambda d: {"model": prefixed("_orig_mod.", d)}),
    ("module.model. in state_dict", lambda d: {"state_dict": prefixed("module.model.", d)}),
]


def class_order(weights_in_order: bool) -> Callable[[], str]:
    """Folders 1, 2, 10: as text 1, 10, 2; timm numbers them 1, 2, 10."""

    def probe() -> str:
        from safetensors.torch import load_file, save_file

        photos(("1", "2", "10"), 60, 15)
        Path("r.toml").write_text(
            'name="r"\n[data]\nsource="folder:photos"\nimage_size=32\nbatch_size=16\n[teacher]\n'
            f'name="{MODEL}"\ntrain={{epochs=6}}\naugment={{flip=0.0}}\n[student]\n'
            'name="edgenext_xx_small"\n[method]\nname="kd"\n[train]\nepochs=1\n[optimizer]\n'
            'name="adamw"\nlr=0.003\n[augment]\nflip=0.0\n[export]\ngolden=8\nlatency_seconds=0\n',
            encoding="utf-8",
        )
        done = command("train-teacher", "--recipe", "r.toml", "--out", "t", "-q")
        if not done.startswith("exit 0"):
            return done
        values = load_file("t/teacher/trained/weights.safetensors")
        order = [0, 1, 2] if weights_in_order else [0, 2, 1]
        values["fc.weight"] = values["fc.weight"][order].contiguous()
        values["fc.bias"] = values["fc.bias"][order].contiguous()
        save_file(values, "w.safetensors")
        return command(
            "distill",
            "--recipe",
            "r.toml",
            "--set",
            "teacher.weights=w.safetensors",
            "--out",
            "run",
            "-q",
        )

    return probe


def nan_teacher() -> str:
    from safetensors.torch import load_file, save_file

    done = digits_run()
    if not Path("run/teacher/trained").is_dir():
        return done
    values = load_file("run/teacher/trained/weights.safetensors")
    values["fc.weight"][0, 0] = float("nan")
    save_file(values, "nan.safetensors")
    shutil.rmtree("run")
    return command(
        "distill",
        "--set",
        "train.epochs=1",
        "--set",
        "teacher.weights=nan.safetensors",
        "--out",
        "run",
        "-q",
    )


SITUATIONS = [
    *(Situation("checkpoints", name, OK, weights(make)) for name, make in WRAPPED),
    Situation("checkpoints", "suffix .PTH", OK, weights(dict, ".PTH")),
    Situation("checkpoints", "suffix .ckpt", OK, weights(dict, ".ckpt")),
    Situation("checkpoints", "int8 tensors", r"refused.*int8", weights(quantised)),
    Situation(
        "checkpoints",
        "NaN in the head",
        r"refused.*fc\.weight.*NaN|refused.*NaN.*fc\.weight",
        weights(spoilt(with_nan)),
    ),
    Situation(
        "checkpoints",
        "infinity in the head",
        r"refused.*fc\.weight",
        weights(spoilt(with_infinity)),
    ),
    Situation(
        "checkpoints",
        "other entries only",
        r"refused.*optimizer",
        weights(lambda d: {"optimizer": {"lr": 1}}),
    ),
    Situation("teachers", "its classes in our order", r"exit 0", class_order(True)),
    Situation(
        "teachers",
        "its classes in natural order 1, 2, 10",
        r"exit [12];.*(order|permut)",
        class_order(False),
    ),
    Situation("teachers", "a weight that is NaN", r"exit [12];.*fc\.weight", nan_teacher),
]
