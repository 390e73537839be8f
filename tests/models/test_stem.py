"""The small stem on the ways in which CNNs build their first layers."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from mldr_deploy.errors import MldrError
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model
from mldr_deploy.models.stages import plan_stages
from mldr_deploy.models.stem import shrink_stem


def side_of_first_stage(name: str, stem: str) -> int:
    config = ModelConfig.model_validate({"name": name, "stem": stem})
    model = create_model(config, num_classes=2, image_size=64)
    return plan_stages(model, 64).shapes[0].height


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("resnet18", 4),  # 7x7 stride 2, max-pool
        ("resnet18d", 4),  # three 3x3, max-pool
        ("legacy_seresnet18", 4),
        ("resnetv2_18", 4),
        ("skresnet18", 4),
        ("mobilenetv2_035", 2),  # no max-pool
        ("tf_mobilenetv3_small_minimal_100", 2),  # "same" padding worked out at run time
        ("regnetx_002", 2),
        ("hgnetv2_b0", 2),  # its max-pool has stride 1
        ("dla46x_c", 2),  # its max-pool feeds a branch beside a strided convolution
        ("poolformer_s12", 2),  # overlapping 7x7 stride 4
        ("densenet121", 4),
    ],
)
def test_first_stage_grows(name: str, times: int) -> None:
    assert side_of_first_stage(name, "small") == times * side_of_first_stage(name, "default")


def test_resnet_becomes_the_usual_cifar_stem() -> None:
    model = timm.create_model("resnet18", num_classes=2)
    shapes = {k: v.shape for k, v in model.state_dict().items()}
    shrink_stem(model, "resnet18", 32)
    assert model.conv1.stride == (1, 1)
    assert isinstance(model.maxpool, nn.Identity)
    assert model.layer2[0].conv1.stride == (2, 2)
    assert {k: v.shape for k, v in model.state_dict().items()} == shapes
    assert model.forward_features(torch.zeros(1, 3, 32, 32)).shape == (1, 512, 4, 4)
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_patches_are_refused(name: str) -> None:
    config = ModelConfig(name=name, stem="small")
    with pytest.raises(MldrError, match=f"{name} has no strided convolutional stem.*patch_size"):
        create_model(config, num_classes=2, image_size=64)
