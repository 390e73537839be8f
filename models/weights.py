"""Weights from files into models: the complete set of a checkpoint, checked name by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MldrError
from .checkpoint_file import read_content
from .classifier import head_names
from .evaluation import MISFITS
from .weight_sets import State, WeightSet, weight_sets, without_losses

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")  # that a hint names
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
        return "; ".join(
            f"{name}: {_listed(tensors)}" for name, tensors in parts.items() if tensors
        )


@dataclass(frozen=True)
class _Fit:
    """A set of the file, and its tensors under the model's names."""

    source: WeightSet
    state: State


def load_weights(
    model: nn.Module,
    source: str | Path,
    *,
    fresh_head: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Load `source` into `model`: a file of weights, or the folder that training left.

    Every entry and prefix of a checkpoint is looked into; a set that fits the model whole is
    taken. Where several do, averaged weights come first, then the best, then those under usual
    names, and `note` is told. Where none does, timm's own conversion for that architecture is
    tried: official checkpoints, and position embeddings made for another image size. With
    `fresh_head` a classifier for another number of classes is left out and the model's own,
    random one stays.

    Raises:
        MldrError: no such file; a damaged one; no set that fits, with what the file holds and how
            the nearest set differs; two that fit equally well; or tensors that are no weights
            (NaN, infinity, integers), by name.
    """
    path = _file(Path(source).expanduser())
    model_state = model.state_dict()
    content = read_content(path)
    sets = weight_sets(content, least=max(1, len(model_state) // 2))
    if not sets:
        raise MldrError(f"{path} holds no tensors by name, only {_described(content)}")
    fits = _fits(model, model_state, sets, fresh_head)
    if not fits:
        raise MldrError(_misfit(path, model, model_state, sets, content))
    fit = _best_fit(fits, path, note)
    _require_numbers(fit, model_state, path)
    model.load_state_dict({k: v for k, v in fit.state.items() if k in model_state}, strict=False)


def differences(model_state: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Differences:
    """Compare the tensors of a model and of a file; counters do not count."""
    return Differences(
        shapes=tuple(
            f"{k} {list(state[k].shape)} where the model has {list(v.shape)}"
            for k, v in model_state.items()
            if k in state and state[k].shape != v.shape
        ),
        missing=tuple(k for k in model_state if k not in state and not k.endswith(_COUNTERS)),
        unknown=tuple(k for k in state if k not in model_state and not k.endswith(_COUNTERS)),
    )


def _file(path: Path) -> Path:
    """The file that `path` means: itself, or the one in the folder of a training run."""
    if not path.is_dir():
        if not path.is_file():
            raise MldrError(f"there are no weights at {path}")
        return path
    inner = path / "trained"
    file = (inner if inner.is_dir() else path) / "weights.safetensors"
    if not file.is_file():
        weight_files = sorted(p.name for p in path.glob("*.*") if p.suffix.lower() in _SUFFIXES)
        hint = f"; the folder holds {_listed(weight_files)}: name the file" if weight_files else ""
        raise MldrError(f"there are no weights at {file}{hint}")
    return file


def _fits(
    model: nn.Module, model_state: State, sets: Sequence[WeightSet], fresh_head: bool
) -> list[_Fit]:
    """The sets that fit whole, as they are or else through timm's conversion; the best first."""

    def fitting(convert: Callable[[State], State]) -> Iterator[_Fit]:
        for source in sets:
            state = convert(without_losses(source.state, model_state))
            if fresh_head:
                state = _without_misfit_head(model, model_state, state)
            if not differences(model_state, state):
                yield _Fit(source, state)

    fits = list(fitting(lambda state: state)) or list(fitting(lambda s: _converted(model, s)))
    return sorted(fits, key=lambda fit: fit.source.rank)


def _best_fit(fits: Sequence[_Fit], path: Path, note: Callable[[str], None]) -> _Fit:
    """The first fit. Raises MldrError where another of its rank holds other numbers."""
    first, *alternatives = fits
    for alternative in alternatives:
        if alternative.source.rank == first.source.rank and not _equal_tensors(
            first.state, alternative.state
        ):
            raise MldrError(
                f"{path} holds several complete sets of weights, {first.source.name} and "
                f"{alternative.source.name}: save the one that is meant alone"
            )
    if alternatives:
        passed_over = ", ".join(fit.source.name for fit in alternatives)
        note(
            f"weights {path}: {first.source.name} taken (averaged, then best first), "
            f"not {passed_over}"
        )
    return first


def _equal_tensors(first: State, second: State) -> bool:
    pairs = [(tensor, second[k]) for k, tensor in first.items() if k in second]
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


def _require_numbers(fit: _Fit, model_state: State, path: Path) -> None:
    """Raise MldrError for a tensor that holds no weights in floating point, by its name."""
    for name, model_tensor in model_state.items():
        tensor = fit.state.get(name)
        if tensor is None or not model_tensor.is_floating_point():
            continue
        if fault := _fault(tensor, model_tensor.dtype):
            raise MldrError(f"weights {path} are not usable: {name} of {fit.source.name} {fault}")


def _fault(tensor: Tensor, dtype: torch.dtype) -> str:
    """What is wrong with a tensor that is to become `dtype`; empty where nothing is."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout != torch.strided or tensor.is_meta:
        return "is sparse or has no values: save dense tensors"
    if not tensor.is_floating_point():
        return f"is {kind}, not floating point: give the weights from before quantisation"
    values = tensor.to(dtype)
    if values.isnan().any():
        return "holds NaN: training diverged, or overflowed in half precision; give an earlier one"
    # A single infinite number is a layer's bound that nothing reaches.
    if values.numel() > 1 and values.isinf().any():
        return f"holds infinity: {kind} overflowed; save the weights in float32 or train again"
    return ""


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


def _without_misfit_head(model: nn.Module, model_state: State, state: State) -> State:
    """`state` with the model's own classifier wherever the file's has another shape, or is none."""
    heads = tuple(f"{name}." for name in head_names(model))
    replaced = {
        k: v
        for k, v in model_state.items()
        if k.startswith(heads) and (k not in state or state[k].shape != v.shape)
    }
    return {**state, **replaced}


def _misfit(
    path: Path, model: nn.Module, model_state: State, sets: Sequence[WeightSet], content: Any
) -> str:
    """Why no set fits: how the nearest differs, and what else the file holds."""

    def fitting(source: WeightSet) -> int:
        return sum(
            k in model_state and model_state[k].shape == v.shape for k, v in source.state.items()
        )

    nearest = max(sets, key=lambda source: (fitting(source), -source.rank))
    needed = [k for k in model_state if not k.endswith(_COUNTERS)]
    fit = sum(k in nearest.state and nearest.state[k].shape == model_state[k].shape for k in needed)
    wrapped = "" if nearest.path == () else f"; the file holds {_described(content)}"
    faults = differences(model_state, nearest.state)
    return (
        f"weights {path} do not fit {type(model).__name__}: {fit} of its {len(needed)} tensors are "
        f"in {nearest.name}; {faults}{wrapped}"
    )


def _described(content: Any) -> str:
    """The entries at the top of a checkpoint, and how many tensors are in each."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    entries = []
    for name, value in content.items():
        inside = value.values() if isinstance(value, Mapping) else None
        count = None if inside is None else sum(isinstance(v, Tensor) for v in inside)
        entries.append(str(name) if count is None else f"{name} ({count or 'no'} tensors)")
    return _listed(entries) or "nothing"


def _listed(names: Sequence[str], limit: int = 5) -> str:
    omitted = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {omitted} more" if omitted > 0 else "")
