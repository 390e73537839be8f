"""The selective scan on a CPU: position by position, in place, its gradient in closed form.

b batch, l length, g scans side by side, d channels, n states a channel, k chunks. The work is
bound by memory: every operation writes into buffers of a block of the batch that a cache holds,
laid out [chunk, n, b, g, d] so that what is broadcast is never the innermost axis. Forward keeps
the state at the start of each chunk; backward makes the others anew from there.

Operators of PyTorch, opaque to `torch.compile` and `torch.export`, which would unroll their loops;
export/mamba_ops.py says what they are in ONNX.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CHUNK = 8  # positions; about the root of l keeps what is stored and the buffers small
_BLOCK = 1 << 18  # elements of a buffer [chunk, n, b, g, d] a thread
_GPU_BLOCK = 1 << 26
_LOG2E = 1 / math.log(2)  # PyTorch's exp2 is twice as fast as its exp


def chunked_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """y [b, l, g, d] from x, dt [b, l, g, d], A [g, d, n] and B, C [b, l, g, n]."""
    learning = torch.is_grad_enabled() and not torch.compiler.is_exporting()
    learns = learning and any(t.requires_grad for t in (x, dt, A, B, C))
    y: Tensor = _scan(x, dt, A, B, C, learns)[0]
    return y


@torch.library.custom_op("mldr_deploy::chunked_scan", mutates_args=())
def _scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, learns: bool
) -> tuple[Tensor, Tensor]:
    """y, and where it `learns` the state [k, n, b, g, d] that each chunk begins with."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    first_states = _empty_states(x, A, learns)
    for rows in _blocks(x, A):
        block_states = first_states[:, :, rows] if learns else None
        _scan_block(x[rows], dt[rows], A, B[rows], C[rows], y[rows], block_states)
    return y, first_states


@_scan.register_fake
def _(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, learns: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.contiguous_format), _empty_states(x, A, learns)


@torch.library.custom_op("mldr_deploy::chunked_scan_backward", mutates_args=())
def _scan_backward(
    dy: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, first_states: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """dx, ddt, dA, dB, dC."""
    gradients = tuple(_like(t) for t in (x, dt, A, B, C))
    dx, ddt, dA, dB, dC = gradients
    dA.zero_()
    for rows in _blocks(x, A):
        block_inputs = (t[rows] for t in (dy, x, dt, B, C))
        dA += _gradients(
            A, first_states[:, :, rows], *block_inputs, *(t[rows] for t in (dx, ddt, dB, dC))
        )
    return dx, ddt, dA, dB, dC


@_scan_backward.register_fake
def _(
    dy: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, first_states: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _like(x), _like(dt), _like(A), _like(B), _like(C)


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:5], output[1])


def _backward(ctx: Any, dy: Tensor, _dstates: Tensor) -> tuple[Tensor | None, ...]:
    return (*_scan_backward(dy, *ctx.saved_tensors), None)


_scan.register_autograd(_backward, setup_context=_keep_for_backward)


def _scan_block(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, y: Tensor, first_states: Tensor | None
) -> None:
    """Write y, and each chunk's first state into `first_states`, for rows of a batch."""
    steps, out = dt.transpose(0, 1), y.transpose(0, 1)  # [l, b, g, d]
    drives = steps * x.transpose(0, 1)
    B, C, slopes = _states(B), _states(C), _by_state(A) * _LOG2E
    decay, states = (x.new_empty(CHUNK, *slopes.shape[:1], *drives.shape[1:]) for _ in range(2))
    state = torch.zeros_like(states[0])
    for k, chunk in enumerate(_chunks(len(steps))):
        if first_states is not None:
            first_states[k] = state
        a, h = decay[: len(chunk)], states[: len(chunk)]
        torch.mul(steps[_span(chunk), None], slopes, out=a).exp2_()
        state = _recur(state, a, h, drives[_span(chunk)], B[_span(chunk)]).clone()
        torch.sum(torch.mul(h, C[_span(chunk)], out=a), 1, out=out[_span(chunk)])


def _recur(state: Tensor, decay: Tensor, states: Tensor, drives: Tensor, B: Tensor) -> Tensor:
    """Fill `states` [chunk, n, b, g, d] with those after `state`; the last of them."""
    for a, h, drive, b in zip(
        decay.unbind(), states.unbind(), drives.unbind(), B.unbind(), strict=True
    ):
        state = torch.mul(state, a, out=h).addcmul_(b, drive)
    return state


