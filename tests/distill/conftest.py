"""A toy data set, trainers over it, and the textbook form of DFRA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.bundle.progress import Progress, Silent
from mldr_deploy.data.augment import Mix
from mldr_deploy.data.data_config import AugmentConfig, DataConfig
from mldr_deploy.data.dataset import Dataset
from mldr_deploy.data.loader import EvalBatches, TrainBatches
from mldr_deploy.data.split import Split
from mldr_deploy.distill.methods.base import Method, Pair
from mldr_deploy.distill.methods.method_registry import MethodConfig, create_method
from mldr_deploy.distill.phase import Phase
from mldr_deploy.distill.task import FrozenTeacher, Task
from mldr_deploy.distill.trainer import Trainer
from mldr_deploy.distill.training_config import OptimizerConfig, ScheduleConfig, TrainConfig
from mldr_deploy.distill.views import Views
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model
from mldr_deploy.models.stages import plan_stages

SIDE, CLASSES, BATCH = 32, 4, 8
STEPS_PER_EPOCH = 5
PLAIN = AugmentConfig(crop="none", flip=0)
SPEC = Preprocessing(size=(SIDE, SIDE), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def split(count: int, seed: int) -> Split:
    """``count`` noisy pictures, brighter from class to class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    noise = rng.integers(0, 120, (count, SIDE, SIDE, 3))
    return Split.of_pixels((noise + 40 * labels[:, None, None, None]).astype(np.uint8), labels)


@pytest.fixture(scope="session")
def toys() -> Dataset:
    """Four classes; 40 training pictures (five batches of eight), 12 and 12 held out."""
    sizes = {"train": STEPS_PER_EPOCH * BATCH, "val": 12, "test": 12}
    splits = {name: split(count, seed) for seed, (name, count) in enumerate(sizes.items())}
    return Dataset("toys", ("ant", "bee", "cow", "dog"), **splits, fingerprint="toys")


@pytest.fixture(scope="session")
def phase_in(toys: Dataset) -> Callable[[Path], Phase]:
    """``phase_in(folder)``: a training phase over the toys."""

    def make(folder: Path) -> Phase:
        return Phase(
            data=DataConfig(batch_size=BATCH, image_size=SIDE),
            dataset=toys,
            accelerator=Accelerator(cpu=True),
            folder=folder,
            identity="a run",
            provenance={},
            progress=Silent(),
        )

    return make


@pytest.fixture
def phase(phase_in: Callable[[Path], Phase], tmp_path: Path) -> Phase:
    """A training phase in an empty folder."""
    return phase_in(tmp_path / "stage")


def fresh(name: str, seed: int = 0, **config: object) -> nn.Module:
    """A model for the toys, its weights a function of ``seed``."""
    torch.manual_seed(seed)
    return create_model(ModelConfig(name=name, **config), num_classes=CLASSES, image_size=SIDE)


@dataclass(frozen=True)
class Rig:
    """Everything that makes a trainer over the toys; `build` makes a new one, from its start."""

    toys: Dataset
    folder: Path
    student: str = "test_vit"
    drop_path: float = 0.0
    teacher: str | None = None
    teacher_side: int = SIDE
    method: MethodConfig | Method = field(default=MethodConfig(name="scratch"))
    train: TrainConfig = field(
        default=TrainConfig(epochs=1, precision="fp32", teacher_precision="fp32")
    )
    optimizer: OptimizerConfig = field(default=OptimizerConfig(lr=0.02))
    schedule: ScheduleConfig = field(default=ScheduleConfig())
    augment: AugmentConfig = field(default=PLAIN)

    def build(self, progress: Progress | None = None) -> Trainer:
        """A trainer as ``distill/training_run.py`` would make it."""
        side = self.teacher_side
        teacher = None if self.teacher is None else fresh(self.teacher, seed=1)
        student = fresh(self.student, drop_path=self.drop_path)
        plan = plan_stages(student, SIDE)
        taught = None if teacher is None else plan_stages(teacher, side)
        spec = SPEC.model_copy(update={"size": (side, side)})
        method = self.method
        if isinstance(method, MethodConfig):
            method = create_method(
                method,
                Pair(
                    CLASSES,
                    plan,
                    taught,
                    labels=torch.from_numpy(self.toys.train.labels),
                    batch=BATCH // self.train.accumulate,
                ),
            )
        data = DataConfig(batch_size=BATCH, image_size=SIDE)
        return Trainer(
            Task(student, plan, method, SPEC, label_smoothing=self.train.label_smoothing),
            None if teacher is None or taught is None else FrozenTeacher(teacher, taught, spec),
            Views(
                TrainBatches(
                    self.toys.train, data, seed=self.train.seed, device="cpu", augment=self.augment
                ),
                Mix(self.augment),
                classes=CLASSES,
                seed=self.train.seed,
                count=self.train.teacher_views,
            ),
            EvalBatches(self.toys.val, SPEC, BATCH, "cpu"),
            train=self.train,
            optimizer=self.optimizer,
            schedule=self.schedule,
            accelerator=Accelerator(cpu=True),
            folder=self.folder,
            identity="a run",
            progress=progress or Silent(),
        )


@pytest.fixture
def rig(toys: Dataset, tmp_path: Path) -> Rig:
    """Five plain steps of a small ViT on labels; vary it with `dataclasses.replace`."""
    return Rig(toys, tmp_path / "run")


@dataclass(frozen=True)
class Textbook:
    """DFRA as the paper writes it, in float64, every outer product in full."""

    class_relation: Tensor
    sample_relation: Tensor
    probability: Tensor

    def total(self, alpha: float = 2.0) -> Tensor:
        return self.class_relation + self.sample_relation + alpha * self.probability


@pytest.fixture(scope="session")
def textbook() -> Callable[..., Textbook]:
    """``textbook(student, teacher, temperature=1.0)`` of logits [B, C]."""

    def relation(vectors: Tensor, classes: int) -> Tensor:
        outer = vectors[:, :, None] * vectors[:, None, :]  # [N, rows, columns]
        return F.log_softmax(outer / classes**0.5, dim=1)

    def divergence(student: Tensor, teacher: Tensor, classes: int) -> Tensor:
        p, q = relation(teacher, classes), relation(student, classes)
        return (p.exp() * (p - q)).sum(dim=1).mean()

    def dfra(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Textbook:
        s, t = student.double() / temperature, teacher.double() / temperature
        classes = s.shape[1]
        p, q = t.softmax(dim=1), s.softmax(dim=1)
        return Textbook(
            divergence(s, t, classes),
            divergence(s.T, t.T, classes),
            (p * (p.log() - q.log())).nan_to_num(0.0).sum() / len(s),
        )

    return dfra
