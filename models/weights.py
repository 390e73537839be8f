"""Weights from files: safetensors or PyTorch checkpoints, unwrapped, checked name by name."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import MldrError

# Where training programs put the weights inside a checkpoint, the best first.
_WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model", "module", "network")
# What wrappers such as DDP, torch.compile and Lightning put before every name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "student.", "teacher.")


def load_weights(model: nn.Module, source: str | Path, *, fresh_head: bool = False) -> None:
    """Load `source` into `model`; every tensor must be there and fit.

    Raises:
        MldrError: no such file, an unreadable or unsafe one, or names and shapes that differ.
    """
    state = read_state(Path(source))
    state = strip_prefixes(state, set(model.state_dict()))
    own = model.state_dict()
    wrong = [
        f"{k} {list(state[k].shape)} instead of {list(v.shape)}"
        for k, v in own.items()
        if k in state and state[k].shape != v.shape
    ]
    missing = [k for k in own if k not in state]
    extra = [k for k in state if k not in own]
    if wrong or missing or extra:
        raise MldrError(f"{source} does not fit: {wrong[:5]} {missing[:5]} {extra[:5]}")
    model.load_state_dict(state)


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a file, or from a folder with `weights.safetensors`."""
    if path.is_dir():
        path = path / "weights.safetensors"
    if not path.is_file():
        raise MldrError(f"no weights at {path}")
    if path.suffix == ".safetensors":
        return load_file(path)
    with torch.serialization.safe_globals([argparse.Namespace]):
        return _unwrap(torch.load(path, map_location="cpu", weights_only=True))


def _unwrap(content: Any) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            return _unwrap(content[key])
    return {k: v for k, v in content.items() if isinstance(v, Tensor)}


def strip_prefixes(state: dict[str, Tensor], names: set[str]) -> dict[str, Tensor]:
    """Take wrapper prefixes off names that all bear one, as long as the model has none such."""
    for prefix in _PREFIXES:
        if state and all(k.startswith(prefix) for k in state) and not set(state) <= names:
            return strip_prefixes({k[len(prefix) :]: v for k, v in state.items()}, names)
    return state
