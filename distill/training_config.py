"""What a recipe may say about training: the loop, the optimiser and the schedule."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .trackers import TrackerName

Precision = Literal["auto", "bf16", "fp32"]
Auto = Literal["auto"]  # a number that follows from the training pictures: see `pacing`


class TrainConfig(BaseModel):
    """The loop."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0)] | Auto = Field(
        default=10,
        description="Passes over the training images; 0.5 is half of one. `auto`: 340 / "
        "sqrt(number of training images), at least 2 and at most 40; without weights eight times "
        "as many, at most 160.",
    )
    parts: Literal["all", "head", "head-first"] = Field(
        default="all",
        description="What is trained. `head`: the classifier alone, by logistic regression on the "
        "features of the frozen rest, which are computed once; seconds instead of hours, from "
        "pretrained weights, on labels. Its decay is chosen on the validation split. "
        "`head-first`: so, then everything (fine-tuning); a model without weights is trained "
        "whole, without keep_statistics and below_head.",
    )
    keep_statistics: bool = Field(
        default=False,
        description="Batch norm keeps the means and variances of the weights it starts from: for "
        "fine-tuning on little data, whose batches would only blur them.",
    )
    patience: Annotated[int, Field(ge=0)] | Auto = Field(
        default=0,
        description="Epochs without a better validation top-1, or the same with a lower loss, "
        "after which training ends; 0: none is too many. `auto`: 0.4 of the epochs, at least 3; "
        "0 without weights.",
    )
    balance_from: float = Field(
        default=0,
        ge=0,
        description="Where the largest class has more than this many times the pictures of the "
        "smallest, every class is drawn equally often; 0: never. A head that is taught alone sees "
        "every picture equally often: its classes weigh alike where they differ by more than 3.",
    )
    head_views: int = Field(
        default=4,
        ge=1,
        description="Augmented views of each picture that a head is taught on. Their features lie "
        "in the run's folder until it is done (views x images x width x 2 bytes).",
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        description="The one source of randomness: initial weights, data order, augmentation, "
        "dropout. The same recipe and seed give the same student, resumed or not (on a CPU, to "
        "the bit).",
    )
    view_seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**32,
        description="Seed of the augmented views that `teacher_views` repeats; unset: `seed`. Runs "
        "with the same one share the teacher's logits whatever their seed, which then decides the "
        "initial weights, dropout and the view that comes first.",
    )
    precision: Precision = Field(
        default="auto",
        description="`bf16`: autocast; weights and losses stay in float32, and so do depthwise "
        "convolutions on a CPU, which has no quick bf16 kernels of them. `auto`: bf16 where the "
        "device has instructions for it (NVIDIA from Ampere, CPUs with AVX512-BF16, AMX or Arm's "
        "BF16), else fp32, since emulating bf16 is far slower. A resumed run stays as it began.",
    )
    teacher_precision: Precision = Field(
        default="auto",
        description="The same for the teacher's answers. Those that `teacher_views` keeps in one "
        "precision serve no run that computes in another, `auto` or not.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Threads of a training step on a CPU. 0: a run of 500 steps or more measures "
        "steps with one, half of the process's and all of them, at its start and again where a "
        "step takes three times the median; a shorter one takes all. A number may decide the last "
        "bits: what is chosen is recorded, and a resumed run keeps it unless this key says "
        "otherwise. Several processes, GPUs and a compiled step take what they have.",
    )
    teacher_views: int = Field(
        default=0,
        ge=0,
        description="Distinct epochs of augmented images, after which the very same pixels come "
        "again. The teacher is then asked once for each: its logits are kept in float16 in the "
        "run's folder (views x images x classes x 2 bytes) and serve every epoch and later runs; "
        "for cc, crd, rkd and rsd with its features (classes + their width). fitnet needs stages, "
        "and asks it every time. 0: every epoch is new.",
    )
    channels_last: bool = Field(default=True, description="NHWC memory order for 4-d tensors.")
    compile: bool = Field(
        default=False, description="torch.compile the student, projectors and losses."
    )
    accumulate: int = Field(
        default=1,
        ge=1,
        description="Parts that a process's share of a batch is computed in, to save memory. "
        "Relations between samples then span one part.",
    )
    clip_norm: float = Field(
        default=5.0,
        ge=0,
        description="Largest gradient norm; 0: no limit. Relations grow with the square of the "
        "logits, so that mldr-kd may diverge without a limit where there is no warm-up.",
    )
    label_smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="Part of a label spread over all classes."
    )
    ema: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay a step of an exponential moving average of the weights, which is then "
        "what is evaluated and kept; 0: off.",
    )
    evaluate_every: int = Field(
        default=1, ge=1, description="Epochs between evaluations on the validation split."
    )
    log_steps: int = Field(
        default=50,
        ge=1,
        description="Steps between lines of metrics.jsonl; the loss is checked for NaN then too.",
    )
    trackers: tuple[TrackerName, ...] = Field(
        default=("tensorboard",),
        description="Where the lines of metrics.jsonl go too, by Accelerate: `tensorboard` (events "
        "in the run's folder), `mlflow` (pip install mlflow; its local store, or "
        "MLFLOW_TRACKING_URI), `wandb` (pip install wandb). The experiment has the name of the "
        "run's folder. No say in what is trained.",
    )
    checkpoint_steps: int = Field(
        default=500,
        ge=0,
        description="Steps between checkpoints within an epoch; 0: only at its end.",
    )

    @property
    def pixel_seed(self) -> int:
        """The seed of every augmented view."""
        return self.seed if self.view_seed is None else self.view_seed

    @property
    def length(self) -> float:
        """`epochs` as a number, once `auto` has become one."""
        assert self.epochs != "auto"
        return self.epochs

    @property
    def passes(self) -> int:
        """How many passes are begun: `length`, with a part of one as a whole."""
        return math.ceil(self.length)

    def steps(self, steps_per_epoch: int) -> int:
        """Optimiser steps of the whole run."""
        return max(1, round(self.length * steps_per_epoch))

    @property
    def endurance(self) -> int:
        """`patience` as a number, once `auto` has become one."""
        assert self.patience != "auto"
        return self.patience


