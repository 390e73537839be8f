"""New classifiers: a first loss of ln C, whatever the architecture and the number of classes."""

from __future__ import annotations

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.classifier import classifier_tensors
from mldr_deploy.models.model_registry import create_model

SIDE = 64


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """Sixteen pieces of two real photographs, normalised: [16, 3, 64, 64]."""
    pieces = [
        torch.from_numpy(image.copy())[y : y + 200, x : x + 200].permute(2, 0, 1).float()
        for image in load_sample_images().images
        for y in (0, 200)
        for x in (0, 140, 280, 420)
    ]
    small = F.interpolate(torch.stack(pieces), (SIDE, SIDE), mode="bilinear", antialias=True)
    return (small / 255 - 0.45) / 0.225


@pytest.mark.parametrize("classes", [2, 5, 10, 100])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("test_resnet", {}),
        ("test_efficientnet", {}),
        ("mobilenetv3_small_050", {}),
        ("test_vit", {}),
        ("levit_128s", {"options": {"depth": (1, 1, 1)}}),
        ("mixer_s16_224", {"options": {"num_blocks": 1}}),
        ("vim_pico_patch8_64", {}),
    ],
)
def test_the_first_loss_is_that_of_guessing(
    name: str, fields: dict[str, object], classes: int, photographs: Tensor
) -> None:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"name": name, **fields})
    model = create_model(config, num_classes=classes, image_size=SIDE)
    labels = torch.arange(len(photographs)) % classes
    for training in (True, False):
        with torch.no_grad():
            logits = model.train(training)(photographs)
        assert F.cross_entropy(logits, labels).item() == pytest.approx(math.log(classes), rel=0.05)
        assert logits.std() > 0  # zeros would have no correlations


def test_pretrained_features_meet_a_small_head_too(
    photographs: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm leaves a random classifier where its weights tell other classes apart."""
    monkeypatch.setattr("mldr_deploy.models.architecture.require_published", lambda _: None)
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *_, **__: None)
    config = ModelConfig(name="test_efficientnet", weights="timm", fresh_head=True)
    model = create_model(config, num_classes=5, image_size=SIDE)
    with torch.no_grad():
        assert model.eval()(photographs).std() < 0.1
    whole = create_model(config, num_classes=1000, image_size=SIDE)  # its own classifier stays
    assert classifier_tensors(whole, 1000)[0].std() > 1e-2


def test_a_batch_norm_as_wide_as_the_classes_is_no_classifier() -> None:
    model = timm.create_model("levit_128s", num_classes=384)
    heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 384]
    theirs = {id(t) for head in heads for t in (head.weight, head.bias)}
    ours = {id(t) for t in classifier_tensors(model, 384)}
    assert ours and ours <= theirs
