"""Convolutions over small grids as products, beside PyTorch's own in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from mldr_deploy.distill import small_grids as module
from mldr_deploy.distill.methods.method_registry import MethodConfig
from mldr_deploy.distill.small_grids import SmallGrids, applies, small_grids
from mldr_deploy.distill.training_config import TrainConfig

CPU = torch.device("cpu")

# grid, kernel, padding, stride
SMALL = [
    ((1, 1), 3, 1, 1),
    ((1, 1), 3, 1, 2),
    ((2, 2), 3, 1, 1),
    ((2, 2), 3, 1, 2),
    ((1, 2), 3, 1, 1),
    ((2, 1), 3, 1, 2),
    ((2, 2), 5, 2, 1),
    ((2, 2), 5, 2, 2),
    ((1, 4), 7, 3, 1),
    ((4, 1), 7, 3, 2),
    ((1, 1), 1, 0, 1),
    ((2, 2), 2, 0, 2),
    ((2, 1), (3, 1), (1, 0), 1),
    ((2, 2), 3, 1, (2, 1)),
    ((1, 2), (1, 3), (0, 1), (1, 2)),
]
# inputs, outputs, groups
CHANNELS = [(6, 4, 1), (6, 8, 2), (4, 4, 4), (4, 8, 4), (1, 1, 1)]


def taken_over(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What `applies` says from now on."""
    said: list[bool] = []

    def spy(*args: Any) -> bool:
        said.append(applies(*args))
        return said[-1]

    monkeypatch.setattr(module, "applies", spy)
    return said


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", CHANNELS, ids=str)
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_output_and_gradients_are_those_of_conv2d(
    shape: tuple[Any, Any, Any, Any],
    channels: tuple[int, int, int],
    layout: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (grid, kernel, padding, stride), (inputs, outputs, groups) = shape, channels
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups).double()
    pixels = torch.randn(5, inputs, *grid, dtype=torch.float64).contiguous(memory_format=layout)
    pixels.requires_grad_()
    wanted = (pixels, conv.weight, conv.bias)
    theirs = conv(pixels)
    gradient = torch.randn_like(theirs)
    derivatives = torch.autograd.grad(theirs, wanted, gradient)
    said = taken_over(monkeypatch)
    with SmallGrids():
        ours = conv(pixels)
    assert said == [True]
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for mine, his in zip(torch.autograd.grad(ours, wanted, gradient), derivatives, strict=True):
        torch.testing.assert_close(mine, his, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("grid", "kernel", "options"),
    [
        ((8, 8), 3, {"padding": 1}),  # large
        ((4, 1), 3, {"padding": 1}),  # small, but no output sees all of it
        ((2, 2), 1, {}),  # a sum over channels alone: four products, not one
        ((1, 1), 3, {"padding": "same"}),
        ((1, 1), 3, {"padding": 2, "dilation": 2}),
    ],
)
def test_everything_else_is_pytorch_s(
    grid: tuple[int, int], kernel: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    conv = torch.nn.Conv2d(3, 2, kernel, **options)
    pixels = torch.randn(2, 3, *grid)
    said = taken_over(monkeypatch)
    with SmallGrids():
        ours = conv(pixels)
    assert said == [False]
    assert torch.equal(ours, conv(pixels))


def test_a_kernel_larger_than_the_padded_input_is_refused_as_ever() -> None:
    with SmallGrids(), pytest.raises(RuntimeError, match="greater than actual input size"):
        torch.nn.Conv2d(2, 2, 3)(torch.randn(1, 2, 1, 1))


def test_half_precision_by_itself_and_other_devices_are_no_products() -> None:
    pixels, weight = torch.randn(1, 2, 1, 1), torch.randn(2, 2, 3, 3)
    assert applies(pixels, weight, 1, 1)
    assert not applies(pixels.bfloat16(), weight.bfloat16(), 1, 1)
    assert not applies(pixels.to("meta"), weight.to("meta"), 1, 1)
    with torch.autocast("cpu", torch.bfloat16):  # which casts products too
        assert applies(pixels, weight, 1, 1)
        assert applies(pixels.bfloat16(), weight, 1, 1)
    assert isinstance(small_grids(CPU), SmallGrids)
    assert not isinstance(small_grids(torch.device("meta")), SmallGrids)


# Here oneDNN's bf16 kernels write NaN or meaningless values (with AVX-512 the weight's gradient,
# with AMX the output too), and beside it: grid, kernel, padding, stride, inputs, outputs, groups
ONE_COLUMN = [
    ((1, 1), 3, 1, 2, 64, 64, 1),
    ((1, 1), 3, 1, 2, 17, 33, 1),
    ((1, 1), 5, 2, 2, 64, 64, 4),
    ((1, 1), 7, 3, 4, 64, 64, 64),
    ((1, 1), 2, 1, 2, 64, 64, 1),
    ((2, 2), 3, 1, 4, 64, 64, 1),
    ((3, 3), 3, 1, 4, 64, 64, 1),
    ((8, 1), 3, 1, 2, 64, 64, 1),
    ((8, 1), (1, 3), (0, 1), (1, 2), 64, 64, 1),
    ((8, 3), 3, 0, 2, 64, 64, 2),
    ((14, 14), 7, (3, 0), (2, 8), 64, 64, 1),
    ((1, 1), 3, 1, 1, 64, 64, 1),  # the others were right
    ((1, 1), 1, 0, 2, 64, 64, 1),
    ((2, 2), 3, 1, 2, 64, 64, 1),
    ((1, 8), 3, 1, 2, 64, 64, 1),
    ((8, 3), 3, 1, 2, 64, 64, 1),
]


def _poison() -> None:
    """Memory just freed holds NaN, which a kernel that reads what it never wrote picks up."""
    for exponent in range(6, 20):
        torch.full((1 << exponent,), float("nan"), dtype=torch.bfloat16)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("shape", ONE_COLUMN, ids=str)
def test_bf16_output_and_gradients_are_those_of_float64(
    shape: tuple[Any, ...], autocast: bool, layout: torch.memory_format
) -> None:
    grid, kernel, padding, stride, inputs, outputs, groups = shape
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    conv = conv.bfloat16().double()  # values that bf16 represents
    pixels = torch.randn(16, inputs, *grid).bfloat16().contiguous(memory_format=layout)
    exact = pixels.double().requires_grad_()
    theirs = conv(exact)
    gradient = torch.randn_like(theirs).bfloat16()
    expected = (theirs, *torch.autograd.grad(theirs, (exact, conv.weight), gradient.double()))
    pixels = (pixels.float() if autocast else pixels).requires_grad_()
    conv = conv.float() if autocast else conv.bfloat16()
    _poison()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), SmallGrids():
        ours = conv(pixels)
    computed = (ours, *torch.autograd.grad(ours, (pixels, conv.weight), gradient.to(ours.dtype)))
    for half, double in zip(computed, expected, strict=True):
        scale = float(double.detach().abs().max())
        torch.testing.assert_close(half.double(), double, rtol=0.0, atol=0.02 * scale)