class OptimizerConfig(BaseModel):
    """The optimiser."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Literal["sgd", "adamw"] = Field(
        default="sgd", description="SGD with Nesterov momentum, or AdamW."
    )
    lr: Annotated[float, Field(gt=0)] | Auto = Field(
        default=0.05,
        description="Learning rate after the warm-up. `auto`: 1e-3 * sqrt(batch / 50) of `adamw`, "
        "0.05 * batch / 128 of `sgd`.",
    )
    below_head: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Part of the learning rate that the model below its classifier gets: 0.1 or "
        "less where pretrained features are to be tuned, not replaced.",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of `sgd`.")
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="Betas of `adamw`.")
    weight_decay: float = Field(
        default=2e-3, ge=0, description="L2 term of `sgd`, decoupled decay of `adamw`."
    )
    decay_everything: bool = Field(
        default=False,
        description="Decay every parameter, as the published CNN students were trained; else not "
        "biases, norms' weights and what a model exempts itself.",
    )

    @property
    def peak(self) -> float:
        """`lr` as a number, once `auto` has become one."""
        assert self.lr != "auto"
        return self.lr

    @model_validator(mode="after")
    def _betas_in_range(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers within 0 <= beta < 1, not {self.betas}")
        return self


class ScheduleConfig(BaseModel):
    """The learning rate over the steps: a linear warm-up, then `name`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Literal["cosine", "constant"] = Field(
        default="cosine", description="`cosine` falls to min_lr at the last step."
    )
    warmup_epochs: float = Field(default=0.0, ge=0, description="Length of the warm-up, epochs.")
    warmup_lr: float = Field(default=1e-4, ge=0, description="Learning rate at the first step.")
    min_lr: float = Field(default=1e-3, ge=0, description="Learning rate at the last step.")
