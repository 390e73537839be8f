"""The classifier of a pretrained model taught alone: features once, then a convex problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..bundle.preprocess import Preprocessing
from ..data.balance import imbalance
from ..data.loader import EvalBatches
from ..errors import MldrError
from ..models.architecture_config import ModelConfig
from .fast_features import Pooled, fastest
from .features import FeatureCache, classifier_of, features_of
from .linear_head import BALANCED_FROM, DECAYS, LinearHead, labelled, measured, teach
from .network import Network
from .phase import Phase, Training
from .task import FrozenTeacher
from .teacher_cache import cache_identity, locked
from .trackers import RunTrackers, TrackerName
from .training_log import MetricsLog
from .views import Views


def require_teachable(config: ModelConfig, training: Training) -> None:
    """Raises MldrError where there are no features yet, or pictures have more than one label."""
    if config.weights is None:
        raise MldrError(
            f"train.parts=head needs pretrained features, but {config.name} starts without "
            "weights: give it weights, or set train.parts=all"
        )
    if training.augment.mixup or training.augment.cutmix:
        raise MldrError(
            "train.parts=head has one label a picture: set augment.mixup and augment.cutmix to 0"
        )


def teach_head(phase: Phase, network: Network, training: Training) -> None:
    """Give ``network`` the classifier that its frozen features are best told apart by.

    Raises MldrError for a model whose logits are not one linear layer of its features.
    """
    model, plan = network.model, network.plan
    layer_path, layer = classifier_of(model, plan, network.config.name, phase.data.image_size)
    frozen = FrozenTeacher(model, plan, network.preprocessing)
    train = training.train
    views = phase.views(training, train.head_views)
    frozen.to(phase.accelerator.device, train)
    images = views.count * len(phase.dataset.train) + len(phase.dataset.val)
    pooled = fastest(frozen, images, phase.accelerator.device, phase.progress)
    cache = _features(phase, frozen, layer_path, training, views, pooled)
    labels, pictures = torch.from_numpy(phase.dataset.train.labels), views.pictures()

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        return cache.blocks(pictures)

    held_out = features_of(pooled, _whole_val(phase, network.preprocessing))
    phase.progress.start("teaching the head", len(DECAYS))
    head, heads = teach(
        blocks,
        labels,
        len(phase.dataset.classes),
        held_out,
        smoothing=train.label_smoothing,
        seed=phase.data.split_seed,
        tell=lambda tried: phase.progress.advance(decay=tried.decay, top1=tried.top1),
    )
    phase.progress.finish()
    with torch.no_grad():
        layer.weight.copy_(head.weight)
        layer.bias.copy_(head.bias)
    model.requires_grad_(True)
    if phase.accelerator.is_main_process:
        on_training = measured(head, labelled(blocks, labels))
        _tell(
            phase,
            head,
            heads,
            on_training,
            head_only=train.parts == "head",
            trackers=train.trackers,
        )


def _features(
    phase: Phase,
    frozen: FrozenTeacher,
    classifier: str,
    training: Training,
    views: Views,
    pooled: Pooled,
) -> FeatureCache:
    """The classifier's features of every view, complete."""
    accelerator, share = phase.accelerator, phase.share
    rows = views.count * views.steps_per_epoch
    shape = (rows, phase.data.batch_size, frozen.plan.pooled_width)
    identity = cache_identity(
        frozen,
        without=classifier,
        data=phase.dataset.fingerprint,
        split=[phase.data.val_fraction, phase.data.split_seed],
        augment=training.augment.model_dump(mode="json"),
        seed=training.train.pixel_seed,
        shape=shape,
        processes=share.world,
    )
    folder = phase.folder / "features" / identity[:16]

    with locked(folder, share.rank, phase.progress):
        if accelerator.is_main_process:
            FeatureCache.open(folder, identity, shape, share)
        accelerator.wait_for_everyone()
        cache = FeatureCache.open(folder, identity, shape, share)
        cache.fill(views, rows, lambda x: pooled(frozen.normalise(x)), phase.progress)
    accelerator.wait_for_everyone()
    return cache


def _whole_val(phase: Phase, preprocessing: Preprocessing) -> EvalBatches:
    """The validation split, all of it in every process."""
    device, threads = phase.accelerator.device, phase.data.workers
    return EvalBatches(phase.dataset.val, preprocessing, 250, device, threads=threads)


def _tell(
    phase: Phase,
    head: LinearHead,
    heads: list[LinearHead],
    on_training: LinearHead,
    *,
    head_only: bool,
    trackers: Sequence[TrackerName],
) -> None:
    """A note; where nothing else is trained also a line of metrics.jsonl for every decay."""
    times = imbalance(phase.dataset.train.labels)
    if times > BALANCED_FROM:
        phase.progress.note(f"head: classes differ by {times:.1f} to 1: they weigh alike")
    phase.progress.note(
        f"head: decay {head.decay:g}, the best of {len(heads)}, gets {head.top1:.2f} % of the "
        f"pictures held out and {on_training.top1:.2f} % of the training views"
    )
    if not head_only:  # the training that follows begins the file
        return
    log = MetricsLog(
        phase.folder, trackers=RunTrackers(trackers, phase.folder, note=phase.progress.note)
    )
    for number, head in enumerate(heads, 1):
        values = {"decay": head.decay, "head_loss": head.loss, "head_top1": head.top1}
        log.write(number, number, values)
    log.close()
