"""A training phase: its data, device and folder, and the batches made of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict, Field

from ..bundle.preprocess import Preprocessing
from ..bundle.progress import Progress
from ..data.augment import Mix
from ..data.balance import imbalance
from ..data.data_config import AugmentConfig, DataConfig
from ..data.dataset import Dataset
from ..data.loader import EvalBatches, TrainBatches
from .teacher_cache import RowShare
from .training_config import OptimizerConfig, ScheduleConfig, TrainConfig
from .views import Views

_EVAL_BATCH = 250  # images; evaluation keeps no activations


class Training(BaseModel):
    """How one model is trained: loop, optimiser, schedule, augmentation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: TrainConfig = Field(default=TrainConfig())
    optimizer: OptimizerConfig = Field(default=OptimizerConfig())
    schedule: ScheduleConfig = Field(default=ScheduleConfig())
    augment: AugmentConfig = Field(default=AugmentConfig())


def identity_of(parts: dict[str, Any]) -> str:
    """A hash of values of JSON: equal parts, equal identity."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Phase:
    """One training, the teacher's or the student's: its data, where it computes and writes.

    ``identity`` is `identity_of` everything that decides the result; a checkpoint with another
    identity is refused. ``provenance`` goes into the record of the trained model.
    """

    data: DataConfig
    dataset: Dataset
    accelerator: Accelerator
    folder: Path
    identity: str
    provenance: dict[str, Any]
    progress: Progress
    logits: Path | None = None  # where teachers' logits are kept; None: in `folder`

    @property
    def logits_folder(self) -> Path:
        """Where teachers' logits are kept."""
        return self.logits or self.folder / "logits"

    @property
    def share(self) -> RowShare:
        """This process's part of every row of a cache."""
        return RowShare(self.accelerator.process_index, self.accelerator.num_processes)

    def balanced(self, training: Training) -> bool:
        """Whether the classes differ so much that each is drawn equally often."""
        least = training.train.balance_from
        return least > 0 and imbalance(self.dataset.train.labels) > least

    def views(self, training: Training, count: int, *, balanced: bool = False) -> Views:
        """This process's share of what is seen in training, ``count`` distinct epochs of it."""
        train, augment = training.train, training.augment
        seed = train.pixel_seed
        return Views(
            TrainBatches(
                self.dataset.train,
                self.data,
                seed=seed,
                augment=augment,
                balanced=balanced,
                **self._place(),
            ),
            Mix(augment),
            classes=len(self.dataset.classes),
            seed=seed,
            rank=self.accelerator.process_index,
            count=count,
        )

    def val_batches(self, preprocessing: Preprocessing) -> EvalBatches:
        """This process's share of the validation split."""
        threads = self.data.workers
        return EvalBatches(
            self.dataset.val, preprocessing, _EVAL_BATCH, threads=threads, **self._place()
        )

    def _place(self) -> dict[str, Any]:
        return {
            "device": self.accelerator.device,
            "rank": self.accelerator.process_index,
            "world": self.accelerator.num_processes,
        }
