"""Checkpoints of a run in progress: safetensors and JSON, whole or absent, no teacher inside.

    checkpoints/step-00001234/  student, method, optimizer, best, (ema).safetensors, state.json

The newest one is the state; an older one stays until a newer is complete.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..bundle.atomic import atomic_folder, write_json
from ..errors import MldrError

Tensors = dict[str, Tensor]


class TrainingState(BaseModel):
    """Everything about a run in progress that is not a tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: str = Field(description="`identity_of` the training; another one may not continue.")
    step: int = Field(ge=0, description="Optimiser steps done.")
    best_epoch: int | None = Field(default=None, description="Epoch (1-based) of the best weights.")
    best_top1: float | None = Field(default=None, description="Its validation top-1, per cent.")
    best_loss: float | None = Field(default=None, description="Its validation loss, nats.")
    metrics_bytes: int = Field(default=0, description="Length of metrics.jsonl at this step.")
    seconds: float = Field(default=0.0, description="Time spent training up to here.")

    @field_validator("best_epoch", "best_top1", "best_loss", mode="before")
    @classmethod
    def _none_of_older_checkpoints(cls, value: Any) -> Any:
        return None if value == -1 else value


def save_checkpoint(folder: Path, state: TrainingState, groups: dict[str, Tensors]) -> None:
    """Write ``step-N`` under ``folder``, then remove the older ones."""
    target = folder / f"step-{state.step:08d}"
    with atomic_folder(target) as temporary:
        for name, tensors in groups.items():
            save_file(detached(tensors), temporary / f"{name}.safetensors")
        write_json(temporary / "state.json", state.model_dump())
    for old in folder.glob("step-*"):
        if old != target:
            shutil.rmtree(old)


def load_checkpoint(folder: Path, identity: str) -> tuple[TrainingState, dict[str, Tensors]] | None:
    """The newest checkpoint under ``folder``; None where there is none.

    Raises:
        MldrError: it is damaged, or belongs to a run of another recipe.
    """
    checkpoints = sorted(folder.glob("step-*"))
    if not checkpoints:
        return None
    newest = checkpoints[-1]
    try:
        state = TrainingState(**json.loads((newest / "state.json").read_text(encoding="utf-8")))
        groups = {p.stem: load_file(p) for p in sorted(newest.glob("*.safetensors"))}
    except (OSError, ValueError, ValidationError, SafetensorError) as error:
        raise MldrError(
            f"{newest} is damaged ({type(error).__name__}): delete it to start this stage again"
        ) from error
    if state.identity != identity:
        raise MldrError(
            f"{folder.parent} holds an unfinished run of another recipe: finish it with that "
            "recipe, choose another --out, or give --restart to discard it"
        )
    return state, groups


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
