"""Every set of tensors in a checkpoint's content that could be a model's weights.

Training programs wrap weights in entries (`state_dict`, `model`, `ema`, ...) and put prefixes
before names (`module.`, `_orig_mod.`, `net.`, ...). No list of them is kept: each mapping with
tensors is a set, and so is what lies below each prefix that enough of its names share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .checkpoint_file import Inert

State = dict[str, Tensor]

_DEEPEST = 8  # containers inside containers
# Which of several complete sets is taken: averaged ones, the best, the usual names, any other.
_AVERAGED = {"ema", "averaged", "average", "swa", "shadow", "teacher"}
_BEST = {"best"}
_USUAL = {"state_dict", "model_state_dict", "model_state", "model", "module", "network", "net"}
# Losses and metrics keep tensors of their own beside the network's.
_BESIDE = re.compile(r"\w*(criterion|loss|metric|acc(uracy)?)\w*\.", re.IGNORECASE)


@dataclass(frozen=True)
class WeightSet:
    """Tensors by name, and the entries and prefixes that lead to them."""

    path: tuple[str, ...]
    state: State

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return ".".join(self.path) or "the top level"

    @property
    def rank(self) -> int:
        """Less is better."""
        words = {word for part in self.path for word in re.findall("[a-z]+", part.lower())}
        if words & _AVERAGED:
            return 0
        if words & _BEST:
            return 1
        return 2 if self.path == () or self.path[0] in _USUAL else 3


def weight_sets(content: Any, least: int) -> list[WeightSet]:
    """The sets in `content`, outermost first; prefixes are those of `least` tensors or more."""
    return [
        WeightSet((*path, *prefix), below)
        for path, state in _states(content, (), _DEEPEST)
        for prefix, below in _below_prefixes(state, (), least)
    ]


def without_losses(state: State, model_state: Mapping[str, Tensor]) -> State:
    """`state` without the tensors of losses and metrics, unless the model has such names."""
    return {k: v for k, v in state.items() if k in model_state or not _BESIDE.match(k)}


def _states(content: Any, path: tuple[str, ...], deepest: int) -> Iterator[tuple[Any, State]]:
    if not deepest:
        return
    module = _module_state(content)
    if module is not None:
        yield path, module
        return
    if isinstance(content, (list, tuple)):
        content = dict(enumerate(content))
    if not isinstance(content, Mapping):
        return
    state = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if state:
        yield path, state
    for name, value in content.items():
        yield from _states(value, (*path, str(name)), deepest - 1)


def _below_prefixes(
    state: State, prefix: tuple[str, ...], least: int
) -> Iterator[tuple[tuple[str, ...], State]]:
    yield prefix, state
    groups: dict[str, State] = {}
    for name, tensor in state.items():
        first, dot, suffix = name.partition(".")
        if dot:
            groups.setdefault(first, {})[suffix] = tensor
    for first, below in groups.items():
        if len(below) >= least:
            yield from _below_prefixes(below, (*prefix, first), least)


def _module_state(content: Any) -> State | None:
    """The state dict of a whole module that was saved as an object; None for anything else."""
    inner = content.state if isinstance(content, Inert) else None
    if not isinstance(inner, Mapping) or "_modules" not in inner:
        return None
    volatile = inner.get("_non_persistent_buffers_set") or ()
    tensors = {**inner.get("_parameters", {}), **inner.get("_buffers", {})}
    state = {k: v for k, v in tensors.items() if isinstance(v, Tensor) and k not in volatile}
    for name, child in inner["_modules"].items():
        below = _module_state(child) or {}
        state.update({f"{name}.{k}": v for k, v in below.items()})
    return state
