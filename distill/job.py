"""What a training stage is given, and the batches that every kind of training makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict, Field

from ..bundle.preprocess import Preprocessing
from ..bundle.progress import Progress
from ..data.augment import Mix
from ..data.config import AugmentConfig, DataConfig
from ..data.dataset import Dataset
from ..data.loader import EvalBatches, TrainBatches
from .config import OptimizerConfig, ScheduleConfig, TrainConfig
from .teacher_cache import Share
from .views import Views

_EVAL_BATCH = 250  # images; evaluation keeps no activations


class Training(BaseModel):
    """How one model is trained: loop, optimiser, schedule, augmentation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: TrainConfig = Field(default=TrainConfig())
    optimizer: OptimizerConfig = Field(default=OptimizerConfig())
    schedule: ScheduleConfig = Field(default=ScheduleConfig())
    augment: AugmentConfig = Field(default=AugmentConfig())


@dataclass(frozen=True)
class Job:
    """What both stages need: the data, where to compute and to write, and what it came from."""

    data: DataConfig
    dataset: Dataset
    accelerator: Accelerator
    folder: Path
    identity: str
    provenance: dict[str, Any]
    progress: Progress
    logits: Path | None = None  # where teachers' logits are kept; None: in `folder`

    @property
    def share(self) -> Share:
        """This process's part of every row of kept answers."""
        return Share(self.accelerator.process_index, self.accelerator.num_processes)

    def views(self, training: Training, count: int) -> Views:
        """This process's share of what is seen in training, ``count`` distinct epochs of it."""
        train, augment = training.train, training.augment
        return Views(
            TrainBatches(
                self.dataset.train, self.data, seed=train.seed, augment=augment, **self._place()
            ),
            Mix(augment),
            classes=len(self.dataset.classes),
            seed=train.seed,
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