def _gradients(
    A: Tensor,
    first_states: Tensor,
    dy: Tensor,
    x: Tensor,
    dt: Tensor,
    B: Tensor,
    C: Tensor,
    dx: Tensor,
    ddt: Tensor,
    dB: Tensor,
    dC: Tensor,
) -> Tensor:
    """Write dx, ddt, dB, dC for rows of a batch; dA [g, d, n].

    With G[t] the gradient of h[t]: G[t] = C[t] dy[t] + exp(dt[t+1] A) G[t+1].
    """
    dy, x, dt, dx, ddt = (t.transpose(0, 1) for t in (dy, x, dt, dx, ddt))  # [l, b, g, d]
    dB, dC = (t.permute(1, 3, 0, 2) for t in (dB, dC))  # [l, n, b, g]
    drives, B, C, slopes = dt * x, _states(B), _states(C), _by_state(A)
    block = (slopes.shape[0], *drives.shape[1:])
    decay, grads = (x.new_empty(CHUNK, *block) for _ in range(2))
    states, carry = x.new_empty(CHUNK + 1, *block), x.new_zeros(block)
    dA = torch.zeros_like(carry)
    for k, chunk in reversed([*enumerate(_chunks(len(dt)))]):
        span, size = _span(chunk), len(chunk)
        a, G, before, h = decay[:size], grads[:size], states[:size], states[1 : size + 1]
        states[0] = first_states[k]
        torch.mul(dt[span, None], slopes * _LOG2E, out=a).exp2_()
        _recur(states[0], a, h, drives[span], B[span])
        carry = _recur_back(carry, a, G, dy[span], C[span]).clone()
        log_decay = a.mul_(before)  # the gradient of dt A
        torch.sum(torch.mul(h, dy[span, None], out=h), -1, out=dC[span])
        torch.sum(torch.mul(G, drives[span, None], out=h), -1, out=dB[span])
        dA += torch.mul(log_decay, dt[span, None], out=h).sum(0)
        along_B = G.mul_(B[span]).sum(1)
        torch.mul(along_B, dt[span], out=dx[span])
        torch.addcmul(log_decay.mul_(slopes).sum(1), along_B, x[span], out=ddt[span])
    return dA.sum(1).movedim(0, -1)


def _recur_back(carry: Tensor, decay: Tensor, grads: Tensor, dy: Tensor, C: Tensor) -> Tensor:
    """Fill `grads` with G from the last position back, `decay` with decay * G; the first of it."""
    positions = zip(decay.unbind(), grads.unbind(), dy.unbind(), C.unbind(), strict=True)
    for a, grad, pull, c in reversed([*positions]):
        carry = a.mul_(torch.addcmul(carry, c, pull, out=grad))
    return carry


def _empty_states(x: Tensor, A: Tensor, learns: bool) -> Tensor:
    """An uninitialised [k, n, b, g, d] for each chunk's first state; k is 0 unless it `learns`."""
    batch, length, groups, channels = x.shape
    count = math.ceil(length / CHUNK) if learns else 0
    return x.new_empty(count, A.shape[-1], batch, groups, channels)


def _like(t: Tensor) -> Tensor:
    return torch.empty_like(t, memory_format=torch.contiguous_format)


def _blocks(x: Tensor, A: Tensor) -> Iterator[slice]:
    """Rows of the batch whose buffers fit a CPU's cache; a GPU has each operation as wide."""
    size = _BLOCK * torch.get_num_threads() if x.device.type == "cpu" else _GPU_BLOCK
    rows = max(1, size // (CHUNK * A.numel()))
    return (slice(first, first + rows) for first in range(0, len(x), rows))


def _chunks(length: int) -> list[range]:
    return [range(first, min(first + CHUNK, length)) for first in range(0, length, CHUNK)]


def _span(chunk: range) -> slice:
    return slice(chunk.start, chunk.stop)


def _states(t: Tensor) -> Tensor:
    """B or C [b, l, g, n] -> [l, n, b, g, 1]."""
    return t.permute(1, 3, 0, 2).contiguous()[..., None]


def _by_state(A: Tensor) -> Tensor:
    """A [g, d, n] -> [n, 1, g, d]."""
    return A.movedim(-1, 0).contiguous()[:, None]
