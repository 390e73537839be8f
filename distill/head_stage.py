"""The classifier of a pretrained model taught alone: features once, then a convex problem."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..bundle.preprocess import Preprocessing
from ..data.loader import EvalBatches
from ..errors import MldrError
from ..models.stages import StagePlan
from .fast_features import Pooled, fastest
from .features import FeatureCache, classifier_of, features_of
from .head import Head, labelled, measured, teach
from .job import Job, Training
from .metrics import MetricsLog
from .task import Teacher
from .teacher_cache import cache_identity, locked
from .views import Views


def require_teachable(name: str, weights: str | None, training: Training) -> None:
    """Raises MldrError where there are no features yet, or pictures have more than one label."""
    if weights is None:
        raise MldrError(
            f"train.parts=head needs pretrained features, but {name} starts without weights: give "
            "it weights, or set train.parts=all"
        )
    if training.augment.mixup or training.augment.cutmix:
        raise MldrError(
            "train.parts=head has one label a picture: set augment.mixup and augment.cutmix to 0"
        )


def teach_head(
    job: Job,
    model: nn.Module,
    plan: StagePlan,
    preprocessing: Preprocessing,
    training: Training,
    name: str,
) -> None:
    """Give ``model`` the classifier that its frozen features are best told apart by.

    Raises MldrError for a model whose logits are not one linear layer of its features.
    """
    where, layer = classifier_of(model, plan, name, job.data.image_size)
    frozen = Teacher(model, plan, preprocessing)
    train = training.train
    views = job.views(training, train.head_views)
    frozen.to(job.accelerator.device, train)
    images = views.count * len(job.dataset.train) + len(job.dataset.val)
    pooled = fastest(frozen, images, job.accelerator.device, job.progress)
    cache = _features(job, frozen, where, training, views, pooled)
    labels, pictures = torch.from_numpy(job.dataset.train.labels), views.pictures()

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        return cache.blocks(pictures)

    head, tried = teach(
        blocks,
        labels,
        len(job.dataset.classes),
        features_of(pooled, _whole_val(job, preprocessing)),
        smoothing=train.label_smoothing,
        seed=job.data.split_seed,
    )
    with torch.no_grad():
        layer.weight.copy_(head.weight)
        layer.bias.copy_(head.bias)
    model.requires_grad_(True)
    if job.accelerator.is_main_process:
        seen = measured(head, labelled(blocks, labels))
        _tell(job, head, tried, seen, alone=train.parts == "head")


def _features(
    job: Job, frozen: Teacher, classifier: str, training: Training, views: Views, pooled: Pooled
) -> FeatureCache:
    """What the classifier sees of every view, complete."""
    accelerator, share = job.accelerator, job.share
    rows = views.count * views.steps_per_epoch
    shape = (rows, job.data.batch_size, frozen.plan.pooled_width)
    identity = cache_identity(
        frozen,
        without=classifier,
        data=job.dataset.fingerprint,
        split=[job.data.val_fraction, job.data.split_seed],
        augment=training.augment.model_dump(mode="json"),
        seed=training.train.seed,
        shape=shape,
        processes=share.world,
    )
    folder = job.folder / "features" / identity[:16]

    with locked(folder, share.rank, job.progress):
        if accelerator.is_main_process:
            FeatureCache.open(folder, identity, shape, share)
        accelerator.wait_for_everyone()
        cache = FeatureCache.open(folder, identity, shape, share)
        cache.fill(views, rows, lambda x: pooled(frozen.normalise(x)), job.progress)
    accelerator.wait_for_everyone()
    return cache


def _whole_val(job: Job, preprocessing: Preprocessing) -> EvalBatches:
    """The validation split, all of it in every process."""
    device, threads = job.accelerator.device, job.data.workers
    return EvalBatches(job.dataset.val, preprocessing, 250, device, threads=threads)


def _tell(job: Job, head: Head, tried: list[Head], seen: Head, *, alone: bool) -> None:
    """A note; where nothing else is trained also a line of metrics.jsonl for every decay."""
    job.progress.note(
        f"head: decay {head.decay:g}, the best of {len(tried)}, gets {head.top1:.2f} % of the "
        f"pictures held out and {seen.top1:.2f} % of the training views"
    )
    if not alone:  # the training that follows begins the file
        return
    log = MetricsLog(job.folder)
    for number, each in enumerate(tried, 1):
        log.write(
            number, number, {"decay": each.decay, "head_loss": each.loss, "head_top1": each.top1}
        )
    log.close()
