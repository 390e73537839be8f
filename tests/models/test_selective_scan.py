"""The ways of the selective scan against a textbook recurrence and each other."""

from __future__ import annotations

import itertools
import math
import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mldr_deploy.errors import Unavailable
from mldr_deploy.models import chunked_scan as chunked
from mldr_deploy.models import selective_scan as scans
from mldr_deploy.models.selective_scan import selective_scan

LENGTHS = [1, 2, 7, 8, 9, 16, 17, 40]  # below, at and beyond chunks of 8; some leave one unfilled


def arguments(length: int, *, batch: int = 2, state: int = 3) -> tuple[Tensor, ...]:
    """x, dt, A, B, C, D in float64: two scans side by side of 4 channels each."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, dt = normal(batch, length, 2, 4), F.softplus(normal(batch, length, 2, 4))
    B, C = normal(batch, length, 2, state), normal(batch, length, 2, state)
    return x, dt, -normal(2, 4, state).exp(), B, C, normal(2, 4)


def textbook(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The recurrence of the paper in numbers, one state of one channel at a time."""
    y = torch.zeros_like(x)
    batch, length, groups, channels = x.shape
    for b, g, d in itertools.product(range(batch), range(groups), range(channels)):
        h = [0.0] * A.shape[-1]
        for t in range(length):
            step, value = float(dt[b, t, g, d]), float(x[b, t, g, d])
            for n in range(A.shape[-1]):
                h[n] = math.exp(step * float(A[g, d, n])) * h[n]
                h[n] += step * float(B[b, t, g, n]) * value
            read = sum(float(C[b, t, g, n]) * h[n] for n in range(A.shape[-1]))
            y[b, t, g, d] = read + float(D[g, d]) * value
    return y


def mamba_reference(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None
) -> Tensor:
    """What mamba-ssm's `selective_scan_ref` computes, in its layout: length last, B, C grouped."""
    each = u.shape[1] // B.shape[1]
    B, C = (t.repeat_interleave(each, dim=1) for t in (B, C))  # [b, gd, n, l]
    decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
    drive = torch.einsum("bdl,bdnl,bdl->bdln", delta, B, u)
    h, ys = torch.zeros_like(drive[:, :, 0]), []
    for t in range(u.shape[2]):
        h = decay[:, :, t] * h + drive[:, :, t]
        ys.append(torch.einsum("bdn,bdn->bd", h, C[..., t]))
    y = torch.stack(ys, dim=2)
    return y if D is None else y + u * D[:, None]


def gradients(way: scans.Way, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    leaves = [t.clone().requires_grad_() for t in given]
    y = selective_scan(*leaves, way=way)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=y.dtype)
    return torch.autograd.grad((y.sin() * weights).sum(), leaves)


@pytest.mark.parametrize("length", [1, 5, 17])
@pytest.mark.parametrize("way", ["sequential", "chunked"])
def test_textbook(way: scans.Way, length: int) -> None:
    given = arguments(length)
    torch.testing.assert_close(selective_scan(*given, way=way), textbook(*given))


@pytest.mark.parametrize("length", LENGTHS)
def test_chunks_equal_the_sequence_forward_and_backward(length: int) -> None:
    given = arguments(length)
    expected = selective_scan(*given, way="sequential")
    torch.testing.assert_close(selective_scan(*given, way="chunked"), expected)
    pairs = zip(gradients("chunked", given), gradients("sequential", given), strict=True)
    for ours, reference in pairs:
        torch.testing.assert_close(ours, reference)


@pytest.mark.parametrize("length", [3, 18])
def test_gradients_against_differences(length: int) -> None:
    given = [t.requires_grad_() for t in arguments(length, batch=1, state=2)]
    assert torch.autograd.gradcheck(lambda *a: selective_scan(*a, way="chunked"), given)


def test_gradients_in_blocks_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments(17, batch=5)
    whole = gradients("chunked", given)
    two_rows = 2 * chunked.CHUNK * given[2].numel() // torch.get_num_threads()
    monkeypatch.setattr(chunked, "_BLOCK", two_rows)
    blocks = [*chunked._blocks(given[0], given[2])]
    assert len(blocks) == 3
    for ours, reference in zip(gradients("chunked", given), whole, strict=True):
        torch.testing.assert_close(ours, reference)


