"""The kernels on the GPU they are for; skipped where there is none."""

from __future__ import annotations

import math

import pytest
import torch

from mldr_deploy.distill import relations
from mldr_deploy.distill.dfra import dfra_losses

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@pytest.mark.parametrize(
    ("batch", "classes"),
    [(1, 2), (3, 5), (127, 100), (256, 1000), (64, 1001), (4096, 10), (8, 21841), (2, 11221)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_the_closed_form_in_float64(batch: int, classes: int, dtype: torch.dtype) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    shape = (batch, classes)
    heads = [2 * torch.randn(shape, generator=generator, device="cuda") for _ in range(6)]
    heads = [head.to(dtype).requires_grad_() for head in heads]
    teacher = (3 * torch.randn(shape, generator=generator, device="cuda")).to(dtype)
    total = torch.stack([terms.total for terms in dfra_losses(heads, teacher)]).sum()
    found = torch.autograd.grad(total, heads)
    exact = [head.detach().double().requires_grad_() for head in heads]
    wanted = torch.stack([t.total for t in dfra_losses(exact, teacher.double())]).sum()
    expected = torch.autograd.grad(wanted, exact)
    torch.testing.assert_close(total.double(), wanted, rtol=1e-5, atol=1e-6)
    rounding = 2**-8 if dtype == torch.bfloat16 else 1e-4
    for mine, reference in zip(found, expected, strict=True):
        error = (mine.double() - reference).norm() / reference.norm()
        assert error <= rounding


def test_memory_is_of_the_order_of_the_logits() -> None:
    heads, batch, classes = 6, 256, 1000
    student = torch.randn(heads, batch, classes, device="cuda", requires_grad=True)
    teacher = torch.randn(batch, classes, device="cuda")
    scale = 1 / math.sqrt(classes)
    relations.relation_divergence(student, teacher, scale).sum().backward()
    student.grad = None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    relations.relation_divergence(student, teacher, scale).sum().backward()
    used = torch.cuda.max_memory_allocated() - before
    assert used <= 5 * student.nbytes


def test_replays_in_a_cuda_graph() -> None:
    student = torch.randn(2, 8, 100, device="cuda", requires_grad=True)
    teacher = torch.randn(8, 100, device="cuda")

    def step() -> torch.Tensor:
        loss = relations.relation_divergence(student, teacher, 0.1).sum()
        student.grad = torch.autograd.grad(loss, student)[0]
        return loss

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    with torch.no_grad():
        student.copy_(torch.randn_like(student))
    graph.replay()
    expected = relations.relation_divergence(student, teacher, 0.1).sum()
    torch.testing.assert_close(loss, expected)
