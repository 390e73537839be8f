"""Vision Mamba's two operators in ONNX: few, wide nodes, and no Loop, Scan or CumSum.

b batch (dynamic), l length, g scans side by side, d channels, n states a channel; k chunks of c
positions. The exporter sees one node for a scan and one for a convolution, and writes these; a
scan traced through PyTorch's decompositions takes it ten times as long.

The scan walks all chunks at once from a zero state, then the states that enter the chunks, and
adds each to its chunk with the decay since: 11 c + 2 k nodes and two dozen more, laid out
[b, k, 1, g, n, d]. A node is as wide as the chunks, not as the sequence: wider ones have fewer
nodes and leave the cache. Exponents are sums of steps times A, never positive: nothing overflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

Value = Any  # a tensor of the graph being written


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The exporter's table: operator -> what writes its nodes."""
    import torch

    from ..models import causal_convolution, chunked_scan  # noqa: F401  (they register them)

    operators = torch.ops.mldr_deploy
    return {
        operators.chunked_scan.default: _scan,
        operators.causal_convolution.default: _convolution,
    }


def _convolution(x: Value, weight: Value, bias: Value) -> Value:
    """silu(conv) [b, l, d]; padding on the left alone leaves nothing to cut off."""
    op = _operators()
    taps, channels = int(weight.shape[2]), int(weight.shape[0])
    length_last = op.Transpose(x, perm=[0, 2, 1])
    sums = op.Conv(length_last, weight, bias, group=channels, pads=[taps - 1, 0])
    return op.Transpose(op.Mul(sums, op.Sigmoid(sums)), perm=[0, 2, 1])


def _scan(
    x: Value, dt: Value, A: Value, B: Value, C: Value, learns: bool = False
) -> tuple[Value, Value]:
    """y [b, l, g, d]; the operator's second result, kept for its gradient, is never used."""
    op = _operators()
    length, (groups, channels, states) = int(x.shape[1]), map(int, A.shape)
    size, count = chunking(length)

    def chunks(t: Value, *shape: int) -> Value:
        if size * count > length:
            t = op.Pad(t, [0, 0, 0, 0, 0, size * count - length, 0, 0])
        return op.Reshape(t, [0, count, size, *shape])

    slopes = op.Transpose(A, perm=[0, 2, 1])  # [g, n, d]
    steps = chunks(dt, groups * channels)
    triangle = op.Constant(value=_triangle(size))
    sums, drives = op.MatMul(triangle, steps), op.Mul(dt, x)
    by_state = [0, count, size, groups, 1, channels]

    def positions(t: Value) -> tuple[Value, ...]:
        return _split(op, t, size, 2)

    def decays(t: Value) -> list[Value]:
        return [op.Exp(op.Mul(step, slopes)) for step in positions(op.Reshape(t, by_state))]

    by_B = positions(chunks(B, groups, states, 1))
    products = zip(positions(chunks(drives, groups, 1, channels)), by_B, strict=True)
    local = _walk(op, decays(steps), [op.Mul(u, b) for u, b in products])
    since = decays(sums)
    entering = _entering(op, since[-1], local[-1], count)
    outputs = []
    for h, a, c in zip(local, since, positions(chunks(C, groups, states, 1)), strict=True):
        h = op.Add(h, op.Mul(a, entering))
        outputs.append(op.ReduceSum(op.Mul(h, c), [4], keepdims=0))
    y = op.Concat(*outputs, axis=2)  # [b, k, c, g, d]
    y = op.Reshape(y, [0, size * count, groups, channels])
    if size * count > length:
        y = op.Slice(y, [0], [length], [1])
    return y, op.Constant(value_float=0.0)


def _walk(op: Any, decay: Sequence[Value], drive: Sequence[Value]) -> list[Value]:
    """h = decay * h + drive from zero, at every position."""
    states: list[Value] = []
    for a, u in zip(decay, drive, strict=True):
        states.append(op.Add(op.Mul(a, states[-1]), u) if states else u)
    return states


def _entering(op: Any, total: Value, last: Value, count: int) -> Value:
    """What each chunk begins with [b, k, 1, g, n, d], the first with zero."""
    if count == 1:
        return op.Mul(last, 0.0)
    chunks = (_split(op, t, count, 1) for t in (total, last))
    carried = op.Concat(*_walk(op, *chunks)[:-1], axis=1)
    return op.Pad(carried, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])


def _split(op: Any, t: Value, count: int, axis: int) -> tuple[Value, ...]:
    parts = op.Split(t, axis=axis, num_outputs=count)
    return tuple(parts) if count > 1 else (parts,)


def chunking(length: int) -> tuple[int, int]:
    """(c, k): sizes about the root of the length, of those what wastes least of the last chunk."""
    root = math.isqrt(length)
    sizes = range(root // 2 + 1, max(2 * root, 2))
    size = min(sizes, key=lambda c: (-length % c, abs(c - root)))
    return size, math.ceil(length / size)


def _operators() -> Any:
    """Untyped: the package's annotations know no plain lists, which its writer takes."""
    from onnxscript import opset18

    return opset18


def _triangle(size: int) -> Any:
    """Its product with steps [c, d] gives their sums up to and with each position."""
    import numpy as np
    import onnx.numpy_helper

    return onnx.numpy_helper.from_array(np.tri(size, dtype=np.float32))
