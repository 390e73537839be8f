"""The architecture family of a model, told from how its modules mix positions.

Positions are mixed by content (queries against keys: a transformer, hybrids included), by a
state that is carried along them or a gated convolution that stands in for it (a Mamba), by a
linear map over all of them (an MLP), or by convolution and pooling (a CNN). Names of models play
no part; names of parameters do, because that is where authors write "query" and "key".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from timm.models.mlp_mixer import SpatialGatingUnit
from torch import nn

from .listing import Family

# What holds queries and keys: one joint projection, or one of each.
_JOINT = re.compile(r"^(to_|w_?)?(qkv|qk|qkvs)(_?proj|_conv|_dwconv)?$")
_QUERY = re.compile(r"^(to_|w_?)?(q|query)(_?proj|_conv)?$")
_KEY = re.compile(r"^(to_|w_?)?(k|kv|key|key_value)(_?proj|_conv)?$")


def family(model: nn.Module) -> Family:
    """Tell "cnn", "transformer", "mlp" or "mamba" from the modules of `model`.

    Squeeze-and-excitation and its kin weigh channels and are not attention in this sense.
    """
    modules = list(_trunk(model))
    if any(_attends(m) for m in modules):
        return "transformer"
    if any(_scans(m) or _gates_convolution(m) for m in modules):
        return "mamba"
    if any(_maps_tokens(m) for m in modules):
        return "mlp"
    return "cnn"


def _trunk(module: nn.Module) -> Iterator[nn.Module]:
    """The module and those below it, but for attention that only pools the finished features."""
    if "AttentionPool" in type(module).__name__:
        return
    yield module
    for child in module.children():
        yield from _trunk(child)


def _attends(module: nn.Module) -> bool:
    """Heads, or projections of queries and keys."""
    if isinstance(getattr(module, "num_heads", None), int):
        return True
    names = _names(module)
    joint = any(_JOINT.match(n) for n in names)
    return joint or (any(map(_QUERY.match, names)) and any(map(_KEY.match, names)))


def _scans(module: nn.Module) -> bool:
    """A state-space model (transition A, skip D) or a recurrent layer."""
    names = _names(module)
    return isinstance(module, nn.RNNBase) or ("D" in names and bool({"A", "A_log"} & names))


def _gates_convolution(module: nn.Module) -> bool:
    """MambaOut's mixer: fc1 gives a gate and a value, part of it convolved depthwise, then fc2."""
    parts: dict[str, Any] = dict(module.named_children())
    first, last = parts.get("fc1"), parts.get("fc2")
    if not isinstance(first, nn.Linear) or not isinstance(last, nn.Linear):
        return False
    depthwise = any(isinstance(p, nn.Conv2d) and p.groups > 1 for p in parts.values())
    return depthwise and first.out_features == 2 * last.in_features


def _maps_tokens(module: nn.Module) -> bool:
    """Mixer's and ResMLP's token layers, gMLP's spatial gating unit."""
    gates = isinstance(module, SpatialGatingUnit)
    return gates or bool({"mlp_tokens", "linear_tokens"} & _names(module))


def _names(module: nn.Module) -> set[str]:
    parameters = (name for name, _ in module.named_parameters(recurse=False))
    return {*parameters, *(name for name, _ in module.named_children())}
