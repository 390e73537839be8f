"""The training loop: one student, one method, any number of processes.

Resuming is exact because nothing depends on history but the tensors of a checkpoint: the order of
an epoch is a function of (seed, epoch), and a step's augmentation and dropout are seeded by
(seed, step, process). A run killed between two checkpoints repeats the steps after the last one
and ends with the same bits (on a CPU; on a GPU up to its kernels' own non-determinism).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..bundle.progress import Progress
from ..bundle.wording import counted
from ..data.loader import EvalBatches
from ..errors import MldrError
from ..models.stages import StageOutput
from .average import MovingAverage
from .checkpoint import (
    Tensors,
    TrainingState,
    detached,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from .evaluate import Evaluation, evaluate
from .finetuning import keep_statistics
from .interrupt import interruption
from .methods.base import Step
from .optimizer import create_optimizer, learning_rate
from .precision import uses_bf16
from .small_grids import small_grids
from .step_threads import StepThreads
from .task import FrozenTeacher, Task
from .teacher_cache import TeacherCache
from .trackers import RunTrackers
from .training_config import OptimizerConfig, ScheduleConfig, TrainConfig
from .training_log import LossMeter, MetricsLog
from .views import MixedBatch, Views


class Trainer:
    """Trains ``task.student``; `run` returns its best weights on the validation split.

    Args:
        task: the student with its method, on the CPU.
        teacher: the model that gives what the method needs, or None.
        views: this process's share of what the student sees.
        val_batches: this process's share of the validation split.
        cache: the teacher's logits for every row of ``views``, and its pooled features after them
            where the method needs them; it is then not asked.
        threads: how many threads each step takes; None: what the process has.
        folder: where checkpoints, metrics.jsonl and TensorBoard's events go.
        identity: of the training; a checkpoint with another identity is refused.
    """

    def __init__(
        self,
        task: Task,
        teacher: FrozenTeacher | None,
        views: Views,
        val_batches: EvalBatches,
        *,
        train: TrainConfig,
        optimizer: OptimizerConfig,
        schedule: ScheduleConfig,
        cache: TeacherCache | None = None,
        threads: StepThreads | None = None,
        accelerator: Accelerator,
        folder: Path,
        identity: str,
        progress: Progress,
    ) -> None:
        self.config, self.schedule, self.peak = train, schedule, optimizer.peak
        self.settings = {
            **train.model_dump(mode="json", exclude={"trackers", "threads"}),
            **{f"optimizer.{key}": value for key, value in optimizer.model_dump().items()},
            **{f"schedule.{key}": value for key, value in schedule.model_dump().items()},
        }
        self.accelerator, self.progress = accelerator, progress
        self.device = accelerator.device
        self.views, self.val_batches, self.cache = views, val_batches, cache
        self.threads = threads
        layout = torch.channels_last if train.channels_last else torch.contiguous_format
        self.task = task.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        self.teacher = teacher and teacher.to(self.device, train)
        self.bf16 = uses_bf16(train.precision, self.device)
        self.ema = MovingAverage(self.task.student, train.ema) if train.ema else None
        self.optimizer = create_optimizer(self.task, optimizer)
        self.step_module = self._distributed(
            _compiled(task, self.device) if train.compile else task
        )
        self.folder, self.identity = folder, identity
        self.state = TrainingState(identity=identity, step=0)
        self.saved_step: int | None = None  # of the newest whole checkpoint
        self.best: Tensors = {}
        self.meter = LossMeter(reduce=lambda rows: accelerator.reduce(rows, reduction="mean"))
        self.log: MetricsLog | None = None

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.config.steps(self.views.steps_per_epoch)

    def run(self) -> tuple[Tensors, TrainingState]:
        """Train to the end, from the newest checkpoint if there is one.

        Returns the best student's tensors and the final state. Raises MldrError on a loss that
        is not finite, KeyboardInterrupt after writing a checkpoint when asked to stop.
        """
        self._resume()
        if self.accelerator.is_main_process:
            log_bytes = self.state.metrics_bytes
            self.log = MetricsLog(self.folder, bytes_kept=log_bytes, trackers=self._trackers())
        self.progress.start("training", self.steps)
        self.progress.advance(self.state.step)
        began = time.perf_counter() - self.state.seconds
        try:
            with interruption() as interrupt, self._thread_choice():
                if self.state.step == 0 and self.config.parts == "head-first":
                    self._validate(epoch=-1)  # fine-tuning may do nothing but harm
                for epoch in range(self._epoch, self.config.passes):
                    if self.state.step >= self.steps or self._stalled(epoch):
                        break
                    for batch in self._remaining(epoch):
                        self._timed_step(batch)
                        ended = self.state.step == self.steps
                        ends_epoch = ended or self.state.step % self.views.steps_per_epoch == 0
                        if self._due(self.config.log_steps) or ends_epoch:
                            self._log_losses()
                        elif self.state.step.bit_count() == 1:  # 1, 2, 4, ...: at once, then less
                            self._show(self.meter.latest())
                        if ends_epoch:
                            self._validate(epoch)
                        due = ends_epoch or self._due(self.config.checkpoint_steps)
                        if due or (interrupt and self._single_process):
                            self._checkpoint(time.perf_counter() - began)
                            if self._any_interrupted(bool(interrupt)):
                                raise KeyboardInterrupt
                        if ended:
                            break
        finally:
            self.progress.finish()
            if self.log is not None:
                self.log.close()
        return self.best, self.state

    def _trackers(self) -> RunTrackers:
        return RunTrackers(
            self.config.trackers,
            self.folder,
            step=self.state.step,
            settings=self.settings,
            note=self.progress.note,
        )

    @property
    def _single_process(self) -> bool:
        return bool(self.accelerator.num_processes == 1)

    def _any_interrupted(self, interrupted: bool) -> bool:
        """Whether any process was asked to stop; all of them must stop at the same step."""
        if self._single_process:
            return interrupted
        flag = torch.tensor(float(interrupted), device=self.device)
        return bool(self.accelerator.reduce(flag, reduction="sum").item() > 0)

    @property
    def _epoch(self) -> int:
        return self.state.step // self.views.steps_per_epoch

    def _remaining(self, epoch: int) -> Iterator[MixedBatch]:
        start_step = self.state.step - epoch * self.views.steps_per_epoch
        self.task.train()
        if self.config.keep_statistics:
            keep_statistics(self.task.student)
        self.meter.restart()
        view = epoch if self.config.view_seed is None else epoch + self.config.seed
        return self.views.epoch(view, start_step=start_step, sides=self._sides)

    @property
    def _sides(self) -> tuple[int, ...]:
        """The student's side, and the teacher's where the teacher runs in every step."""
        if self.teacher is None or self.cache is not None:
            return (self.views.side,)
        return self.views.side, self.teacher.side

    def _stalled(self, epochs: int) -> bool:
        """Whether the best epoch lies so far back that patience is at its end."""
        best = self.state.best_epoch
        patience = self.config.endurance
        was_evaluated = epochs % self.config.evaluate_every == 0
        if not patience or not was_evaluated or best is None or epochs - best < patience:
            return False
        since = counted(epochs - best, "epoch")
        self.progress.note(f"no better for {since}: {epochs} of {self.config.passes} done")
        return True

    def _due(self, every: int) -> bool:
        return every > 0 and self.state.step % every == 0

    def _thread_choice(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.threads is None else self.threads.run()

    def _timed_step(self, batch: MixedBatch) -> None:
        """`_step` with its number of threads."""
        if self.threads is None:
            self._step(batch)
        else:
            with self.threads.step(self.state.step, lambda: self._rehearse(batch)):
                self._step(batch)

    def _rehearse(self, batch: MixedBatch) -> None:
        """Forward and backward, after which weights, buffers and gradients are as before."""
        buffers = [(buffer, buffer.clone()) for buffer in self.task.buffers()]
        self._gradients(batch)
        self.optimizer.zero_grad(set_to_none=True)
        for buffer, before in buffers:
            buffer.copy_(before)

    def _step(self, batch: MixedBatch) -> None:
        """Forward, backward and update on this process's share of one global batch."""
        rate = self._rate(self.state.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        means = self._gradients(batch)
        self.meter.add(means, len(batch.images) * self.accelerator.num_processes)
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.task.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update_parameters(self.task.student)
        self.state = self.state.model_copy(update={"step": self.state.step + 1})
        self.progress.advance()

    def _gradients(self, batch: MixedBatch) -> dict[str, Tensor]:
        """Add up the gradients of this process's share of one global batch; its losses by name."""
        self._seed_step()
        images = batch.images
        parts = min(self.config.accumulate, len(images))
        split = [tensor.tensor_split(parts) for tensor in (images, batch.targets, batch.indices)]
        answers = self._answers(batch, parts)
        fraction_done = torch.full((), self.state.step / self.steps, device=self.device)
        means: dict[str, Tensor] = {}
        for number, (pixels, targets, indices) in enumerate(zip(*split, strict=True)):
            last = number == parts - 1
            with contextlib.ExitStack() as stack:
                if not last:
                    stack.enter_context(self.accelerator.no_sync(self.step_module))
                losses = self._losses(pixels, next(answers), Step(targets, indices, fraction_done))
                share = len(pixels) / len(images)
                total = torch.stack(list(losses.values())).sum() * share
                self.accelerator.backward(total)
            for name, value in losses.items():
                means[name] = value.detach() * share + means.get(name, 0.0)
        return means

    def _answers(self, batch: MixedBatch, parts: int) -> Iterator[StageOutput | None]:
        """The teacher's answer to every part of the batch, from the cache where there is one."""
        if self.cache is not None:
            classes = batch.targets.shape[1]
            for answers in self.cache.row(batch.row, self.device).tensor_split(parts):
                features = answers[:, classes:] if self.task.method.needs_features else None
                yield StageOutput(answers[:, :classes], (), features)
        elif self.teacher is not None:
            method = self.task.method
            stages, features = method.needs_teacher_stages, method.needs_features
            for images in batch.by_side[self.teacher.side].tensor_split(parts):
                yield self.teacher(images, stages=stages, features=features)
        else:
            yield from [None] * parts

    def _losses(self, images: Tensor, answers: StageOutput | None, step: Step) -> dict[str, Tensor]:
        """The losses of one part of a batch."""
        if self.config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.config.compile:
            torch.compiler.cudagraph_mark_step_begin()  # earlier steps' outputs may be overwritten
        bf16 = torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)
        with bf16, small_grids(self.device):
            losses: dict[str, Tensor] = self.step_module(images, answers, step)
        return losses

    def _seed_step(self) -> None:
        """Seed dropout and the like."""
        words = [self.config.seed, self.state.step, self.accelerator.process_index]
        torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint32)[0]))

    def _rate(self, step: int) -> float:
        return learning_rate(
            step,
            steps=self.steps,
            steps_per_epoch=self.views.steps_per_epoch,
            peak=self.peak,
            config=self.schedule,
        )

    def _log_losses(self) -> None:
        means = self.meter.flush(self.state.step)
        if not means:
            return
        epochs = self.state.step / self.views.steps_per_epoch
        self._write(epochs, {"lr": self._rate(self.state.step - 1), **means})
        speed = f"{means.pop('images_per_second'):.0f}"
        self._show(means, **{"img/s": speed})

    def _show(self, losses: dict[str, float], **figures: str) -> None:
        """The losses beside the bar, "logits.class", "logits.sample" and the like as one figure."""
        by_head: dict[str, float] = {}
        for name, value in losses.items():
            head = name.partition(".")[0]
            by_head[head] = by_head.get(head, 0.0) + value
        rounded = {name: round(value, 3) for name, value in by_head.items()}
        self.progress.advance(0, **rounded, **figures)

    def _write(self, epoch: float, values: dict[str, float]) -> None:
        """One line of the log; the values are of all processes, and the first one keeps it."""
        if self.log is not None:
            self.log.write(self.state.step, epoch, values)

    def _validate(self, epoch: int) -> None:
        """Evaluate where it is due, and keep the weights where they are the best so far."""
        number, last = epoch + 1, self.state.step == self.steps
        if number % self.config.evaluate_every and not last:
            return
        model = self.task.student if self.ema is None else self.ema.module
        result = self._evaluate(model)
        if result.images:
            scores = {"val_top1": result.top1, "val_top5": result.top5, "val_loss": result.loss}
            self._write(number, scores)
            self.progress.advance(0, val_top1=round(result.top1, 2))
        if not result.images or self._is_better(result):
            self.best = detached(model.state_dict())
            measured = bool(result.images) and math.isfinite(result.loss)
            update = {
                "best_epoch": number,
                "best_top1": result.top1 if result.images else None,
                "best_loss": result.loss if measured else None,
            }
            self.state = self.state.model_copy(update=update)

    def _is_better(self, result: Evaluation) -> bool:
        """By accuracy; of equals the one with the lower loss, as with few validation images."""
        top1, loss = self.state.best_top1, self.state.best_loss
        if top1 is None or result.top1 != top1:
            return top1 is None or result.top1 > top1
        return loss is not None and result.loss < loss

    def _evaluate(self, model: nn.Module) -> Evaluation:
        """In fp32 whatever the training's precision: it is the function that export will ship."""
        if not self._single_process:  # each has seen other batches; the first one's are kept
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, src=0)
        own_share = evaluate(model, self.val_batches, channels_last=self.config.channels_last)
        counts = self.accelerator.reduce(own_share.counts(self.device), reduction="sum")
        return Evaluation.of_counts(counts)

    def _checkpoint(self, seconds: float) -> None:
        self._log_losses()
        self._require_finite_weights()
        if self.log is not None:
            update = {"metrics_bytes": self.log.sync(), "seconds": seconds}
            self.state = self.state.model_copy(update=update)
            groups = {
                "student": self.task.student.state_dict(),
                "method": self.task.method.state_dict(),
                "optimizer": optimizer_tensors(self.optimizer),
                "best": self.best,
            }
            if self.ema is not None:
                groups["ema"] = self.ema.state_dict()
            save_checkpoint(self.folder / "checkpoints", self.state, groups, self.saved_step)
            self.saved_step = self.state.step
        self.accelerator.wait_for_everyone()

    def _require_finite_weights(self) -> None:
        """A finite loss may have had an infinite gradient; such weights are not worth keeping."""
        for name, parameter in self.task.named_parameters():
            if not parameter.isfinite().all():
                raise MldrError(
                    f"{name} is not finite after step {self.state.step}; the last good checkpoint "
                    "is kept: lower optimizer.lr, or set train.clip_norm or train.precision=fp32"
                )

    def _resume(self) -> None:
        groups = ["student", "method", "optimizer", "best", *([] if self.ema is None else ["ema"])]
        folder = self.folder / "checkpoints"
        checkpoint = load_checkpoint(folder, self.identity, groups, self.progress)
        if checkpoint is None:
            return
        self.state, tensors = checkpoint
        self.saved_step = self.state.step
        self.task.student.load_state_dict(tensors["student"])
        self.task.method.load_state_dict(tensors["method"])
        restore_optimizer(self.optimizer, tensors["optimizer"])
        self.best = tensors["best"]
        if self.ema is not None:
            self.ema.load_state_dict(tensors["ema"])
        self.progress.note(f"resuming at step {self.state.step} of {self.steps}")

    def _distributed(self, module: nn.Module) -> nn.Module:
        """The module as DDP where there are several processes."""
        prepared: nn.Module = self.accelerator.prepare(module)
        return prepared


def _compiled(module: nn.Module, device: torch.device) -> nn.Module:
    """One graph of student, projectors and losses; replayed as CUDA graphs on an NVIDIA GPU."""
    mode = "reduce-overhead" if device.type == "cuda" else None
    compiled: nn.Module = torch.compile(module, mode=mode)  # type: ignore[assignment]
    return compiled
