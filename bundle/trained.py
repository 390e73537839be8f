"""What training leaves and export reads: ``model.json`` and ``weights.safetensors``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import MldrError
from .atomic import atomic_folder, sha256
from .evidence import Evidence
from .preprocess import Preprocessing
from .schema import read_record
from .sealed import write_sealed
from .tensors import read_tensors, write_tensors

# 2: evidence, weights_sha256; a 1 is read as one without them. 3: record_sha256.
SCHEMA_VERSION = 3
RECORD = "model.json"
WEIGHTS = "weights.safetensors"


class TrainedModel(BaseModel):
    """Everything but the weights that rebuilds a trained model and tells where it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=SCHEMA_VERSION, description="Version of this layout.")
    model: dict[str, Any] = Field(description="The model's configuration (ModelConfig).")
    num_classes: int = Field(ge=2, description="Width of the logits.")
    image_size: int = Field(ge=1, description="Side of the square input, pixels.")
    classes: list[str] = Field(description="Class names in the order of the logits.")
    preprocessing: Preprocessing = Field(description="How images become inputs.")
    family: str = Field(description="cnn, transformer, mlp or mamba.")
    parameters: int = Field(ge=0, description="Number of trained parameters.")
    data: dict[str, Any] = Field(description="The data's configuration (DataConfig).")
    data_fingerprint: str = Field(description="Hash of the data set that it was trained on.")
    metrics: dict[str, float] = Field(default_factory=dict, description="What training measured.")
    evidence: Evidence | None = Field(
        default=None,
        description="The kept weights on the validation split, for export to measure again; none "
        "where there is no such split.",
    )
    weights_sha256: str | None = Field(
        default=None, description="SHA-256 of weights.safetensors; written with it."
    )
    provenance: dict[str, Any] = Field(
        default_factory=dict, description="Recipe, teacher, seeds, versions, commit."
    )
    record_sha256: str | None = Field(default=None, description="Of the record; written with it.")

    @model_validator(mode="after")
    def _classes_match(self) -> TrainedModel:
        if len(self.classes) != self.num_classes:
            raise ValueError(f"{len(self.classes)} class names for {self.num_classes} logits")
        return self


def save_trained(folder: Path, record: TrainedModel, tensors: dict[str, NDArray[Any]]) -> None:
    """Write ``folder`` in one step; an earlier one is replaced.

    Raises MldrError when the folder holds something else or cannot be written.
    """
    with atomic_folder(folder, replaces=RECORD) as temporary:
        write_tensors(temporary / WEIGHTS, tensors)
        complete = record.model_copy(update={"weights_sha256": sha256(temporary / WEIGHTS)})
        write_sealed(temporary / RECORD, complete.model_dump(mode="json"))


def read_trained(folder: Path) -> TrainedModel:
    """The record of ``folder``, without the tensors.

    Raises MldrError when the folder is missing, damaged, changed or written by a newer version.
    """
    if not (folder / RECORD).is_file():
        raise MldrError(
            f"{folder} holds no trained model ({RECORD} is missing): give the folder that "
            "`mldr-deploy distill` or `train-teacher` wrote"
        )
    return read_record(folder / RECORD, TrainedModel, newest=SCHEMA_VERSION, sealed_from=3)


def load_trained(folder: Path) -> tuple[TrainedModel, dict[str, NDArray[Any]]]:
    """The record and the tensors of ``folder``.

    Raises MldrError when the folder is missing, damaged or written by a newer version.
    """
    record = read_trained(folder)
    tensors = read_tensors(folder / WEIGHTS)
    if record.weights_sha256 not in (None, sha256(folder / WEIGHTS)):
        raise MldrError(
            f"{folder / WEIGHTS} is not the file that training wrote (its SHA-256 is not "
            f"{RECORD}'s): restore it or train again"
        )
    for name, tensor in tensors.items():
        if not _is_sound(tensor):
            raise MldrError(f"{folder / WEIGHTS}: tensor {name} holds NaN or infinity: train again")
    return record, tensors


def _is_sound(tensor: NDArray[Any]) -> bool:
    """Whether it holds numbers; a single infinite one is a layer's bound that nothing reaches."""
    if not np.issubdtype(tensor.dtype, np.floating):
        return True
    return not np.isnan(tensor).any() and (tensor.size == 1 or bool(np.isfinite(tensor).all()))
