"""The two training phases: a teacher on labels, a student on labels and a teacher.

FOLDER/checkpoints/  metrics.jsonl  tensorboard/  curves.png  trained/
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path

import torch

from ..data.balance import imbalance
from ..errors import MldrError
from ..models.architecture_config import ModelConfig
from ..models.stages import StagePlan, plan_stages, plan_teacher
from .checkpoint import TrainingState, detached
from .evaluate import Evaluation, evaluate
from .execution import Execution, ExecutionRecord
from .finish import finish
from .memory import make_ready
from .methods.base import Method, Pair
from .methods.method_registry import MethodConfig, create_method, needs_teacher
from .methods.scratch import Scratch
from .network import Network, fresh_model, preprocessing_of
from .phase import Phase, Training
from .step_threads import StepThreads
from .task import FrozenTeacher, Task
from .teach_head import require_teachable, teach_head
from .teacher_cache import locked
from .teacher_loading import cached_logits
from .teacher_runtime import LEAST_IMAGES, choose_runtime
from .trainer import Trainer
from .training_config import TrainConfig
from .views import Views


def train_teacher(phase: Phase, config: ModelConfig, training: Training) -> Path:
    """Train a model on labels; returns the folder ``trained``."""
    model = fresh_model(phase, config, training)
    plan = plan_teacher(model, phase.data.image_size)
    network = Network(config, model, plan, preprocessing_of(config, model, phase))
    pair = Pair(len(phase.dataset.classes), plan, None)
    return _fit(phase, network, Scratch(Scratch.keys(), pair), None, training)


def distill(
    phase: Phase,
    student: ModelConfig,
    teacher: FrozenTeacher | None,
    method: MethodConfig,
    training: Training,
) -> Path:
    """Train ``student`` by ``method`` against ``teacher``; returns the folder ``trained``.

    Raises MldrError when the method needs a teacher and there is none, or the two models do not
    tell the same classes apart.
    """
    return _fit(phase, *_parts(phase, student, teacher, method, training), training)


def keep_logits(
    phase: Phase,
    student: ModelConfig,
    teacher: FrozenTeacher | None,
    method: MethodConfig,
    training: Training,
) -> None:
    """Ask ``teacher`` now for what `distill` would ask it first, where its answers are kept.

    Raises MldrError as `distill` does.
    """
    parts = _parts(phase, student, teacher, method, training)
    trainer_of(phase, *parts, training, execution_of(phase, training))


def _parts(
    phase: Phase,
    student: ModelConfig,
    teacher: FrozenTeacher | None,
    method: MethodConfig,
    training: Training,
) -> tuple[Network, Method, FrozenTeacher | None]:
    if training.train.parts == "head" and needs_teacher(method):
        raise MldrError(
            "train.parts=head teaches the student's classifier on labels alone: set "
            "method.name=scratch, or train.parts=all to distill"
        )
    if not needs_teacher(method):
        teacher = None
    elif teacher is None:
        raise MldrError(f"method.name={method.name} distills, but there is no teacher: give one")
    model = fresh_model(phase, student, training)
    plan = plan_stages(model, phase.data.image_size)
    network = Network(student, model, plan, preprocessing_of(student, model, phase))
    pair = _pair(phase, plan, None if teacher is None else teacher.plan, training)
    return network, create_method(method, pair), teacher


def check_pair(
    phase: Phase,
    student: ModelConfig,
    teacher: ModelConfig,
    method: MethodConfig,
    training: Training,
    teacher_side: int,
) -> None:
    """Refuse, before the teacher is trained, what `distill` would refuse after it.

    Raises MldrError for a student that cannot be built and a pair that the method cannot serve.
    """
    bare = teacher.model_copy(update={"weights": None, "fresh_head": False})
    side = phase.data.image_size
    student_plan = plan_stages(fresh_model(phase, student, training), side)
    data = phase.data.model_copy(update={"image_size": teacher_side})
    teacher_model = fresh_model(replace(phase, data=data), bare, training)
    teacher_plan = plan_teacher(teacher_model, teacher_side)
    create_method(method, _pair(phase, student_plan, teacher_plan, training))


def trainer_of(
    phase: Phase,
    network: Network,
    method: Method,
    teacher: FrozenTeacher | None,
    training: Training,
    record: ExecutionRecord,
) -> Trainer:
    """A trainer of ``network`` by ``method``, ready to run; a teacher's cache is filled first.

    What ``training`` leaves open is as ``record`` says; what is chosen later is added to it.
    """
    make_ready(phase.accelerator.device)
    balanced = phase.balanced(training)
    if balanced:
        times = imbalance(phase.dataset.train.labels)
        phase.progress.note(f"classes differ by {times:.1f} to 1: each is drawn equally often")
    views = phase.views(training, training.train.teacher_views, balanced=balanced)
    if teacher is not None and training.train.teacher_precision != "bf16":
        _choose_teacher_runtime(phase, method, teacher, views, training.train, record)
    train, preprocessing = record.chosen.applied(training.train), network.preprocessing
    smoothing = train.label_smoothing
    return Trainer(
        Task(network.model, network.plan, method, preprocessing, label_smoothing=smoothing),
        teacher,
        views,
        phase.val_batches(preprocessing),
        train=train,
        optimizer=training.optimizer,
        schedule=training.schedule,
        cache=cached_logits(phase, teacher, method, views, training, record.chosen),
        threads=_step_threads(phase, train, views.steps_per_epoch, record),
        accelerator=phase.accelerator,
        folder=phase.folder,
        identity=phase.identity,
        progress=phase.progress,
    )


def _choose_teacher_runtime(
    phase: Phase,
    method: Method,
    teacher: FrozenTeacher,
    views: Views,
    train: TrainConfig,
    record: ExecutionRecord,
) -> None:
    """Let ``teacher`` answer by the quickest runtime, where logits are asked on a CPU."""
    accelerator = phase.accelerator
    asks_more = method.needs_teacher_stages or method.needs_features
    if accelerator.device.type != "cpu" or accelerator.num_processes > 1 or asks_more:
        return
    batches = (views.count or train.passes) * views.steps_per_epoch
    if batches * phase.data.batch_size < LEAST_IMAGES:
        return
    with contextlib.ExitStack() as stack:
        if views.count:
            stack.enter_context(locked(phase.logits_folder, 0, phase.progress))
            record.share(phase.logits_folder, train)
        pixels = next(iter(views.epoch(0, sides=(teacher.side,)))).images
        ready = teacher.to(accelerator.device, record.chosen.applied(train))
        choose_runtime(ready, pixels, batches, record, phase.progress)


def _step_threads(
    phase: Phase, train: TrainConfig, steps_per_epoch: int, record: ExecutionRecord
) -> StepThreads | None:
    """Who chooses the threads of each step; None for a GPU, and for processes that share cores.

    A compiled step keeps the number that it was compiled for.
    """
    accelerator = phase.accelerator
    if accelerator.device.type != "cpu" or accelerator.num_processes > 1 or train.compile:
        return None
    return StepThreads(
        record,
        configured=train.threads,
        steps=train.steps(steps_per_epoch),
        progress=phase.progress,
    )


def _fit(
    phase: Phase,
    network: Network,
    method: Method,
    teacher: FrozenTeacher | None,
    training: Training,
) -> Path:
    """Train as ``training`` says and write the folder ``trained``."""
    if training.train.parts == "head":
        return _fit_head(phase, network, training)
    resumed = any((phase.folder / "checkpoints").glob("step-*"))
    if training.train.parts == "head-first" and not resumed:
        require_teachable(network.config, training)
        teach_head(phase, network, training)
    record = execution_of(phase, training)
    trainer = trainer_of(phase, network, method, teacher, training, record)
    tensors, state = trainer.run()
    return finish(phase, network, trainer.val_batches, tensors, state, record.chosen)


def execution_of(phase: Phase, training: Training) -> ExecutionRecord:
    """How this phase computes: as it began, where it is resumed."""
    accelerator = phase.accelerator
    writes = bool(accelerator.is_main_process)
    record = ExecutionRecord.open(phase.folder, training.train, accelerator.device, writes=writes)
    accelerator.wait_for_everyone()
    return record


def _fit_head(phase: Phase, network: Network, training: Training) -> Path:
    """Teach the classifier alone."""
    began = time.perf_counter()
    require_teachable(network.config, training)
    teach_head(phase, network, training)
    val = phase.val_batches(network.preprocessing)
    counts = evaluate(network.model, val).counts(phase.accelerator.device)
    result = Evaluation.of_counts(phase.accelerator.reduce(counts, reduction="sum"))
    state = TrainingState(
        identity=phase.identity,
        step=0,
        best_epoch=training.train.head_views,
        best_top1=result.top1 if result.images else None,
        best_loss=result.loss if result.images else None,
        seconds=time.perf_counter() - began,
    )
    tensors = detached(network.model.state_dict())
    head = Execution(precision="fp32", teacher_precision="fp32")
    return finish(phase, network, val, tensors, state, head)


def _pair(phase: Phase, student: StagePlan, teacher: StagePlan | None, training: Training) -> Pair:
    processes = phase.accelerator.num_processes
    return Pair(
        classes=len(phase.dataset.classes),
        student=student,
        teacher=teacher,
        labels=torch.from_numpy(phase.dataset.train.labels),
        batch=max(1, phase.data.batch_size // processes // training.train.accumulate),
        device=phase.accelerator.device,
    )