@pytest.mark.parametrize(("outputs", "groups"), [(64, 64), (128, 64), (64, 32)])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_narrow_groups_stay_in_float32_within_autocast(
    outputs: int, groups: int, compiled: bool
) -> None:
    """To float32's rounding, output and gradients, where the values are none of bf16's."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(64, outputs, 3, 2, 1, groups=groups)
    pixels = torch.randn(4, 64, 8, 8, requires_grad=True)
    exact = (*conv.parameters(), pixels)
    theirs = torch.nn.functional.conv2d(
        pixels.double(), conv.weight.double(), conv.bias.double(), 2, 1, 1, groups
    )
    gradient = torch.randn_like(theirs)
    expected = torch.autograd.grad(theirs, exact, gradient)
    function = torch.compile(conv, backend="aot_eager") if compiled else conv
    with torch.autocast("cpu", torch.bfloat16), SmallGrids():
        ours = function(pixels)
    torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-4)
    computed = torch.autograd.grad(ours, exact, gradient.float())
    for single, double in zip(computed, expected, strict=True):
        torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-3)


def test_wider_groups_are_half_precision_within_autocast() -> None:
    conv, pixels = torch.nn.Conv2d(64, 64, 3, groups=16), torch.randn(4, 64, 8, 8)
    with torch.autocast("cpu", torch.bfloat16), SmallGrids():
        assert conv(pixels).dtype == torch.bfloat16


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_within_autocast_products_are_the_convolution_to_bf16_s_rounding(
    shape: tuple[Any, Any, Any, Any], groups: int, bias: bool
) -> None:
    """Output, in bf16 as a convolution's would be, and gradients, beside float64."""
    grid, kernel, padding, stride = shape
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(32, 64, kernel, stride, padding, groups=groups, bias=bias)
    pixels = torch.randn(16, 32, *grid, requires_grad=True)
    exact = (pixels, *conv.parameters())
    theirs = F.conv2d(
        pixels.double(),
        conv.weight.double(),
        None if conv.bias is None else conv.bias.double(),
        stride,
        padding,
        1,
        groups,
    )
    gradient = torch.randn_like(theirs)
    expected = (theirs, *torch.autograd.grad(theirs, exact, gradient))
    with torch.autocast("cpu", torch.bfloat16), SmallGrids():
        ours = conv(pixels)
    assert ours.dtype == torch.bfloat16
    computed = (ours, *torch.autograd.grad(ours, exact, gradient.bfloat16()))
    for half, double in zip(computed, expected, strict=True):
        scale = float(double.detach().abs().max())
        torch.testing.assert_close(half.double(), double.double(), rtol=0.0, atol=0.02 * scale)


