"""The divergence between relations of rank one on an NVIDIA GPU; the formula is in `relations.py`.

Two kernels, whatever the sizes. In both a program takes one vector and a block of its elements,
an element a lane, and walks over the vector's other elements, so that nothing has to be reduced
across lanes and the relations are only ever in registers:

- `_columns`: lane j sums exp(k v_i v_j - shift_j) over i, with shift_j = max_i k v_i v_j, which is
  known beforehand: it is at v's largest or smallest element. That yields LSE_j, (Q'v)_j and, for
  the teacher, (P'w)_j and (P'v)_j of every head from the same exponentials, so the loss, too.
- `_rows`: lane i sums exp(k v_i v_j - LSE_j) v_j over j: (Qv)_i and, for all heads, (Pv)_i.

Memory is [1 + H, N, D] for the LSEs and [H, N, D] for the gradient. 2 (1 + H) N D^2 exponentials;
one of the two passes over them is what not storing the relations costs.

Sums run over chunks of `_CHUNK` elements and then over chunks, so that float32 loses no digits on
long vectors. G = 1 + H: index 0 is the teacher.
"""

# Triton's language is no Python to a type checker, and takes no starred tuples.
# mypy: disable-error-code="no-untyped-def,untyped-decorator,assignment"
# ruff: noqa: RUF005

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_CHUNK = 128


def divergence(
    student: Tensor, teacher: Tensor, scale: float, wanted: bool
) -> tuple[Tensor, Tensor]:
    """[H, N, D], [N, D] in float32 -> the means [H] and, where ``wanted``, the gradient [H, N, D].

    Without ``wanted`` the second is empty, and the second kernel is left out.
    """
    heads, vectors, length = student.shape
    together = torch.cat([teacher[None], student])  # [G, N, D], in one piece
    largest, smallest = together.amax(-1), together.amin(-1)  # [G, N]
    lanes, warps = _lanes(length)
    blocks = triton.cdiv(length, lanes)
    log_sums = torch.empty_like(together)
    parts = together.new_empty(heads, vectors * blocks)
    gradient = torch.empty_like(student, memory_format=torch.contiguous_format)
    grid = (vectors * blocks,)
    sizes: dict[str, Any] = {"HEADS": heads, "LANES": lanes, "CHUNK": _CHUNK, "num_warps": warps}
    _columns[grid](
        together, largest, smallest, log_sums, parts, gradient, scale, vectors, length, **sizes
    )
    mean = 1.0 / (vectors * length)
    if wanted:
        factor = scale * mean
        _rows[grid](together, log_sums, gradient, scale, factor, vectors, length, **sizes)
    loss = parts.sum(dim=1) * mean
    return loss, gradient if wanted else gradient.new_empty(0)


