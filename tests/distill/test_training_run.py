"""The two training stages: what they leave, and which teachers they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mldr_deploy.bundle.preprocess import normalise
from mldr_deploy.bundle.trained import load_trained
from mldr_deploy.data.data_config import AugmentConfig
from mldr_deploy.distill import training_run
from mldr_deploy.distill.methods.base import Pair
from mldr_deploy.distill.methods.method_registry import MethodConfig
from mldr_deploy.distill.methods.scratch import Scratch
from mldr_deploy.distill.network import Network, fresh_model, preprocessing_of
from mldr_deploy.distill.phase import Phase, Training
from mldr_deploy.distill.teacher_loading import load_teacher
from mldr_deploy.distill.trained_folder import weights_file
from mldr_deploy.distill.training_config import TrainConfig
from mldr_deploy.errors import MldrError
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model
from mldr_deploy.models.stages import plan_stages

TRAINING = Training(
    train=TrainConfig(epochs=1, precision="fp32"), augment=AugmentConfig(crop="none", flip=0)
)
TEACHER, STUDENT = ModelConfig(name="test_resnet"), ModelConfig(name="test_vit")


@pytest.fixture(scope="module")
def teacher(
    phase_in: Callable[[Path], Phase], tmp_path_factory: pytest.TempPathFactory
) -> ModelConfig:
    """A teacher that train-teacher left."""
    folder = training_run.train_teacher(
        phase_in(tmp_path_factory.mktemp("teacher")), TEACHER, TRAINING
    )
    return TEACHER.model_copy(update={"weights": str(folder)})


def test_a_distilled_student_is_the_bare_model_with_what_rebuilds_it(
    phase: Phase, teacher: ModelConfig
) -> None:
    loaded = load_teacher(teacher, phase)
    folder = training_run.distill(phase, STUDENT, loaded, MethodConfig(), TRAINING)
    record, tensors = load_trained(folder)
    bare = create_model(STUDENT, num_classes=4, image_size=32)
    bare.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    assert record.parameters == sum(p.numel() for p in bare.parameters())
    assert ModelConfig(**record.model) == STUDENT
    assert tuple(record.classes) == phase.dataset.classes
    assert record.preprocessing.mean == phase.dataset.mean
    assert (record.family, record.provenance["identity"]) == ("transformer", phase.identity)
    assert 0 <= record.metrics["val_top1"] <= 100
    assert {p.name for p in phase.folder.iterdir()} >= {"curves.png", "metrics.jsonl", "trained"}
    assert not (phase.folder / "checkpoints").exists()


def test_evaluation_and_the_student_see_the_crop_of_the_recipe(phase: Phase) -> None:
    cropped = replace(phase, data=phase.data.model_copy(update={"crop_fraction": 0.875}))
    record = load_trained(training_run.train_teacher(cropped, STUDENT, TRAINING))[0]
    assert record.preprocessing.crop_fraction == 0.875
    assert record.evidence is not None and record.evidence.preprocessing == record.preprocessing


@pytest.mark.parametrize(("balance_from", "rare"), [(3, 10), (0, 2), (30, 2)])
def test_classes_that_differ_much_are_drawn_equally_often(
    balance_from: float, rare: int, phase: Phase
) -> None:
    """Two of 40 pictures are of the last class; it gets a fourth of the 40 drawn."""
    labels = np.array([0] * 20 + [1] * 9 + [2] * 9 + [3] * 2)
    train = replace(phase.dataset.train, labels=labels)
    uneven = replace(phase, dataset=replace(phase.dataset, train=train))
    keys = {"epochs": 1, "balance_from": balance_from, "teacher_views": 1}
    training = Training(train=TrainConfig.model_validate(keys))
    plan = plan_stages(model := fresh_model(phase, STUDENT, training), 32)
    network = Network(STUDENT, model, plan, preprocessing_of(STUDENT, model, uneven))
    scratch = Scratch(Scratch.keys(), Pair(4, plan, None))
    record = training_run.execution_of(uneven, training)
    trainer = training_run.trainer_of(uneven, network, scratch, None, training, record)
    drawn = labels[trainer.views.pictures().flatten().numpy()]
    assert (drawn == 3).sum() == rare


@pytest.mark.parametrize("ema", [0.0, 0.7])
def test_the_evidence_is_of_the_kept_weights_in_fp32(phase: Phase, ema: float) -> None:
    """Also where training itself computes in bf16."""
    train = TrainConfig(epochs=2, precision="bf16", ema=ema)
    training = TRAINING.model_copy(update={"train": train})
    record, tensors = load_trained(training_run.train_teacher(phase, STUDENT, training))
    model = create_model(STUDENT, num_classes=4, image_size=32).eval()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    evidence, val = record.evidence, phase.dataset.val
    assert evidence is not None and val.pixels is not None
    assert evidence.preprocessing == record.preprocessing
    assert (evidence.images, evidence.top1) == (len(val), record.metrics["val_top1"])
    labels = torch.from_numpy(val.labels)
    with torch.inference_mode():
        logits = model(torch.from_numpy(normalise(val.pixels, record.preprocessing)))
        loss = nn.functional.cross_entropy(logits, labels)
    assert evidence.loss == pytest.approx(float(loss), rel=1e-5)


def test_a_trained_teacher_comes_back_frozen_with_its_own_weights(
    phase: Phase, teacher: ModelConfig
) -> None:
    loaded = load_teacher(teacher, phase)
    assert teacher.weights is not None
    tensors = load_trained(Path(teacher.weights))[1]
    for name, value in loaded.model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), tensors[name])
    assert not loaded.model.training


def test_weights_mean_a_file_or_the_one_in_a_stages_folder(
    teacher: ModelConfig, tmp_path: Path
) -> None:
    trained = Path(str(teacher.weights))
    for named in (trained, trained.parent, trained / "weights.safetensors"):
        assert weights_file(named) == trained / "weights.safetensors"
    assert weights_file(tmp_path / "missing.pth") == tmp_path / "missing.pth"


def test_without_a_validation_split_the_last_epoch_is_kept_and_no_score_claimed(
    phase: Phase,
) -> None:
    nothing = phase.dataset.val.subset(np.empty(0, np.int64))
    folder = training_run.train_teacher(
        replace(phase, dataset=replace(phase.dataset, val=nothing)), STUDENT, TRAINING
    )
    record = load_trained(folder)[0]
    assert record.metrics["best_epoch"] == 1
    assert "val_top1" not in record.metrics and record.evidence is None


def test_distilling_needs_a_teacher(phase: Phase) -> None:
    with pytest.raises(MldrError, match=r"method\.name=kd distills, but there is no teacher"):
        training_run.distill(phase, STUDENT, None, MethodConfig(name="kd"), TRAINING)


def test_more_parts_than_images_leave_no_relations(phase: Phase, teacher: ModelConfig) -> None:
    parts = TRAINING.train.model_copy(update={"accumulate": 2 * phase.data.batch_size})
    training = TRAINING.model_copy(update={"train": parts})
    with pytest.raises(MldrError, match=r"a forward pass has 1: raise data\.batch_size or lower"):
        training_run.check_pair(phase, STUDENT, teacher, MethodConfig(name="rkd"), training, 32)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("ant", "bee", "elk", "dog"), r"class 2 is 'cow', in the data 'elk'"),
        (("ant", "bee", "cow"), r"4 classes, the data 3"),
    ],
)
def test_a_teacher_of_other_classes_is_refused(
    phase: Phase, teacher: ModelConfig, classes: tuple[str, ...], message: str
) -> None:
    other = replace(phase, dataset=replace(phase.dataset, classes=classes))
    with pytest.raises(MldrError, match=rf"tells other classes apart \({message}\)"):
        load_teacher(teacher, other)


def test_a_student_does_not_start_from_a_model_of_other_labels(
    phase: Phase, teacher: ModelConfig
) -> None:
    """As many classes, so the weights would fit; only the record beside them tells."""
    other = replace(phase, dataset=replace(phase.dataset, classes=("ant", "bee", "elk", "dog")))
    told = r"student \S+ tells other classes apart \(class 2 is 'cow', in the data 'elk'\): set stu"
    with pytest.raises(MldrError, match=told + r"dent\.fresh_head=true"):
        fresh_model(other, teacher, TRAINING)
    fresh_model(other, teacher.model_copy(update={"fresh_head": True}), TRAINING)
    fresh_model(phase, teacher, TRAINING)


def test_published_weights_of_other_classes_are_refused(
    phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the network: a model as timm would give it, pretrained on ImageNet."""

    def pretrained(config: ModelConfig, **sizes: int) -> nn.Module:
        return create_model(config.model_copy(update={"weights": None}), **sizes)

    monkeypatch.setattr("mldr_deploy.distill.teacher_loading.create_model", pretrained)
    with pytest.raises(
        MldrError, match=r"tell 1000 classes apart, the data has 4: set teacher\.fresh"
    ):
        load_teacher(ModelConfig(name="test_resnet", weights="timm"), phase)
