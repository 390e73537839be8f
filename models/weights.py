"""Weights from files: safetensors or PyTorch checkpoints, unwrapped and checked name by name."""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import MldrError
from .evaluation import MISFITS, one_line

State = dict[str, Tensor]

# Where training programs keep the weights inside a checkpoint, averaged ones first.
_WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model", "module", "network")
# What DDP, torch.compile, Lightning and distillation programs put before every name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "student.", "teacher.")
# Counters that files may have or lack without meaning.
_COUNTERS = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")


@dataclass(frozen=True)
class Differences:
    """How a file's tensors differ from a model's; false when they agree; prints itself."""

    shapes: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.shapes or self.missing or self.unknown)

    def __str__(self) -> str:
        parts = {
            "shapes differ": self.shapes,
            "missing": self.missing,
            "not in the model": self.unknown,
        }
        return "; ".join(f"{name}: {_listed(found)}" for name, found in parts.items() if found)


def load_weights(model: nn.Module, source: str | Path, *, fresh_head: bool = False) -> None:
    """Load `source` into `model`: a .safetensors, .pth or .pt file, or what training left.

    Names that wrappers prefixed are stripped. Where names or shapes still differ, timm's own
    conversion for that architecture is tried: official checkpoints, and position embeddings
    made for another image size. With `fresh_head` a classifier for another number of classes
    is left out and the model's own, random one stays.

    Raises:
        MldrError: no such file; one that is damaged or holds more than tensors; or tensors whose
            names or shapes differ from the model's, which are listed.
    """
    path = Path(source).expanduser()
    own = model.state_dict()
    state = strip_prefixes(read_state(path), set(own))
    for candidate in (state, _converted(model, state)):
        fitting = _without_misfit_head(model, own, candidate) if fresh_head else candidate
        if not differences(own, fitting):
            model.load_state_dict({k: v for k, v in fitting.items() if k in own}, strict=False)
            return
    raise MldrError(f"weights {path} do not fit {type(model).__name__}: {differences(own, state)}")


def read_state(path: Path) -> State:
    """Tensors by name from a file, or from the folder of a training run or its `trained/`.

    Raises:
        MldrError: nothing there, or not a file of tensors.
    """
    if path.is_dir():
        inner = path / "trained"
        path = (inner if inner.is_dir() else path) / "weights.safetensors"
    if not path.is_file():
        raise MldrError(f"there are no weights at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix in (".pth", ".pt", ".bin", ".ckpt", ".tar"):
            # Vim's checkpoints hold their command line; nothing else but tensors is let in.
            with torch.serialization.safe_globals([argparse.Namespace]):
                return _unwrap(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        raise MldrError(
            f"{path} is damaged or holds Python objects besides tensors, which are never loaded; "
            "save the bare state dict as .safetensors"
        ) from error
    except (SafetensorError, RuntimeError, OSError, EOFError, KeyError) as error:
        raise MldrError(f"{path} is not a readable file of weights: {one_line(error)}") from error
    raise MldrError(f"{path}: weights are read from .safetensors, .pth and .pt files")


def strip_prefixes(state: State, names: set[str]) -> State:
    """Take prefixes that all names of `state` bear off them, unless the model's `names` do too."""
    state = {k: v for k, v in state.items() if not k.endswith(_COUNTERS) or k in names}
    if not state or set(state) <= names:
        return state
    for prefix in _PREFIXES:
        if all(k.startswith(prefix) for k in state):
            return strip_prefixes({k[len(prefix) :]: v for k, v in state.items()}, names)
    return state


def differences(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Differences:
    """Compare the model's tensors `own` with those of a file, counters left aside."""
    return Differences(
        shapes=tuple(
            f"{k} {list(state[k].shape)} where the model has {list(v.shape)}"
            for k, v in own.items()
            if k in state and state[k].shape != v.shape
        ),
        missing=tuple(k for k in own if k not in state and not k.endswith(_COUNTERS)),
        unknown=tuple(k for k in state if k not in own and not k.endswith(_COUNTERS)),
    )


def _unwrap(content: Any) -> State:
    """The tensors of a checkpoint, whatever it wraps them in."""
    if not isinstance(content, Mapping):
        raise RuntimeError("it holds no dictionary of tensors")
    for key in _WRAPPERS:
        if isinstance(content.get(key), Mapping):
            return _unwrap(content[key])
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if not state:
        raise RuntimeError(f"it holds no tensors, only {_listed(sorted(map(str, content)))}")
    return state


def _converted(model: nn.Module, state: State) -> State:
    """`state` through timm's conversion for this architecture, or as it is when that fails."""
    module = sys.modules[type(model).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return dict(convert(dict(state), model))
    except MISFITS:
        return state


def _without_misfit_head(model: nn.Module, own: State, state: State) -> State:
    """`state` with the model's own classifier wherever the file's has another shape."""
    published: dict[str, Any] = dict(getattr(model, "pretrained_cfg", None) or {})
    heads = published.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    replaced = {
        k: v
        for k, v in own.items()
        if k.startswith(tuple(f"{h}." for h in heads)) and k in state and state[k].shape != v.shape
    }
    return {**state, **replaced}


def _listed(names: Sequence[str], limit: int = 5) -> str:
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
