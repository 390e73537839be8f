"""Stage projectors: shapes over real models, their layers, their first weights."""

from __future__ import annotations

import math

import pytest
import torch
from timm.models.swin_transformer import PatchMerging as SwinPatchMerging
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mldr_deploy.distill.projectors import (
    PatchMerging,
    StageProjector,
    map_body,
    stage_projectors,
    token_body,
)
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model
from mldr_deploy.models.stages import StageShape, forward_stages, plan_stages

WIDTH, CLASSES = 48, 5


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("test_resnet", "map"),
        ("test_efficientnet", "map"),
        ("test_convnext", "map"),
        ("test_mambaout", "map"),
        ("test_vit", "token"),
        ("mixer_s32_224", "token"),
    ],
)
def test_every_stage_gives_a_descriptor_and_logits(name: str, layout: str) -> None:
    model = create_model(ModelConfig(name=name), num_classes=CLASSES, image_size=32)
    plan = plan_stages(model, 32)
    assert plan.layout == layout
    projectors = stage_projectors(plan, WIDTH, CLASSES)
    with torch.no_grad():
        output = forward_stages(model, torch.randn(2, 3, 32, 32), plan)
        for projector, stage in zip(projectors, output.stages, strict=True):
            descriptor, logits = projector(stage)
            assert descriptor.shape == (2, WIDTH)
            torch.testing.assert_close(logits, projector.classifier(descriptor))


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_map_body_halves_the_grid_once_a_block_and_doubles_the_width(stage: int) -> None:
    body = map_body(StageShape(24, 16, 16), stage, WIDTH)
    convolutions = [m for m in body.modules() if isinstance(m, nn.Conv2d)]
    strided = [c for c in convolutions if c.stride == (2, 2)]
    assert len(strided) == 4 - stage
    assert all(c.kernel_size == (3, 3) and c.groups == c.in_channels for c in strided)
    entered = [24 * 2**block for block in range(4 - stage)]
    assert [c.in_channels for c in strided] == entered
    assert convolutions[-1].out_channels == WIDTH
    grids: list[int] = []
    for layer in body:
        layer.register_forward_hook(lambda _, __, out: grids.append(out.shape[-1]))
    body(torch.randn(2, 24, 16, 16))
    assert grids[: max(4 - stage, 1)] == ([16 >> k for k in range(1, 5 - stage)] or [16])


@pytest.mark.parametrize(("stage", "blocks"), [(1, 3), (2, 2), (3, 1), (4, 1)])
def test_token_body_has_transformer_blocks_of_four_heads(stage: int, blocks: int) -> None:
    body = token_body(StageShape(32, 4, 4), stage, WIDTH)
    attention = [m for m in body.modules() if isinstance(m, nn.MultiheadAttention)]
    assert [m.num_heads for m in attention] == [4] * blocks


def test_token_body_is_merging_gelu_timms_blocks_and_the_mean() -> None:
    """OFA-KD's projector, whose blocks are timm's; its weights are copied over."""
    body = token_body(StageShape(32, 4, 4), 2, 32)
    merging, gelu, *blocks, _mean, last = body
    assert isinstance(gelu, nn.GELU) and isinstance(last, nn.Identity)
    stage = torch.randn(2, 32, 4, 4)
    with torch.no_grad():
        tokens = torch.nn.functional.gelu(merging(stage))
        for mine in blocks:
            theirs = Block(32, num_heads=4, qkv_bias=True, norm_layer=nn.LayerNorm)
            renamed = {
                name.replace("self_attn.in_proj_", "attn.qkv.")
                .replace("self_attn.out_proj", "attn.proj")
                .replace("linear1", "mlp.fc1")
                .replace("linear2", "mlp.fc2"): value
                for name, value in mine.state_dict().items()
            }
            theirs.load_state_dict(renamed)
            tokens = theirs(tokens)
        torch.testing.assert_close(body(stage), tokens.mean(dim=1))


