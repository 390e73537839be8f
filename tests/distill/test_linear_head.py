"""A classifier taught alone: against scikit-learn, and through the stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from mldr_deploy.bundle.preprocess import normalise
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.bundle.trained import load_trained
from mldr_deploy.data.data_config import AugmentConfig
from mldr_deploy.distill import fast_features, teach_head, training_run
from mldr_deploy.distill.features import classifier_of
from mldr_deploy.distill.linear_head import (
    DECAYS,
    LinearHead,
    Standard,
    class_weights,
    fit,
    teach,
)
from mldr_deploy.distill.methods.method_registry import MethodConfig
from mldr_deploy.distill.phase import Phase, Training
from mldr_deploy.distill.teacher_loading import load_teacher
from mldr_deploy.distill.training_config import TrainConfig
from mldr_deploy.errors import MldrError
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model
from mldr_deploy.models.stages import plan_stages

PICTURES, WIDTH, CLASSES = 90, 12, 3
Pairs = Iterator[tuple[Tensor, Tensor]]


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(PICTURES) % CLASSES


@pytest.fixture
def features(labels: Tensor) -> Tensor:
    """Classes that overlap, features of unlike scales, one of them never there."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, WIDTH))
    seen = centres[labels.numpy()] + 2 * rng.normal(size=(PICTURES, WIDTH))
    scaled = seen * np.geomspace(0.01, 100, WIDTH) + 5
    scaled[:, 3] = 0
    return torch.from_numpy(scaled).float()


def in_blocks(features: Tensor, size: int = 40) -> Callable[[], Pairs]:
    def blocks() -> Pairs:
        yield from zip(features.split(size), torch.arange(len(features)).split(size), strict=True)

    return blocks


def taught(features: Tensor, labels: Tensor, weights: Tensor, decay: float) -> Tensor:
    """Probabilities [P, C]."""
    blocks = in_blocks(features)
    standard = Standard.of(blocks)
    start = torch.zeros(CLASSES, WIDTH), torch.zeros(CLASSES)
    found = fit(blocks, labels, weights, decay, 0.0, standard, start)
    weight, bias = standard.plain(*found)
    return (features @ weight.T + bias).softmax(1)


def by_sklearn(features: Tensor, labels: Tensor, weights: Tensor, decay: float) -> Any:
    x = features.double().numpy()
    deviation = x.std(0)
    x = (x - x.mean(0)) / np.where(deviation > 0, deviation, 1)
    strength = 1 / (decay * float(weights.sum()))
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=5000)
    return model.fit(x, labels.numpy(), sample_weight=weights.numpy()).predict_proba(x)


@pytest.mark.parametrize("decay", [1.0, 0.01])
@pytest.mark.parametrize("weighted", [False, True])
def test_fit_is_scikit_learns_logistic_regression(
    features: Tensor, labels: Tensor, decay: float, weighted: bool
) -> None:
    """The features' own scales differ by 10,000; a floor under the deviations must not show."""
    even = features / features.std(0).clamp(min=1e-6)
    weights = torch.linspace(0.2, 3, PICTURES) if weighted else torch.ones(PICTURES)
    expected = by_sklearn(even, labels, weights, decay)
    np.testing.assert_allclose(taught(even, labels, weights, decay), expected, atol=2e-3)


def test_smoothing_is_that_of_the_targets(features: Tensor, labels: Tensor) -> None:
    """With no decay the mean probabilities of a class are its smoothed targets' (the bias's
    gradient is zero)."""
    even = (features - features.mean(0)) / features.std(0).clamp(min=1e-6)
    start = torch.zeros(CLASSES, WIDTH), torch.zeros(CLASSES)
    blocks, weights = in_blocks(even), torch.where(labels == 0, 2.0, 1.0)
    found = fit(blocks, labels, weights, 0.1, 0.3, Standard.of(blocks), start)
    weight, bias = Standard.of(blocks).plain(*found)
    mean = ((even @ weight.T + bias).softmax(1) * weights[:, None]).sum(0) / weights.sum()
    targets = 0.7 * torch.tensor([0.5, 0.25, 0.25]) + 0.3 / CLASSES
    torch.testing.assert_close(mean, targets, atol=1e-3, rtol=0)


