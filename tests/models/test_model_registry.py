"""Models by name: classes, image sizes, patches, options, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from pydantic import ValidationError

from mldr_deploy.errors import MldrError, Unavailable
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model, list_models, normalisation
from mldr_deploy.models.stages import plan_stages


def make(image_size: int = 32, **fields: Any) -> torch.nn.Module:
    return create_model(ModelConfig.model_validate(fields), num_classes=7, image_size=image_size)


@pytest.mark.parametrize(
    ("name", "fields", "grid"),
    [
        ("resnet18", {}, 8),
        ("test_vit", {"patch_size": 4}, 8),
        ("swin_tiny_patch4_window7_224", {"options": {"depths": (1, 1, 1, 1)}}, 8),
        # timm's entry points set these patch sizes themselves.
        ("mixer_s16_224", {"patch_size": 4, "options": {"num_blocks": 4}}, 8),
        ("resmlp_12_224", {"patch_size": 8, "options": {"num_blocks": 4}}, 4),
        ("gmlp_ti16_224", {"patch_size": 4, "options": {"num_blocks": 4, "embed_dim": 32}}, 8),
    ],
)
def test_small_images(name: str, fields: dict[str, Any], grid: int) -> None:
    model = make(name=name, **fields)
    assert model.training
    assert plan_stages(model, 32).shapes[0].height == grid
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_overriding_leaves_timm_as_it_is() -> None:
    make(name="mixer_s16_224", patch_size=4, options={"num_blocks": 2, "embed_dim": 32})
    model = timm.create_model("mixer_s16_224")
    assert model.stem.proj.kernel_size == (16, 16) and len(model.blocks) == 8


def test_drop_path_grows_with_depth() -> None:
    model = make(name="test_vit", drop_path=0.2)
    rates = [m.drop_prob for m in model.modules() if type(m).__name__ == "DropPath"]
    assert rates == sorted(rates) and rates[-1] == pytest.approx(0.2)


def test_unknown_names_answer_with_the_nearest() -> None:
    with pytest.raises(MldrError, match=r"unknown model 'resnet81'; nearest: .*resnet18"):
        make(name="resnet81")
    with pytest.raises(MldrError, match="unknown model 'zzzzzz'; `mldr-deploy models` lists"):
        make(name="zzzzzz")
    with pytest.raises(
        MldrError, match=r"resnet18 has no weights tag 'a9_in1k'; it has: .*a1_in1k"
    ):
        make(name="resnet18.a9_in1k")


def test_arguments_that_an_architecture_does_not_take() -> None:
    with pytest.raises(MldrError, match="resnet18 takes no patch_size; remove that key"):
        make(name="resnet18", patch_size=4)
    with pytest.raises(MldrError, match="resnet18 takes no img_size"):
        make(name="resnet18", img_size=32)
    with pytest.raises(MldrError, match=r"test_vit takes no options\.widow_size"):
        make(name="test_vit", options={"widow_size": 7})
    with pytest.raises(MldrError, match="vgg11 takes no drop_path"):
        make(name="vgg11", drop_path=0.1)
    with pytest.raises(MldrError, match=r"test_vit cannot be built: .*heads"):
        make(name="test_vit", options={"num_heads": 5})


def test_too_few_blocks_are_refused_in_one_line_too() -> None:
    """CSATv2 draws from an iterator that ends: a StopIteration, which is no RuntimeError."""
    config = ModelConfig(name="csatv2", options={"depths": [1, 1, 1, 1]})
    with pytest.raises(MldrError, match="csatv2 cannot be built: StopIteration"):
        create_model(config, num_classes=5, image_size=64)


def test_sizes_that_a_model_cannot_take_answer_with_what_works() -> None:
    with pytest.raises(
        MldrError, match=r"cannot take 32 px.*it works with data\.image_size = 224$"
    ):
        make(name="efficientformer_l1", options={"depths": (1, 1, 1, 1)})
    with pytest.raises(
        MldrError, match=r'deit_tiny_patch16_224 cannot take 32 px.*works with img_size = "auto"$'
    ):
        make(name="deit_tiny_patch16_224", img_size=64, options={"depth": 1})
    with pytest.raises(MldrError, match=r'inception_v3 cannot take 64 px.*stem = "small" or'):
        make(name="inception_v3", image_size=64)


def test_an_encoder_is_no_classifier() -> None:
    with pytest.raises(MldrError, match="qwen3_vit_88m_enc is not a classifier"):
        make(name="qwen3_vit_88m_enc", options={"depth": 1})


def test_pretrained_weights_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("mldr_deploy.models.architecture.require_published", lambda _: None)
    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    with pytest.raises(Unavailable, match=r"weights of test_vit could not be fetched.*no route"):
        make(name="test_vit", weights="timm")


def test_normalisation_is_that_of_the_published_weights() -> None:
    assert normalisation(timm.create_model("resnet18")) == (
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    )
    vit = timm.create_model("vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    assert normalisation(vit) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_listing() -> None:
    assert {"resnet18", "resnet34"} <= set(list_models("resnet*"))
    assert all(n.startswith("mixer_") for n in list_models("mixer_*"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "x", "img_size": 4}, 'allowed: "auto" or 8 to 2048 pixels'),
        ({"name": "x", "stem": "tiny"}, "'default' or 'small'"),
        ({"name": "x", "drop_path": 1.0}, "less than 1"),
        ({"name": "x", "options": {"num_classes": 3}}, "num_classes is not allowed here: the data"),
        ({"name": "x", "layers": 3}, "Extra inputs are not permitted"),
        ({"name": ""}, "at least 1 character"),
    ],
)
def test_configs_that_make_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(fields)


def test_every_field_is_documented() -> None:
    assert all(len(f.description or "") > 30 for f in ModelConfig.model_fields.values())