@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (7, 4)])
@pytest.mark.parametrize("make", [map_body, token_body])
def test_odd_grids_are_taken(make: type, grid: tuple[int, int]) -> None:
    body = make(StageShape(16, *grid), 2, WIDTH)
    assert body(torch.randn(2, 16, *grid)).shape == (2, WIDTH)


def test_patch_merging_equals_swin_s_up_to_the_order_of_channels() -> None:
    channels = 6
    mine, swin = PatchMerging(channels), SwinPatchMerging(channels, out_dim=channels)
    nn.init.normal_(mine.norm.weight)
    nn.init.normal_(mine.norm.bias)
    # Swin lists the four neighbours (column offset, row offset) and all channels of each.
    order = [
        4 * c + 2 * row + column for column in (0, 1) for row in (0, 1) for c in range(channels)
    ]
    with torch.no_grad():
        swin.norm.weight.copy_(mine.norm.weight[order])
        swin.norm.bias.copy_(mine.norm.bias[order])
        swin.reduction.weight.copy_(mine.reduce.weight[:, order])
    stage = torch.randn(2, channels, 4, 6)
    expected = swin(stage.permute(0, 2, 3, 1)).flatten(1, 2)
    torch.testing.assert_close(mine(stage), expected)


def test_patch_merging_pads_an_odd_grid_with_zeros_below_and_to_the_right() -> None:
    merging = PatchMerging(4)
    stage = torch.randn(2, 4, 3, 5)
    padded = torch.zeros(2, 4, 4, 6)
    padded[:, :, :3, :5] = stage
    torch.testing.assert_close(merging(stage), merging(padded))


def first_weights() -> list[tuple[str, Tensor, float]]:
    """(name, weight, wanted standard deviation) of every matrix and kernel of both forms."""
    found: list[tuple[str, Tensor, float]] = []
    for make in (map_body, token_body):
        projector = StageProjector(make(StageShape(128, 4, 4), 2, 256), 256, 100)
        modules = dict(projector.named_modules())
        for name, parameter in projector.named_parameters():
            owner = modules[name.rpartition(".")[0]]
            if isinstance(owner, nn.Conv2d):
                fan_out = owner.out_channels * math.prod(owner.kernel_size)  # whatever the groups
                found.append((f"{make.__name__} {name}", parameter, math.sqrt(2 / fan_out)))
            elif parameter.ndim > 1:
                found.append((f"{make.__name__} {name}", parameter, 0.02))
    return found


@pytest.mark.parametrize(
    ("weight", "wanted"), [pytest.param(w, std, id=name) for name, w, std in first_weights()]
)
def test_first_weights_are_normal_002_or_kaiming_by_fan_out(weight: Tensor, wanted: float) -> None:
    tolerance = 5 / math.sqrt(2 * weight.numel())  # five standard errors of a sample deviation
    assert weight.std().item() == pytest.approx(wanted, rel=tolerance)
    assert abs(weight.mean().item()) < 5 * wanted / math.sqrt(weight.numel())


@pytest.mark.parametrize(("channels", "std"), [(64, 0.0589), (256, 0.0295)])
def test_depthwise_filters_start_as_small_as_the_authors(channels: int, std: float) -> None:
    """The deviations of their code's filters; by fan-out per group they would be 0.47."""
    projector = StageProjector(map_body(StageShape(channels, 4, 4), 3, 512), 512, 100)
    filters = [m.weight for m in projector.modules() if getattr(m, "groups", 1) == channels]
    assert filters[0].std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * 9 * channels))


def test_depthwise_convolutions_are_spared_bf16_on_cpus() -> None:
    """Under autocast a map-like body stays in fp32, a token-like one and the classifier do not."""
    shape = StageShape(channels=8, height=4, width=4)
    stage = torch.randn(2, 8, 4, 4)
    for body, kept in ((map_body(shape, 2, 16), True), (token_body(shape, 2, 16), False)):
        projector = StageProjector(body, 16, 3).eval()
        expected = projector(stage).descriptor
        with torch.autocast("cpu", torch.bfloat16):
            found = projector(stage)
        assert bool((found.descriptor == expected).all()) == kept
        assert found.logits.dtype == torch.bfloat16