def test_a_feature_that_hardly_ever_fires_is_not_blown_up() -> None:
    features = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    features[:, 1] = 0
    features[7, 1] = 1e-4
    std = Standard.of(in_blocks(features)).std
    assert std[1] == pytest.approx(0.01 * float(features.std(0, correction=0).mean()), rel=0.01)


def test_the_decay_is_the_one_that_scikit_learn_would_choose(labels: Tensor) -> None:
    """Noise and many features: without decay the training pictures are known by heart."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(CLASSES, WIDTH * 5))
    seen = [centres[labels] + 4 * rng.normal(size=(PICTURES, WIDTH * 5)) for _ in range(2)]
    train, other = (torch.from_numpy(x).float() for x in seen)
    decays = (1.0, 0.1, 0.01, 0.001)
    told: list[LinearHead] = []
    head, tried = teach(
        in_blocks(train), labels, CLASSES, (other, labels), decays=decays, tell=told.append
    )
    assert told == tried
    losses = []
    mean, std = train.mean(0).numpy(), train.std(0, correction=0).numpy()
    for decay in decays:
        model = LogisticRegression(C=1 / (decay * PICTURES), tol=1e-8, max_iter=2000)
        model.fit((train.numpy() - mean) / std, labels.numpy())
        p = model.predict_proba((other.numpy() - mean) / std)
        losses.append(-np.log(p[np.arange(PICTURES), labels.numpy()]).mean())
    assert head.decay == decays[int(np.argmin(losses))]
    assert [each.loss for each in tried] == pytest.approx(losses[: len(tried)], rel=0.02)
    assert head.loss == min(each.loss for each in tried)
    hits = (head(other).argmax(1) == labels).float().mean()
    assert head.top1 == pytest.approx(100 * float(hits))


def test_without_pictures_held_out_a_fifth_chooses_and_all_teach(
    features: Tensor, labels: Tensor
) -> None:
    even = features / features.std(0).clamp(min=1e-6)
    head, tried = teach(in_blocks(even), labels, CLASSES, None)
    assert len(tried) > 1
    expected = by_sklearn(even, labels, torch.ones(PICTURES), head.decay)
    np.testing.assert_allclose(head(even).softmax(1), expected, atol=5e-3)
    partly = head.top1 * PICTURES / 5 / 100  # of 18 pictures
    assert partly == pytest.approx(round(partly))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((4, 4, 4), (1, 1, 1)),
        ((6, 2, 4), (1, 1, 1)),
        ((12, 2, 4), (0.5, 3, 1.5)),
        ((8, 0, 2), None),
    ],
)
def test_classes_that_differ_by_more_than_3_to_1_count_alike(
    counts: tuple[int, ...], expected: tuple[float, ...] | None
) -> None:
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    weights = class_weights(labels, 3)
    assert float(weights.sum()) == pytest.approx(len(labels))
    if expected is None:  # nobody's class has no say
        expected = (0.625, 0, 2.5)
    for label, value in enumerate(expected):
        assert torch.allclose(weights[labels == label], torch.tensor(float(value)))


# --- through the stage

HEAD = Training(
    train=TrainConfig(parts="head", head_views=2, label_smoothing=0.0, precision="fp32"),
    augment=AugmentConfig(crop="none", flip=0),
)
RESNET = ModelConfig(name="test_resnet")


@pytest.fixture(scope="module")
def pretrained(phase_in: Callable[[Path], Phase], tmp_path_factory: Any) -> ModelConfig:
    """Half-trained weights to start from."""
    plain = Training(train=TrainConfig(epochs=1, precision="fp32"))
    folder = training_run.train_teacher(
        phase_in(tmp_path_factory.mktemp("pretrained")), RESNET, plain
    )
    return RESNET.model_copy(update={"weights": str(folder)})


class Noted(Silent):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_head_says_that_unequal_classes_weigh_alike(
    phase: Phase, pretrained: ModelConfig
) -> None:
    labels, notes = np.array([0] * 20 + [1] * 9 + [2] * 9 + [3] * 2), Noted()
    train = replace(phase.dataset.train, labels=labels)
    uneven = replace(phase, dataset=replace(phase.dataset, train=train), progress=notes)
    training_run.train_teacher(uneven, pretrained, HEAD)
    assert "head: classes differ by 10.0 to 1: they weigh alike" in notes.notes


def test_the_head_is_scikit_learns_on_frozen_features_and_nothing_else_changes(
    phase: Phase, pretrained: ModelConfig
) -> None:
    record, tensors = load_trained(training_run.train_teacher(phase, pretrained, HEAD))
    before = load_trained(Path(str(pretrained.weights)))[1]
    changed = {name for name, value in tensors.items() if not np.array_equal(value, before[name])}
    assert changed == {"fc.weight", "fc.bias"}
    model = create_model(RESNET, num_classes=4, image_size=32).eval()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    val, train = phase.dataset.val, phase.dataset.train
    assert val.pixels is not None and train.pixels is not None

    def seen(pixels: Any, pre_logits: bool) -> Any:
        inputs = torch.from_numpy(normalise(pixels, record.preprocessing))
        with torch.inference_mode():
            return model.forward_head(model.forward_features(inputs), pre_logits=pre_logits).numpy()

    decays = [line for line in run_metrics(phase) if "decay" in line]
    decay = min(decays, key=lambda line: line["head_loss"])["decay"]
    rows = np.concatenate([train_order(phase, epoch) for epoch in range(2)])
    expected = by_sklearn(
        torch.from_numpy(seen(train.pixels[rows], True)),
        torch.from_numpy(train.labels[rows]),
        torch.ones(len(rows)),
        decay,
    )
    logits = torch.from_numpy(seen(train.pixels[rows], False))
    np.testing.assert_allclose(logits.softmax(1), expected, atol=0.03)
    hits = (seen(val.pixels, False).argmax(1) == val.labels).mean()
    assert record.metrics["val_top1"] == pytest.approx(100 * hits)
    assert record.evidence is not None and record.evidence.top1 == record.metrics["val_top1"]
    assert not (phase.folder / "features").exists()


def run_metrics(phase: Phase) -> list[dict[str, float]]:
    from mldr_deploy.distill.training_log import read_metrics

    return read_metrics(phase.folder)


def train_order(phase: Phase, epoch: int) -> Any:
    """As data/loader.py writes: a function of (seed, epoch), whole batches only."""
    order = np.random.default_rng([0, epoch]).permutation(len(phase.dataset.train))
    return order[: len(order) // phase.data.batch_size * phase.data.batch_size]


def test_an_interrupted_run_goes_on_and_ends_the_same(
    phase_in: Callable[[Path], Phase],
    pretrained: ModelConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = load_trained(
        training_run.train_teacher(phase_in(tmp_path / "whole"), pretrained, HEAD)
    )[1]
    asked, found = [0], teach_head.fastest

    def tiring(*args: Any) -> Callable[[Tensor], Tensor]:
        pooled = found(*args)

        def tired(inputs: Tensor) -> Tensor:
            asked[0] += 1
            if asked[0] == 7:
                raise KeyboardInterrupt
            return pooled(inputs)

        return tired

    monkeypatch.setattr(teach_head, "fastest", tiring)
    part = phase_in(tmp_path / "part")
    with pytest.raises(KeyboardInterrupt):
        training_run.train_teacher(part, pretrained, HEAD)
    again = load_trained(training_run.train_teacher(part, pretrained, HEAD))[1]
    # Of ten rows six were there; one is asked again as a check, and the validation split.
    assert asked[0] == 7 + 4 + 1 + 1
    for name, value in whole.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


def test_a_split_without_validation_claims_no_score(phase: Phase, pretrained: ModelConfig) -> None:
    nothing = phase.dataset.val.subset(np.empty(0, np.int64))
    bare = replace(phase, dataset=replace(phase.dataset, val=nothing))
    record = load_trained(training_run.train_teacher(bare, pretrained, HEAD))[0]
    assert "val_top1" not in record.metrics and record.evidence is None


@pytest.mark.parametrize(
    ("model", "augment", "message"),
    [
        ({"weights": None}, {}, "needs pretrained features, but test_resnet starts without"),
        ({}, {"mixup": 0.2}, "one label a picture: set augment.mixup and augment.cutmix to 0"),
        ({}, {"cutmix": 1.0}, "one label a picture"),
    ],
)
def test_what_a_head_cannot_be_taught_on_is_refused(
    phase: Phase, pretrained: ModelConfig, model: Any, augment: Any, message: str
) -> None:
    training = HEAD.model_copy(update={"augment": AugmentConfig(**augment)})
    with pytest.raises(MldrError, match=f"train.parts=head .*{message}"):
        training_run.train_teacher(phase, pretrained.model_copy(update=model), training)


def test_a_head_does_not_learn_from_a_teacher(phase: Phase, pretrained: ModelConfig) -> None:
    teacher = load_teacher(pretrained, phase)
    with pytest.raises(MldrError, match=r"parts=head .* set method\.name=scratch, or train\.parts"):
        training_run.distill(phase, pretrained, teacher, MethodConfig(name="kd"), HEAD)
    training_run.distill(phase, pretrained, None, MethodConfig(name="scratch"), HEAD)


@pytest.mark.slow
def test_onnx_runtime_is_taken_for_many_images_and_gives_the_same(
    phase: Phase, pretrained: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = load_teacher(pretrained, phase)
    inputs, device = torch.randn(5, 3, 32, 32), torch.device("cpu")
    slow = fast_features.fastest(frozen, 10, device, Silent())
    quick = fast_features.fastest(frozen, 10**6, device, Silent())
    assert (slow.__name__, quick.__name__) == ("by_torch", "by_onnx")
    pooled = frozen.model.forward_head(frozen.model.forward_features(inputs), pre_logits=True)
    for way in (slow, quick):
        torch.testing.assert_close(way(inputs), pooled.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fault", ["raises", "differs"])
def test_where_onnx_runtime_fails_or_differs_pytorch_answers(
    phase: Phase, pretrained: ModelConfig, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def traced(pooled: Any, side: int) -> Any:
        if fault == "raises":
            raise RuntimeError("no")
        return lambda inputs: pooled(inputs) + 0.1

    class Notes(Silent):
        def note(self, text: str) -> None:
            told.append(text)

    told: list[str] = []
    monkeypatch.setattr(fast_features, "traced", traced)
    frozen = load_teacher(pretrained, phase)
    way = fast_features.fastest(frozen, 10**6, torch.device("cpu"), Notes())
    assert way.__name__ == "by_torch"
    said = {"raises": "RuntimeError while tracing", "differs": "ONNX Runtime's differ by up to"}
    assert len(told) == 1 and said[fault] in told[0]


def resnet(**change: Any) -> nn.Module:
    model: nn.Module = create_model(RESNET, num_classes=4, image_size=32)
    for name, value in change.items():
        setattr(model, name, value)
    return model


@pytest.mark.parametrize("way", ["no classifier", "no bias", "scaled", "pooled elsewhere"])
def test_logits_that_are_not_one_linear_layer_of_the_features_are_refused(way: str) -> None:
    model = resnet()
    plan = plan_stages(model, 32)
    assert classifier_of(model, plan, "it", 32) == ("fc", model.fc)
    if way == "no classifier":
        model = resnet(get_classifier=lambda: nn.Identity())
    elif way == "no bias":
        model = resnet(fc=nn.Linear(plan.pooled_width, 4, bias=False))
    elif way == "scaled":
        head = model.forward_head
        model.forward_head = lambda x, pre_logits=False: (
            head(x, pre_logits=pre_logits) * (1 if pre_logits else 2)
        )
    else:
        plan = replace(plan, pooled_width=0)
    with pytest.raises(MldrError, match=r"not one linear layer .* set train\.parts=all"):
        classifier_of(model, plan, "it", 32)


def test_one_picture_a_class_is_taught_with_the_largest_decay() -> None:
    """Nothing can be held out to choose by, and dividing by no picture would end it."""
    features, labels = torch.eye(4), torch.arange(4)
    head, tried = teach(in_blocks(features), labels, 4, None)
    assert [one.decay for one in tried] == [max(DECAYS)]
    assert head.top1 == 100.0
