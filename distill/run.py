"""The two training stages: a teacher on labels, a student on labels and a teacher.

FOLDER/checkpoints/  metrics.jsonl  tensorboard/  curves.png  trained/
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shutil
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from .. import __version__
from ..bundle.evidence import Evidence
from ..bundle.preprocess import Preprocessing
from ..bundle.trained import RECORD, WEIGHTS, TrainedModel, load_trained, save_trained
from ..data.loader import EvalBatches
from ..errors import MldrError
from ..models.class_order import ClassOrder, output_order, reorder_outputs
from ..models.config import ModelConfig
from ..models.family import family
from ..models.registry import create_model, normalisation, published_classes
from ..models.stages import StagePlan, plan_stages, plan_teacher
from .checkpoint import Tensors, TrainingState, detached
from .evaluate import Evaluation, evaluate
from .head_stage import require_teachable, teach_head
from .job import Job as Job  # read as run.Job
from .job import Training as Training
from .memory import make_ready
from .methods.base import Method, Pair
from .methods.registry import MethodConfig, create_method, needs_teacher
from .methods.scratch import Scratch
from .metrics import draw_curves
from .task import Task, Teacher
from .teacher_cache import TeacherCache, cache_identity, locked
from .trainer import Trainer
from .views import Views

TRAINED = "trained"


def train_teacher(job: Job, model: ModelConfig, training: Training) -> Path:
    """Train ``model`` on labels; returns the folder ``trained``."""
    built = fresh_model(job, model, training)
    plan = plan_teacher(built, job.data.image_size)
    pair = Pair(len(job.dataset.classes), plan, None)
    return _fit(job, model, built, plan, Scratch(Scratch.keys(), pair), None, training)


def distill(
    job: Job,
    student: ModelConfig,
    teacher: Teacher | None,
    method: MethodConfig,
    training: Training,
) -> Path:
    """Train ``student`` by ``method`` against ``teacher``; returns the folder ``trained``.

    Raises MldrError when the method wants a teacher and there is none, or the two models do not
    tell the same classes apart.
    """
    if training.train.parts == "head" and needs_teacher(method):
        raise MldrError(
            "train.parts=head teaches the student's classifier on labels alone: set "
            "method.name=scratch, or train.parts=all to distill"
        )
    if not needs_teacher(method):
        teacher = None
    elif teacher is None:
        raise MldrError(f"method.name={method.name} distills, but there is no teacher: give one")
    built = fresh_model(job, student, training)
    plan = plan_stages(built, job.data.image_size)
    pair = _pair(job, plan, None if teacher is None else teacher.plan, training)
    return _fit(job, student, built, plan, create_method(method, pair), teacher, training)


def require_served(
    job: Job,
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
    mine = plan_stages(fresh_model(job, student, training), job.data.image_size)
    taught = replace(job, data=job.data.model_copy(update={"image_size": teacher_side}))
    theirs = plan_teacher(fresh_model(taught, bare, training), teacher_side)
    create_method(method, _pair(job, mine, theirs, training))


def load_teacher(model: ModelConfig, job: Job, class_order: ClassOrder | None = None) -> Teacher:
    """The teacher of ``model.weights``: timm's, a file, or a folder that train-teacher left.

    ``class_order``: the order of its outputs, where it is not the data's. Raises MldrError when
    its classes are not the data set's.
    """
    classes, side = job.dataset.classes, job.data.image_size
    record = _record(model)
    if record is not None and class_order is None:
        _same_classes(record, classes, f"teacher {model.weights}", "use its own data set")
    note = job.progress.note
    built = create_model(model, num_classes=len(classes), image_size=side, note=note)
    if model.weights == "timm":
        _trained_for(built, len(classes), model.name)
    if class_order is not None:
        reorder_outputs(built, output_order(class_order, classes), side)
    plan = plan_teacher(built, job.data.image_size)
    return Teacher(built.eval(), plan, preprocessing_of(model, built, job))


def fresh_model(job: Job, model: ModelConfig, training: Training) -> nn.Module:
    """``model`` for the job's data, with initial weights drawn from the recipe's seed.

    Raises MldrError for a name, key or size that does not work, and for weights to start from
    that tell other classes apart.
    """
    record = None if model.fresh_head else _record(model)
    if record is not None:
        remedy = "set student.fresh_head=true to start from them all the same"
        _same_classes(record, job.dataset.classes, f"student {model.weights}", remedy)
    torch.manual_seed(training.train.seed)
    classes, side = len(job.dataset.classes), job.data.image_size
    return create_model(model, num_classes=classes, image_size=side, note=job.progress.note)


def preprocessing_of(model: ModelConfig, built: nn.Module, job: Job) -> Preprocessing:
    """How ``model`` takes its images: as its weights were trained, else the data's own numbers."""
    record = _record(model)
    side = job.data.image_size
    if record is not None:
        return record.preprocessing.model_copy(update={"size": (side, side)})
    published = model.weights is not None
    mean, std = normalisation(built) if published else (job.dataset.mean, job.dataset.std)
    crop = job.data.crop_fraction
    return Preprocessing(size=(side, side), crop_fraction=crop, mean=mean, std=std)


