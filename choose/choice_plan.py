"""What is settled before training: who takes part at which cost, and the rounds.

OUT/plan.json is written once; a choice that is resumed reads it, so that nothing is decided twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..bundle.atomic import write_json
from ..errors import MldrError
from ..models.architecture_config import ModelConfig
from ..pipeline.recipe import Recipe, dump_recipe
from .halving import HalvingRound
from .measurements import machine
from .request import ChoiceRequest
from .untrained import UntrainedLatency

FILE = "plan.json"


class Entrant(BaseModel):
    """An architecture at an image size that was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Architecture and side of its input.")
    folder: str = Field(description="Its name in the names of files.")
    model: ModelConfig = Field(description="As the recipe's student.")
    image_size: int = Field(description="Side of the input, pixels.")
    family: str = Field(description="cnn, transformer, mlp or mamba.")
    parameters: int = Field(description="Of the published model, with 1000 classes.")
    published_size: int = Field(description="Side of the published input, pixels.")
    operations: int = Field(description="Multiply-accumulates of one image.")
    latencies: dict[str, UntrainedLatency] = Field(description="By precision.")
    excess: dict[str, str] = Field(description="Precisions over the budget, with the figures.")
    seconds_per_epoch: float | None = Field(default=None, description="Cost of training.")

    @property
    def precisions(self) -> list[str]:
        """Those within the budget."""
        return [name for name in self.latencies if name not in self.excess]

    @property
    def fastest(self) -> UntrainedLatency:
        """Its fastest file, of those within the budget where there are some."""
        files = self.precisions or [*self.latencies]
        return min((self.latencies[name] for name in files), key=lambda file: file.milliseconds)


class ChoicePlan(BaseModel):
    """Everything that was settled before training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: ChoiceRequest = Field(description="What was asked for.")
    recipe: str = Field(description="The recipe of all trainings, TOML.")
    machine: dict[str, Any] = Field(description="What was measured on.")
    device: str | None = Field(
        default=None, description="What trains; null: of a release that did not say."
    )
    pictures: str | None = Field(
        default=None, description="Hash of the data; null: of a release that did not say."
    )
    entrants: list[Entrant] = Field(description="Who takes part.")
    outside: list[Entrant] = Field(description="Who was measured and is over the budget.")
    misfits: dict[str, str] = Field(description="Who could not be measured, and why.")
    fixed_seconds: float = Field(description="The teacher and its logits, estimated.")
    jobs: int = Field(default=1, description="Trainings at once.")
    rounds: list[HalvingRound] = Field(description="The rounds, as far as they can be planned.")

    def entrant(self, name: str) -> Entrant:
        """The one of that name."""
        return next(entrant for entrant in self.entrants if entrant.name == name)


def save_plan(plan: ChoicePlan, out: Path) -> None:
    """Write OUT/plan.json."""
    write_json(out / FILE, plan.model_dump(mode="json"))


def stored_plan(
    out: Path, request: ChoiceRequest, recipe: Recipe, device: str, pictures: str | None = None
) -> ChoicePlan | None:
    """The plan of ``out``; None where there is none yet.

    Raises MldrError when it is damaged, or of another request, recipe, machine, device or version,
    or of other data (``pictures``: their hash): what was measured there decides, and its contenders
    are compared at the end of equal trainings.
    """
    path = out / FILE
    if not path.is_file():
        return None
    try:
        plan = ChoicePlan(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, ValidationError):
        raise MldrError(f"{path} is damaged: choose another --out, or delete that folder") from None
    if plan.request != request:
        requested, stored = request.model_dump(mode="json"), plan.request.model_dump(mode="json")
        key = next(key for key in requested if requested[key] != stored[key])
        raise MldrError(
            f"{out} holds a choice with {key} = {stored[key]}, not {requested[key]}: choose "
            "another --out, or delete that folder"
        )
    if (difference := _moved(plan, device)) is not None:
        raise MldrError(f"{out} holds a choice {difference}, or choose another --out")
    if plan.recipe != dump_recipe(recipe):
        raise MldrError(
            f"{out} holds a choice by another recipe: choose another --out, or delete that folder"
        )
    if plan.pictures not in (None, pictures):
        raise MldrError(
            f"{out} holds a choice on other pictures than {recipe.data.source} has now: restore "
            "them, choose another --out, or delete that folder"
        )
    return plan


def _moved(plan: ChoicePlan, device: str) -> str | None:
    """What else ``plan`` was measured and is trained with than here, and the remedy, or None."""
    facts = machine()
    for key in ("processor", "cores", "cpu_quota"):
        if plan.machine.get(key) != facts[key]:
            stored = plan.machine.get(key)
            return f"for another machine ({key} {stored}, here {facts[key]}): go on with it there"
    if plan.device not in (None, device):
        return f"that trains on {plan.device}, not {device}: go on with it there (--device)"
    for name, stored in plan.machine.get("versions", {}).items():
        if (here := facts["versions"].get(name)) != stored:
            return f"of {name} {stored}, here is {here}: install that version again"
    return None
