"""The causal convolution on a CPU against PyTorch's, and that it sees nothing ahead."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mldr_deploy.models import causal_convolution as convolution
from mldr_deploy.models.causal_convolution import causal_convolution, library_convolution


def arguments(length: int, *, batch: int = 2, channels: int = 5) -> tuple[Tensor, ...]:
    """x, weight, bias in float64; x a part of something wider, as the mixer gives it."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return normal(batch, length, 2 * channels)[..., ::2], normal(channels, 1, 4), normal(channels)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9])
def test_equals_the_library_forward_and_backward(length: int) -> None:
    given = [t.requires_grad_() for t in arguments(length)]
    ours, reference = causal_convolution(*given), library_convolution(*given)
    torch.testing.assert_close(ours, reference)
    weights = torch.randn_like(ours)
    for found, expected in zip(
        torch.autograd.grad((ours.sin() * weights).sum(), given),
        torch.autograd.grad((reference.sin() * weights).sum(), given),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


def test_gradients_against_differences() -> None:
    given = [t.requires_grad_() for t in arguments(5, channels=2)]
    assert torch.autograd.gradcheck(causal_convolution, given)


def test_blocks_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [t.requires_grad_() for t in arguments(6, batch=5)]
    whole = causal_convolution(*given)
    monkeypatch.setattr(convolution, "_BLOCK", 2 * 6 * 5 // torch.get_num_threads())
    assert len([*convolution._blocks(given[0])]) == 3
    blocks = causal_convolution(*given)
    torch.testing.assert_close(blocks, whole)
    pairs = (torch.autograd.grad(y.sin().sum(), given) for y in (blocks, whole))
    for found, expected in zip(*pairs, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_position_sees_itself_and_three_before() -> None:
    """By hand: with an impulse at 2, the taps in reverse, and SiLU of the bias elsewhere."""
    x = torch.zeros(1, 8, 1)
    x[0, 2] = 1.0
    weight, bias = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.tensor([0.5])
    sums = torch.tensor([0.5, 0.5, 4.5, 3.5, 2.5, 1.5, 0.5, 0.5])
    torch.testing.assert_close(causal_convolution(x, weight, bias)[0, :, 0], F.silu(sums))


def test_half_precision_goes_to_the_library() -> None:
    x, weight, bias = (t.bfloat16() for t in arguments(9))
    torch.testing.assert_close(
        causal_convolution(x, weight, bias), library_convolution(x, weight, bias)
    )


def test_the_operators_are_what_they_say() -> None:
    x, weight, bias = (t.float() for t in arguments(5))
    torch.library.opcheck(convolution._convolve, (x, weight, bias))
    torch.library.opcheck(convolution._convolve_backward, (torch.ones_like(x), x, weight, bias))