def test_arguments_need_not_be_contiguous() -> None:
    given = arguments(17)
    expected = gradients("sequential", given)
    length_last = tuple(t.transpose(1, -1).contiguous().transpose(1, -1) for t in given[:2])
    for ours, reference in zip(
        gradients("chunked", (*length_last, *given[2:])), expected, strict=True
    ):
        torch.testing.assert_close(ours, reference)


def test_states_are_kept_only_to_learn() -> None:
    x, dt, A, B, C, _ = arguments(17)
    assert chunked._scan(x, dt, A, B, C, False)[1].numel() == 0
    kept = chunked._scan(x, dt, A, B, C, True)[1]
    assert kept.shape == (3, 3, 2, 2, 4)  # chunks, states, batch, scans, channels
    assert not kept[0].any() and kept[1].all()


@pytest.mark.parametrize("learns", [False, True])
def test_the_operators_are_what_they_say(learns: bool) -> None:
    """Their shapes without data, their gradients' registration, that they change no argument."""
    given = [t.float() for t in arguments(9)[:5]]
    kept = chunked._scan(*given, True)[1]
    torch.library.opcheck(chunked._scan, (*given, learns))
    torch.library.opcheck(chunked._scan_backward, (torch.ones_like(given[0]), *given, kept))


def test_the_kernels_layout() -> None:
    """Not the kernel, which needs a GPU: its definition, through the same reshaping."""
    x, dt, A, B, C, D = arguments(7)
    y = scans.through_kernel(mamba_reference, x, dt, A, B, C) + D * x
    torch.testing.assert_close(y, selective_scan(x, dt, A, B, C, D, way="sequential"))


def test_strong_decay_over_a_long_sequence_stays_finite() -> None:
    x, dt, A, B, C, D = arguments(300)
    given = (x, 50 * dt, 50 * A, B, C, D)
    y = selective_scan(*given, way="chunked")
    torch.testing.assert_close(y, selective_scan(*given, way="sequential"))
    for found in gradients("chunked", given):
        assert found.isfinite().all()


def test_half_precision_comes_back_as_it_came_and_is_summed_in_float32() -> None:
    x, dt, A, B, C, D = arguments(40)
    half = [t.bfloat16() for t in (x, dt, B, C)]
    x, dt, B, C = half
    y = selective_scan(x, dt, A.float(), B, C, D.float())
    exact = selective_scan(*(t.double() for t in (x, dt, A.float(), B, C, D.float())))
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), exact, rtol=2**-8, atol=1e-3)


def test_autocast_leaves_the_scan_in_float32() -> None:
    given = [t.float() for t in arguments(40)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = selective_scan(*given)
    torch.testing.assert_close(inside, selective_scan(*given))


def test_without_mamba_ssm_or_a_gpu_the_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments(2)
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    scans.cuda_kernel.cache_clear()
    with pytest.raises(Unavailable, match=r"is not installed; .*mldr-deploy\[mamba\]"):
        selective_scan(*given, way="kernel")
    interface = ModuleType("selective_scan_interface")
    interface.selective_scan_fn = mamba_reference  # type: ignore[attr-defined]
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.selective_scan_interface", interface)
    scans.cuda_kernel.cache_clear()
    try:
        with pytest.raises(Unavailable, match="needs a GPU and x is on the cpu"):
            selective_scan(*given, way="kernel")
    finally:
        scans.cuda_kernel.cache_clear()


@pytest.mark.gpu
@pytest.mark.parametrize("length", [64, 197])
def test_the_kernel_itself(length: int) -> None:
    if not torch.cuda.is_available() or scans.cuda_kernel() is None:
        pytest.skip("needs a CUDA GPU and mamba-ssm")
    given = tuple(t.float().cuda() for t in arguments(length, state=16))
    expected = selective_scan(*given, way="sequential")
    torch.testing.assert_close(selective_scan(*given), expected, rtol=1e-4, atol=1e-4)
    for ours, reference in zip(
        gradients("kernel", given), gradients("sequential", given), strict=True
    ):
        torch.testing.assert_close(ours, reference, rtol=1e-3, atol=1e-3)
