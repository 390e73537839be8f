"""A teacher loaded from its weights, its classes checked, and its answers kept for a training."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MldrError
from ..models.architecture_config import ModelConfig
from ..models.class_order import ClassOrder, output_order, reorder_outputs
from ..models.model_registry import create_model, published_classes
from ..models.stages import StageOutput, plan_teacher
from .execution import Execution
from .methods.base import Method
from .network import check_classes, preprocessing_of
from .phase import Phase, Training
from .task import FrozenTeacher
from .teacher_cache import TeacherCache, cache_identity, locked
from .trained_folder import trained_record
from .views import Views


def load_teacher(
    config: ModelConfig, phase: Phase, class_order: ClassOrder | None = None
) -> FrozenTeacher:
    """The teacher of ``config.weights``: timm's, a file, or a folder that train-teacher left.

    ``class_order``: the order of its outputs, where it is not the data's. Raises MldrError when
    its classes are not the data set's.
    """
    classes, side = phase.dataset.classes, phase.data.image_size
    record = trained_record(config)
    if record is not None and class_order is None:
        check_classes(record, classes, f"teacher {config.weights}", "use its own data set")
    note = phase.progress.note
    model = create_model(config, num_classes=len(classes), image_size=side, note=note)
    if config.weights == "timm":
        _check_published(model, len(classes), config.name)
    if class_order is not None:
        reorder_outputs(model, output_order(class_order, classes), side)
    plan = plan_teacher(model, phase.data.image_size)
    return FrozenTeacher(model.eval(), plan, preprocessing_of(config, model, phase))


def cached_logits(
    phase: Phase,
    teacher: FrozenTeacher | None,
    method: Method,
    views: Views,
    training: Training,
    execution: Execution,
) -> TeacherCache | None:
    """The teacher's logits for the views, complete; None where it has to be asked every time.

    Its pooled features beside them, where the method compares features. What ``training`` leaves
    open is computed as ``execution`` says.

    Raises MldrError where they do not fit on the disk, or are of another teacher.
    """
    if teacher is None or not views.count or method.needs_teacher_stages:
        return None
    accelerator, train = phase.accelerator, training.train
    ready = teacher.to(accelerator.device, execution.applied(train))
    share = phase.share
    width = len(phase.dataset.classes)
    if method.needs_features:
        width += teacher.plan.pooled_width
    shape = (views.count * views.steps_per_epoch, phase.data.batch_size, width)
    younger: dict[str, Any] = {}  # keys that older caches do not have, where they say something
    if phase.balanced(training):
        younger["balanced"] = True
    if ready.bf16:  # what `auto` stands for differs between runs of one machine
        younger["precision"] = "bf16"
    identity = cache_identity(
        teacher,
        data=phase.dataset.fingerprint,
        split=[phase.data.val_fraction, phase.data.split_seed, phase.data.image_size],
        augment=training.augment.model_dump(mode="json"),
        seed=train.pixel_seed,
        shape=shape,
        processes=share.world,
        **younger,
    )
    folder = phase.logits_folder / identity[:16]
    seen_views = views.count if train.view_seed is not None else min(views.count, train.passes)
    rows = seen_views * views.steps_per_epoch
    megabytes = math.prod(shape) * 2 / 1e6
    phase.progress.note(f"teacher's logits for {rows} steps: {megabytes:.1f} MB in {folder}")
    with locked(folder, share.rank, phase.progress):
        if accelerator.is_main_process:
            TeacherCache.open(folder, identity, shape, share)
        accelerator.wait_for_everyone()
        cache = TeacherCache.open(folder, identity, shape, share)
        asks = ready, partial(ready, by_torch=True)
        answer, check = (partial(_answer, ask, method) for ask in asks)
        cache.fill(views, rows, answer, phase.progress, teacher.side, check)
    accelerator.wait_for_everyone()
    return cache


def _answer(ask: Callable[..., StageOutput], method: Method, pixels: Tensor) -> Tensor:
    """What a cache keeps of [b, 3, S, S]: logits [b, C], or logits and features [b, C + F]."""
    answer = ask(pixels, features=method.needs_features)
    if answer.features is None:
        return answer.logits
    return torch.cat([answer.logits, answer.features], dim=1)


def _check_published(model: nn.Module, classes: int, name: str) -> None:
    """Refuse timm weights made for other classes: timm put a random classifier on them."""
    published = published_classes(model)
    if published not in (None, classes):
        raise MldrError(
            f"timm's weights of {name} tell {published} classes apart, the data has {classes}: set "
            "teacher.fresh_head=true to train a new classifier, or give weights made for the data"
        )
