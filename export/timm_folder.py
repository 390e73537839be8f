"""``timm/``: the student as timm loads it and the Hub keeps it, with no file of ours.

    timm.create_model("local-dir:BUNDLE/timm", pretrained=True)

timm's own writer makes the folder, its own loader proves it: the same tensors, and the same logits
of the golden images, bit for bit. Where that does not hold there is no folder, and a reason.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle.atomic import Unwritable, write_json
from ..bundle.manifest import describe
from ..bundle.preprocess import Floats
from ..bundle.tensors import system_error
from .torch_reference import torch_reference
from .trained_student import Student

if TYPE_CHECKING:
    from torch import nn

FOLDER = "timm"
CONFIG, TENSORS = f"{FOLDER}/config.json", f"{FOLDER}/model.safetensors"
# What timm says of the published weights of the architecture; these are others.
_PUBLISHED = ("license", "origin_url", "paper_ids", "paper_name", "notes", "tag", "description")


def write_timm_folder(folder: Path, student: Student, inputs: Floats) -> str | None:
    """Write ``timm/`` into the bundle ``folder``; None, or why there can be none.

    ``inputs`` [K, 3, H, W] are those that timm's model is proven on.
    """
    reason = _unknown(student)
    if reason is not None:
        return reason
    from safetensors import SafetensorError
    from timm.models import save_for_hf

    from ..models.evaluation import one_line

    settings = {"label_names": student.record.classes, "pretrained_cfg": _data_config(student)}
    try:
        save_for_hf(student.model, str(folder / FOLDER), settings, safe_serialization=True)
        _drop_published(folder / CONFIG)
        reason = timm_difference(folder, student.model, inputs)
    except SafetensorError as error:  # a full disk
        raise Unwritable(folder / TENSORS, system_error(error)) from error
    except (RuntimeError, ValueError) as error:  # tensors shared by layers, values not of JSON
        reason = f"timm cannot write this model ({one_line(error)})"
    if reason is not None:
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
    return reason


def timm_fields(folder: Path, refusal: str | None) -> dict[str, Any]:
    """What the manifest says of the folder, without its card."""
    files = [] if refusal is not None else [describe(folder, CONFIG), describe(folder, TENSORS)]
    return {"timm_files": files, "timm_refusal": refusal}


def timm_difference(folder: Path, model: nn.Module, inputs: Floats) -> str | None:
    """What timm's model from the bundle ``folder`` has otherwise than ``model``; None: nothing."""
    import numpy as np
    import timm
    import torch

    from ..models.evaluation import one_line

    try:
        loaded = timm.create_model(f"local-dir:{folder / FOLDER}", pretrained=True)
    except Exception as error:  # whatever an architecture raises at an argument that it lacks
        return f"timm cannot rebuild it ({one_line(error)})"
    tensors, expected = loaded.state_dict(), model.state_dict()
    if tensors.keys() != expected.keys():
        names = sorted(tensors.keys() ^ expected.keys())
        return f"timm builds other layers ({', '.join(names[:3])})"
    unlike = [name for name, tensor in expected.items() if not torch.equal(tensors[name], tensor)]
    if unlike:
        return f"timm loads other values of {', '.join(unlike[:3])}"
    with torch_reference(loaded) as ours, torch_reference(model) as reference:
        answers, logits = ours(inputs), reference(inputs)
    if not np.array_equal(answers, logits):
        return f"timm's model gives other logits, by {np.abs(answers - logits).max():.2g}"
    return None


def _unknown(student: Student) -> str | None:
    """Why timm alone cannot build the student, where that is known beforehand."""
    import timm

    name = str(student.record.model["name"])
    if not timm.models.model_entrypoint(name.partition(".")[0]).__module__.startswith("timm."):
        return f"timm does not have {name}"
    if student.record.model.get("stem") == "small":
        return f'timm has no argument for stem = "small" of {name}'
    if student.record.preprocessing.channel_order != "rgb":
        return "timm feeds channels in the order RGB"
    return None


def _data_config(student: Student) -> dict[str, Any]:
    """The preprocessing in timm's words."""
    spec = student.record.preprocessing
    size = (3, *spec.size)
    return {
        "input_size": size,
        "test_input_size": size,
        "mean": spec.mean,
        "std": spec.std,
        "interpolation": spec.interpolation,
        "crop_pct": spec.crop_fraction,
        "test_crop_pct": spec.crop_fraction,
        "crop_mode": "squash" if spec.resize == "squash" else "center",
        "num_classes": student.record.num_classes,
    }


def _drop_published(path: Path) -> None:
    """Take out of timm's config what belongs to other weights."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for key in _PUBLISHED:
        content["pretrained_cfg"].pop(key, None)
    write_json(path, content)
