"""Checkpoints of a run in progress: safetensors and JSON, whole or absent, no teacher inside.

    checkpoints/step-00001234/  student, method, optimizer, best, (ema).safetensors, state.json

The newest one is the state. The one before it stays, in case the newest is damaged: state.json has
the SHA-256 of every file, and its own.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ..bundle.atomic import atomic_folder, sha256
from ..bundle.progress import Progress
from ..bundle.sealed import unsealed, write_sealed
from ..bundle.tensors import write_tensors
from ..errors import MldrError

Tensors = dict[str, Tensor]
STATE = "state.json"


class TrainingState(BaseModel):
    """Everything about a run in progress that is not a tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: str = Field(description="`identity_of` the training; another one may not continue.")
    step: int = Field(ge=0, description="Optimiser steps done.")
    best_epoch: int | None = Field(
        default=None, description="Epoch of the best weights; 0: before the first."
    )
    best_top1: float | None = Field(default=None, description="Its validation top-1, per cent.")
    best_loss: float | None = Field(default=None, description="Its validation loss, nats.")
    metrics_bytes: int = Field(default=0, description="Length of metrics.jsonl at this step.")
    seconds: float = Field(default=0.0, description="Time spent training up to here.")
    files: dict[str, str] = Field(
        default_factory=dict,
        description="SHA-256 of each group's file, by the group's name; of older checkpoints none.",
    )

    @field_validator("best_epoch", "best_top1", "best_loss", mode="before")
    @classmethod
    def _none_of_older_checkpoints(cls, value: Any) -> Any:
        return None if value == -1 else value


def save_checkpoint(
    folder: Path, state: TrainingState, groups: dict[str, Tensors], before: int | None
) -> None:
    """Write ``step-N`` under ``folder``; beside it stays the whole one of step ``before``.

    The others go first, so that there is never need of room for three. Raises MldrError where it
    cannot be written.
    """
    target = _checkpoint(folder, state.step)
    staying = {target} if before is None else {target, _checkpoint(folder, before)}
    for path in {*checkpoints(folder)} - staying:
        shutil.rmtree(path, ignore_errors=True)
    with atomic_folder(target) as temporary:
        files = {}
        for name, tensors in groups.items():
            path = temporary / f"{name}.safetensors"
            write_tensors(path, {key: tensor.numpy() for key, tensor in detached(tensors).items()})
            files[name] = sha256(path)
        write_sealed(temporary / STATE, state.model_copy(update={"files": files}).model_dump())


def _checkpoint(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints under ``folder``, damaged ones too, the newest last."""
    return sorted(folder.glob("step-*"))


def load_checkpoint(
    folder: Path, identity: str, groups: Collection[str], progress: Progress
) -> tuple[TrainingState, dict[str, Tensors]] | None:
    """The newest checkpoint under ``folder`` that is whole; None where there is none at all.

    ``groups``: names of the groups that it must have. A damaged one is passed over, with a note.

    Raises:
        MldrError: all are damaged, or the newest belongs to a run of another recipe.
    """
    damages = []
    for path in reversed(checkpoints(folder)):
        try:
            state = _state(path)
            if state.identity == identity:
                tensors = {name: _group(path, name, state) for name in groups}
        except (OSError, ValueError) as error:
            damages.append(f"{path.name} is damaged ({_words(error)})")
            continue
        if state.identity != identity:
            raise MldrError(
                f"{folder.parent} holds an unfinished run of another recipe: finish it with that "
                "recipe, on the data and in as many processes as it began with, choose another "
                "--out, or give --restart to discard it"
            )
        for damage in damages:
            progress.note(f"{damage}: going on from {path.name}, the one before it")
        return state, tensors
    if damages:
        raise MldrError(
            f"{folder} holds no whole checkpoint: {'; '.join(damages)}: delete that folder to "
            "start this stage again"
        )
    return None


def _words(error: Exception) -> str:
    """The file and what the system said of it, or the error's own text."""
    if isinstance(error, OSError) and error.filename:
        return f"{Path(error.filename).name}: {error.strerror}"
    return str(error)


def _state(checkpoint: Path) -> TrainingState:
    """Its state. Raises OSError or ValueError, in one line, where it is not what was written."""
    content, _ = unsealed((checkpoint / STATE).read_bytes())
    try:
        return TrainingState(**content)
    except (TypeError, ValidationError):
        raise ValueError(f"{STATE} has wrong fields") from None


def _group(checkpoint: Path, name: str, state: TrainingState) -> Tensors:
    """The tensors of one group. Raises OSError or ValueError where they are not what was saved."""
    path = checkpoint / f"{name}.safetensors"
    content = path.read_bytes()
    if state.files and hashlib.sha256(content).hexdigest() != state.files.get(name):
        raise ValueError(f"{path.name} is not what was written")
    try:
        return load(content)
    except SafetensorError as error:
        raise ValueError(f"{path.name}: {error}") from None


def detached(tensors: Tensors) -> Tensors:
    """Contiguous copies on the CPU that share no memory."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """An optimiser's state as flat, named tensors: ``INDEX.NAME``."""
    return {
        f"{index}.{name}": value
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put `optimizer_tensors` back, in the memory order of the parameters they belong to.

    Fused optimisers walk parameter and state side by side in memory: a contiguous momentum beside
    channels-last weights would update the wrong elements, without a word.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor).detach()
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