def identity_of(parts: dict[str, Any]) -> str:
    """A hash of JSON-able parts: equal parts, equal identity."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def trainer_of(
    job: Job,
    config: ModelConfig,
    model: nn.Module,
    plan: StagePlan,
    method: Method,
    teacher: Teacher | None,
    training: Training,
) -> Trainer:
    """A trainer of ``model`` by ``method``, ready to run; a teacher's cache is filled first."""
    accelerator = job.accelerator
    make_ready(accelerator.device)
    preprocessing = preprocessing_of(config, model, job)
    smoothing = training.train.label_smoothing
    views = job.views(training, training.train.teacher_views)
    return Trainer(
        Task(model, plan, method, preprocessing, label_smoothing=smoothing),
        teacher,
        views,
        job.val_batches(preprocessing),
        train=training.train,
        optimizer=training.optimizer,
        schedule=training.schedule,
        cache=_cache(job, teacher, method, views, training),
        accelerator=accelerator,
        folder=job.folder,
        identity=job.identity,
        progress=job.progress,
    )


def _fit(
    job: Job,
    config: ModelConfig,
    model: nn.Module,
    plan: StagePlan,
    method: Method,
    teacher: Teacher | None,
    training: Training,
) -> Path:
    """Train as ``training`` says and write what comes out."""
    if training.train.parts == "head":
        return _fit_head(job, config, model, plan, training)
    resumed = any((job.folder / "checkpoints").glob("step-*"))
    if training.train.parts == "head-first" and not resumed:
        require_teachable(config.name, config.weights, training)
        preprocessing = preprocessing_of(config, model, job)
        teach_head(job, model, plan, preprocessing, training, config.name)
    trainer = trainer_of(job, config, model, plan, method, teacher, training)
    tensors, state = trainer.run()
    precision = "bf16" if trainer.bf16 else "fp32"
    return _save(job, config, model, trainer.val_batches, tensors, state, precision)


def _fit_head(
    job: Job, config: ModelConfig, model: nn.Module, plan: StagePlan, training: Training
) -> Path:
    """Teach the classifier alone."""
    began = time.perf_counter()
    require_teachable(config.name, config.weights, training)
    preprocessing = preprocessing_of(config, model, job)
    teach_head(job, model, plan, preprocessing, training, config.name)
    val = job.val_batches(preprocessing)
    counts = evaluate(model, val).counts(job.accelerator.device)
    result = Evaluation.of_counts(job.accelerator.reduce(counts, reduction="sum"))
    state = TrainingState(
        identity=job.identity,
        step=0,
        best_epoch=training.train.head_views,
        best_top1=result.top1 if result.images else -1.0,
        best_loss=result.loss if result.images else -1.0,
        seconds=time.perf_counter() - began,
    )
    return _save(job, config, model, val, detached(model.state_dict()), state, "fp32")


def _save(
    job: Job,
    config: ModelConfig,
    model: nn.Module,
    val_batches: EvalBatches,
    tensors: Tensors,
    state: TrainingState,
    precision: str,
) -> Path:
    """Write `TRAINED` and remove what only an unfinished run needs."""
    accelerator, trained = job.accelerator, job.folder / TRAINED
    if accelerator.is_main_process:
        record = TrainedModel(
            model=config.model_dump(mode="json"),
            num_classes=len(job.dataset.classes),
            image_size=job.data.image_size,
            classes=list(job.dataset.classes),
            preprocessing=val_batches.preprocessing,
            family=family(model),
            parameters=sum(p.numel() for p in model.parameters()),
            data=job.data.model_dump(mode="json"),
            data_fingerprint=job.dataset.fingerprint,
            metrics=_metrics(state.best_top1, state.best_epoch, state.seconds),
            evidence=_evidence(state, val_batches),
            provenance={
                **job.provenance,
                "identity": job.identity,
                "precision": precision,
                **_environment(accelerator),
            },
        )
        draw_curves(job.folder, config.name)  # first: a stage is finished once `trained` is there
        save_trained(trained, record, {name: t.numpy() for name, t in tensors.items()})
        for unfinished in ("checkpoints", "features"):
            shutil.rmtree(job.folder / unfinished, ignore_errors=True)
    accelerator.wait_for_everyone()
    return trained