@pytest.mark.slow
def test_compiled_bf16_gradients_are_those_of_float32() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(64, 64, 3, 2, 1, bias=False)
    pixels, gradient = torch.randn(64, 64, 1, 1), torch.randn(64, 64, 1, 1)
    (expected,) = torch.autograd.grad(conv(pixels), conv.weight, gradient)
    compiled = torch.compile(conv, backend="aot_eager")
    _poison()
    with torch.autocast("cpu", torch.bfloat16), SmallGrids():
        output = compiled(pixels)
    (half,) = torch.autograd.grad(output, conv.weight, gradient.bfloat16())
    torch.testing.assert_close(half, expected, rtol=0.0, atol=0.02 * float(expected.abs().max()))


@pytest.mark.parametrize(("grid", "taken"), [((1, 1), True), ((2, 2), False)])
def test_without_gradients_only_a_single_output_is_a_product(
    grid: tuple[int, int], taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, conv = torch.randn(3, 4, *grid), torch.nn.Conv2d(4, 6, 3, padding=1)
    said = taken_over(monkeypatch)
    with torch.no_grad(), SmallGrids():
        ours = conv(pixels)
    assert said == [taken]
    torch.testing.assert_close(ours, conv(pixels))


@pytest.mark.parametrize("name", ["resnet18", "regnetx_002", "mobilenetv2_050"])
def test_a_whole_model_keeps_its_output_and_gradients(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, drop_rate=0.0, drop_path_rate=0.0).double()
    pixels, labels = torch.randn(6, 3, 32, 32, dtype=torch.float64), torch.arange(6) % 5

    def gradients() -> tuple[Tensor, list[Tensor]]:
        logits = model(pixels)
        loss = F.cross_entropy(logits, labels)
        return logits, list(torch.autograd.grad(loss, list(model.parameters())))

    logits, wanted = gradients()
    said = taken_over(monkeypatch)
    with SmallGrids():
        mine, found = gradients()
    assert sum(said) >= 3
    torch.testing.assert_close(mine, logits, rtol=1e-8, atol=1e-8)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_training_goes_through_them(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = taken_over(monkeypatch)
    trainer = replace(rig, student="resnet10t").build()
    trainer._step(next(iter(trainer.views.epoch(0))))
    assert any(said)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_teacher_answers_through_them(
    rig: Any, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = TrainConfig.model_validate({"teacher_precision": precision})
    method = MethodConfig(name="kd")
    teacher = replace(rig, teacher="resnet10t", method=method, train=train).build().teacher
    said = taken_over(monkeypatch)
    assert teacher is not None
    teacher(torch.zeros(2, 3, 32, 32))
    assert any(said)