def _lanes(length: int) -> tuple[int, int]:
    """Elements a program takes, and its warps: four elements a thread where there are so many."""
    lanes = min(512, max(32, triton.next_power_of_2(length)))
    return lanes, max(1, min(4, lanes // 32))


@triton.jit
def _columns(
    vectors_ptr,
    largest_ptr,
    smallest_ptr,
    log_sums_ptr,
    parts_ptr,
    gradient_ptr,
    scale,
    vectors,
    length,
    HEADS: tl.constexpr,
    LANES: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """LSEs [G, N, D]; a program's part of the loss [H, N * blocks]; Q'v - P'v into gradient."""
    program = tl.program_id(0)
    blocks = tl.cdiv(length, LANES)
    vector = program // blocks
    lane = (program % blocks) * LANES + tl.arange(0, LANES)
    inside = lane < length
    plane = vectors.to(tl.int64) * length  # elements of one head
    row_ptr = vectors_ptr + vector.to(tl.int64) * length  # the teacher's vector
    at = vector.to(tl.int64) * length + lane

    own = tl.load(row_ptr + lane, mask=inside, other=0.0) * scale
    shift = tl.maximum(own * tl.load(largest_ptr + vector), own * tl.load(smallest_ptr + vector))
    total, same, cross = _zeros(1, LANES)[0], _zeros(1, LANES)[0], _zeros(HEADS, LANES)
    for first in range(0, length, CHUNK):
        some, some_same, some_cross = _zeros(1, LANES)[0], _zeros(1, LANES)[0], _zeros(HEADS, LANES)
        for i in range(first, tl.minimum(first + CHUNK, length)):
            other = tl.load(row_ptr + i)
            weight = tl.exp(own * other - shift)
            some += weight
            some_same += weight * other
            some_cross = _plus_heads(some_cross, weight, row_ptr + plane + i, plane, HEADS)
        total += some
        same += some_same
        cross = _plus(cross, some_cross, HEADS)
    log_sum = tl.log(total) + shift
    tl.store(log_sums_ptr + at, log_sum, mask=inside)
    entropy = own * same / total - log_sum

    for head in tl.static_range(HEADS):
        head_ptr = row_ptr + (head + 1) * plane
        mine = tl.load(head_ptr + lane, mask=inside, other=0.0) * scale
        high = tl.load(largest_ptr + (head + 1) * vectors + vector)
        low = tl.load(smallest_ptr + (head + 1) * vectors + vector)
        head_shift = tl.maximum(mine * high, mine * low)
        head_total, head_same = _zeros(1, LANES)[0], _zeros(1, LANES)[0]
        for first in range(0, length, CHUNK):
            some, some_same = _zeros(1, LANES)[0], _zeros(1, LANES)[0]
            for i in range(first, tl.minimum(first + CHUNK, length)):
                other = tl.load(head_ptr + i)
                weight = tl.exp(mine * other - head_shift)
                some += weight
                some_same += weight * other
            head_total += some
            head_same += some_same
        head_log = tl.log(head_total) + head_shift
        tl.store(log_sums_ptr + (head + 1) * plane + at, head_log, mask=inside)
        taught = cross[head] / total
        divergences = tl.where(inside, entropy - mine * taught + head_log, 0.0)
        tl.store(parts_ptr + head * (vectors * blocks) + program, tl.sum(divergences, axis=0))
        slope = head_same / head_total - taught
        tl.store(gradient_ptr + head * plane + at, slope, mask=inside)


@triton.jit
def _rows(
    vectors_ptr,
    log_sums_ptr,
    gradient_ptr,
    scale,
    factor,
    vectors,
    length,
    HEADS: tl.constexpr,
    LANES: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """gradient [H, N, D] <- factor * (gradient + Q v - P v)."""
    program = tl.program_id(0)
    blocks = tl.cdiv(length, LANES)
    vector = program // blocks
    lane = (program % blocks) * LANES + tl.arange(0, LANES)
    inside = lane < length
    plane = vectors.to(tl.int64) * length
    row = vector.to(tl.int64) * length
    row_ptr = vectors_ptr + row

    own = tl.load(row_ptr + lane, mask=inside, other=0.0) * scale
    cross = _zeros(HEADS, LANES)
    for first in range(0, length, CHUNK):
        some_cross = _zeros(HEADS, LANES)
        for j in range(first, tl.minimum(first + CHUNK, length)):
            weight = tl.exp(own * tl.load(row_ptr + j) - tl.load(log_sums_ptr + row + j))
            some_cross = _plus_heads(some_cross, weight, row_ptr + plane + j, plane, HEADS)
        cross = _plus(cross, some_cross, HEADS)

    for head in tl.static_range(HEADS):
        head_ptr = row_ptr + (head + 1) * plane
        head_log_ptr = log_sums_ptr + (head + 1) * plane + row
        mine = tl.load(head_ptr + lane, mask=inside, other=0.0) * scale
        same = _zeros(1, LANES)[0]
        for first in range(0, length, CHUNK):
            some = _zeros(1, LANES)[0]
            for j in range(first, tl.minimum(first + CHUNK, length)):
                other = tl.load(head_ptr + j)
                some += tl.exp(mine * other - tl.load(head_log_ptr + j)) * other
            same += some
        slope_ptr = gradient_ptr + head * plane + row + lane
        slope = tl.load(slope_ptr, mask=inside, other=0.0)
        tl.store(slope_ptr, factor * (slope + same - cross[head]), mask=inside)


# Sums of every head are tuples of vectors: a second axis would be spread over threads, each of
# which would then make the same exponentials anew.


@triton.jit
def _zeros(count: tl.constexpr, lanes: tl.constexpr):
    sums = ()
    for _ in tl.static_range(count):
        sums = sums + (tl.zeros([lanes], tl.float32),)
    return sums


@triton.jit
def _plus_heads(sums, weight, element_ptr, plane, count: tl.constexpr):
    result = ()
    for head in tl.static_range(count):
        result = result + (sums[head] + weight * tl.load(element_ptr + head * plane),)
    return result


@triton.jit
def _plus(sums, more, count: tl.constexpr):
    result = ()
    for head in tl.static_range(count):
        result = result + (sums[head] + more[head],)
    return result