def _cache(
    job: Job, teacher: Teacher | None, method: Method, views: Views, training: Training
) -> TeacherCache | None:
    """The teacher's logits for the views, complete; None where it has to be asked every time."""
    asks_more = method.needs_teacher_stages or method.needs_features
    if teacher is None or not views.count or asks_more:
        return None
    accelerator, train = job.accelerator, training.train
    ready = teacher.to(accelerator.device, train)
    share = job.share
    shape = (views.count * views.steps_per_epoch, job.data.batch_size, len(job.dataset.classes))
    identity = cache_identity(
        teacher,
        data=job.dataset.fingerprint,
        split=[job.data.val_fraction, job.data.split_seed, job.data.image_size],
        augment=training.augment.model_dump(mode="json"),
        seed=train.seed,
        shape=shape,
        processes=share.world,
    )
    folder = (job.logits or job.folder / "logits") / identity[:16]
    rows = min(views.count, train.epochs) * views.steps_per_epoch
    megabytes = math.prod(shape) * 2 / 1e6
    job.progress.note(f"teacher's logits for {rows} steps: {megabytes:.1f} MB in {folder}")
    with locked(folder, share.rank, job.progress):
        if accelerator.is_main_process:
            TeacherCache.open(folder, identity, shape, share)
        accelerator.wait_for_everyone()
        cache = TeacherCache.open(folder, identity, shape, share)
        cache.fill(views, rows, lambda images: ready(images).logits, job.progress, teacher.side)
    accelerator.wait_for_everyone()
    return cache


def _metrics(top1: float, epoch: int, seconds: float) -> dict[str, float]:
    measured = {"best_epoch": float(epoch), "train_seconds": round(seconds, 3)}
    return {**measured, "val_top1": top1} if top1 >= 0 else measured


def _evidence(state: TrainingState, evaluated: EvalBatches) -> Evidence | None:
    """What export must find again; None without a validation split."""
    if state.best_loss < 0:
        return None
    return Evidence(
        images=evaluated.images,
        top1=state.best_top1,
        loss=state.best_loss,
        preprocessing=evaluated.preprocessing,
    )


def _environment(accelerator: Accelerator) -> dict[str, Any]:
    return {
        "versions": {
            "mldr-deploy": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "timm")},
        },
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
    }


def weights_file(weights: Path) -> Path:
    """The file that `weights` means: itself, or the one in a folder that a training stage left."""
    return _trained_in(weights) / WEIGHTS if weights.is_dir() else weights


def _pair(job: Job, student: StagePlan, teacher: StagePlan | None, training: Training) -> Pair:
    return Pair(
        classes=len(job.dataset.classes),
        student=student,
        teacher=teacher,
        labels=torch.from_numpy(job.dataset.train.labels),
        batch=job.data.batch_size // job.accelerator.num_processes // training.train.accumulate,
        device=job.accelerator.device,
    )


def _record(model: ModelConfig) -> TrainedModel | None:
    """The record beside the weights, where they are a folder of ours, or the file in it."""
    path = Path(model.weights).expanduser() if model.weights else None
    if path is not None and path.name == WEIGHTS and (path.parent / RECORD).is_file():
        path = path.parent
    if path is None or not path.is_dir():
        return None
    return load_trained(_trained_in(path))[0]


def _trained_in(folder: Path) -> Path:
    inner = folder / TRAINED
    return inner if inner.is_dir() and not (folder / RECORD).is_file() else folder


def _trained_for(model: nn.Module, classes: int, name: str) -> None:
    """Refuse timm weights made for other classes: timm put a random classifier on them."""
    published = published_classes(model)
    if published not in (None, classes):
        raise MldrError(
            f"timm's weights of {name} tell {published} classes apart, the data has {classes}: set "
            "teacher.fresh_head=true to train a new classifier, or give weights made for the data"
        )


def _same_classes(record: TrainedModel, classes: tuple[str, ...], who: str, remedy: str) -> None:
    if tuple(record.classes) == classes:
        return
    if len(record.classes) != len(classes):
        what = f"{len(record.classes)} classes, the data {len(classes)}"
    else:
        at = next(i for i, name in enumerate(classes) if record.classes[i] != name)
        what = f"class {at} is {record.classes[at]!r}, in the data {classes[at]!r}"
    raise MldrError(f"{who} tells other classes apart ({what}): {remedy}")
