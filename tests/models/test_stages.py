"""Stage plans, and the one pass that gives logits and stages."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from mldr_deploy.errors import MldrError
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model
from mldr_deploy.models.stages import (
    StageShape,
    choose_stages,
    forward_stages,
    plan_stages,
    plan_teacher,
)

CLASSES = 5
SIZE = 64

# One small model of each way of building a classifier; timm name, and what makes it small.
SMALL = {
    "test_resnet": {},
    "test_nfnet": {},
    "test_byobnet": {},
    "test_efficientnet": {},
    "test_convnext": {},
    "mobilenetv2_035": {},
    "mobilenetv3_small_050": {},
    "regnetx_002": {},
    "ghostnet_050": {},
    "dla46x_c": {},
    "ese_vovnet19b_slim_dw": {},
    "densenet121": {"block_config": (1, 1, 1, 1)},
    "poolformer_s12": {"depths": (1, 1, 1, 1)},
    "convmixer_768_32": {"dim": 32, "depth": 5},
    "test_vit": {},
    "deit_tiny_distilled_patch16_224": {"depth": 4, "embed_dim": 48, "proj_drop_rate": 0.1},
    "vit_tiny_patch16_dinov3_qkvb": {"depth": 4, "embed_dim": 48},
    "cait_xxs24_224": {"depth": 6},
    "swin_tiny_patch4_window7_224": {"embed_dim": 24, "depths": (1, 1, 1, 1)},
    "swinv2_tiny_window8_256": {"embed_dim": 24, "depths": (1, 1, 1, 1)},
    "test_coatnet": {},
    "edgenext_xx_small": {},
    "levit_128s": {},
    "pvt_v2_b0": {"depths": (1, 1, 1, 1)},
    "tiny_vit_5m_224": {"depths": (1, 1, 1, 1)},
    "mixer_s16_224": {"embed_dim": 64, "num_blocks": 6},
    "resmlp_12_224": {"embed_dim": 48},
    "gmlp_ti16_224": {"num_blocks": 12},
    "test_mambaout": {},
    "efficientvim_m1": {},
    "vim_tiny_patch8_64": {"embed_dim": 32, "depth": 6},
}


def small(name: str) -> nn.Module:
    torch.manual_seed(0)
    config = ModelConfig(name=name, options=SMALL[name])
    config = ModelConfig.model_validate_json(config.model_dump_json())  # as a run stores it
    return create_model(config, num_classes=CLASSES, image_size=SIZE)


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SMALL)
def test_one_pass_gives_what_the_model_gives(name: str) -> None:
    model, x = small(name), images()
    plan = plan_stages(model, SIZE)
    assert len(plan.indices) == len(plan.shapes) == 4
    assert list(plan.indices) == sorted(plan.indices)

    model.eval()
    with torch.no_grad():
        output = forward_stages(model, x, plan)
        torch.testing.assert_close(output.logits, model(x), atol=1e-5, rtol=0)
    for stage, shape in zip(output.stages, plan.shapes, strict=True):
        assert stage.shape == (2, shape.channels, shape.height, shape.width)

    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    torch.manual_seed(2)
    output = forward_stages(model, x, plan)
    (output.logits.sum() + sum(stage.mean() for stage in output.stages)).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    statistics = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(before)
    torch.manual_seed(2)
    torch.testing.assert_close(output.logits, model(x), atol=1e-5, rtol=0)
    for key, value in model.state_dict().items():  # batch statistics moved once, not twice
        torch.testing.assert_close(statistics[key], value)


@pytest.mark.parametrize("name", SMALL)
def test_features_are_what_the_classifier_sees(name: str) -> None:
    model = small(name).eval()
    plan = plan_stages(model, SIZE)
    classifier = model.get_classifier()  # type: ignore[operator]
    seen: list[Tensor] = []
    several = isinstance(classifier, tuple | nn.ModuleList)
    heads = tuple(classifier) if several else (classifier,)
    for head in heads:
        head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(1)))
    with torch.no_grad():
        output = forward_stages(model, images(), plan, features=True)
        assert forward_stages(model, images(), plan).features is None
    assert output.features is not None
    assert output.features.shape == (2, plan.pooled_width)
    each = seen[: len(heads)]
    if isinstance(classifier, nn.ModuleList):  # EfficientViM: a head on every stage
        expected = torch.cat(each, dim=1)
    else:  # a token for labels and one for a teacher: their mean, as of the logits
        expected = torch.stack(each).mean(dim=0)
    torch.testing.assert_close(output.features, expected)


@pytest.mark.parametrize("name", SMALL)
def test_autocast_and_channels_last(name: str) -> None:
    model = small(name).to(memory_format=torch.channels_last)
    plan = plan_stages(model, SIZE)
    x = images().to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = forward_stages(model.eval(), x, plan)
        torch.testing.assert_close(output.logits, model(x))
    (output.logits.float().sum() + sum(s.float().mean() for s in output.stages)).backward()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_traces_without_a_graph_break(name: str) -> None:
    model, x = small(name).eval(), images()
    plan = plan_stages(model, SIZE)
    compiled = torch.compile(
        lambda x: forward_stages(model, x, plan).logits, backend="eager", fullgraph=True
    )
    torch.testing.assert_close(compiled(x), model(x))


def isotropic(depth: int) -> list[StageShape]:
    return [StageShape(192, 8, 8)] * depth


@pytest.mark.parametrize(
    ("depth", "indices"),
    [
        (12, (1, 3, 9, 11)),  # OFA-KD
        (24, (3, 7, 19, 23)),  # Vision Mamba
        (36, (5, 11, 29, 35)),
        (6, (0, 1, 4, 5)),
        (4, (0, 1, 2, 3)),
        (5, (0, 1, 3, 4)),
        (2, (0, 1, 1, 1)),
        (1, (0, 0, 0, 0)),
    ],
)
def test_isotropic_depths(depth: int, indices: tuple[int, ...]) -> None:
    assert choose_stages(isotropic(depth)) == indices


@pytest.mark.parametrize("depth", range(4, 60))
def test_stages_of_any_depth_are_four_and_end_at_the_last_block(depth: int) -> None:
    chosen = choose_stages(isotropic(depth))
    assert len(set(chosen)) == 4 and chosen[-1] == depth - 1 and list(chosen) == sorted(chosen)


@pytest.mark.parametrize(
    ("sides", "indices"),
    [
        ([16, 8, 4, 2], (0, 1, 2, 3)),
        ([32, 16, 8, 4, 2], (1, 2, 3, 4)),
        ([64, 32, 16, 8, 4, 2], (2, 3, 4, 5)),
        ([16, 8, 4], (0, 1, 2, 2)),
        ([16, 8, 8, 4, 4, 4, 2, 2], (0, 2, 5, 7)),
        ([8, 8, 4, 4, 4, 4, 4, 4], (1, 3, 5, 7)),
    ],
)
def test_pyramids(sides: list[int], indices: tuple[int, ...]) -> None:
    assert choose_stages([StageShape(1024 // s, s, s) for s in sides]) == indices


def test_layouts_and_widths() -> None:
    vit = plan_stages(small("test_vit"), SIZE)
    assert (vit.layout, vit.prefix_tokens, vit.feature_width) == ("token", 1, 64)
    assert plan_stages(small("deit_tiny_distilled_patch16_224"), SIZE).prefix_tokens == 2
    assert plan_stages(small("mixer_s16_224"), SIZE).layout == "token"
    assert plan_stages(small("convmixer_768_32"), SIZE).layout == "map"
    assert plan_stages(small("swin_tiny_patch4_window7_224"), SIZE).layout == "map"
    resnet = plan_stages(timm.create_model("resnet18", num_classes=5), 32)
    assert resnet.shapes == tuple(StageShape(64 * 2**k, 8 // 2**k, 8 // 2**k) for k in range(4))
    assert resnet.feature_width == 512


def test_planning_leaves_the_model_as_it_was() -> None:
    model = small("test_resnet").train()
    model.get_submodule("layer1").eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    plan_stages(model, SIZE)
    assert model.training and not model.get_submodule("layer1").training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_biases_kept_in_eval_mode_do_not_outlive_a_trial() -> None:
    """LeViT keeps attention biases in eval mode; weights loaded after a trial must count."""
    trained, rebuilt = small("levit_128s"), small("levit_128s").eval()
    plan_stages(rebuilt, SIZE)
    for name, parameter in trained.named_parameters():
        if "attention_biases" in name:
            parameter.data.normal_(std=3.0)
        elif "bn.weight" in name:  # zero at first, which would hide the attention
            parameter.data.fill_(1.0)
    rebuilt.load_state_dict(trained.state_dict())
    with torch.no_grad():
        logits = trained.eval()(images())
        torch.testing.assert_close(rebuilt(images()), logits)


@pytest.mark.slow
def test_one_pass_over_every_timm_class(timm_class: tuple[str, str, int]) -> None:
    name, _, size = timm_class
    torch.manual_seed(0)
    options = {"depth": 2} if name in ("deepseek_vit_412m", "gemma4_vit_167m") else {}
    config = ModelConfig(name=name, options=options)
    model = create_model(config, num_classes=CLASSES, image_size=size).eval()
    plan = plan_stages(model, size)
    x = torch.randn(2, 3, size, size)
    output = forward_stages(model, x, plan)
    torch.testing.assert_close(output.logits, model(x), atol=1e-5, rtol=0)
    for stage, shape in zip(output.stages, plan.shapes, strict=True):
        assert stage.shape == (2, shape.channels, shape.height, shape.width)
    (output.logits.sum() + sum(stage.mean() for stage in output.stages)).backward()


def test_refuses_a_model_without_intermediates() -> None:
    with pytest.raises(MldrError, match="stages: Linear offers no intermediate features"):
        plan_stages(nn.Linear(2, 2), SIZE)


def test_refuses_stages_that_break_at_this_size() -> None:
    model = small("mixer_s16_224")  # built for 64 px
    with pytest.raises(MldrError, match="stages: those of MlpMixer cannot be tapped at 32 px"):
        plan_stages(model, 32)


def test_refuses_a_model_whose_one_pass_gives_other_logits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise one function would be distilled and another exported."""
    model = small("test_resnet")
    plan_stages(model, SIZE)
    head = type(model).forward_head
    monkeypatch.setattr(type(model), "forward", lambda self, x: head(self, x.mean() + self.stem(x)))
    monkeypatch.setattr(
        type(model), "stem", lambda self, x: 2 * self.forward_features(x), raising=False
    )
    with pytest.raises(MldrError, match="ResNet gives other logits with its stages than without"):
        plan_stages(model, SIZE)


def test_a_teacher_needs_no_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("test_resnet").eval()
    assert plan_teacher(model, SIZE) == plan_stages(model, SIZE)
    width = model.num_features
    monkeypatch.delattr(type(model), "forward_intermediates")
    plan = plan_teacher(model, SIZE)
    assert (plan.indices, plan.shapes, plan.feature_width) == ((), (), width)
    output = forward_stages(model, images(), plan)
    torch.testing.assert_close(output.logits, model(images()))
    assert output.stages == () and output.features is None
