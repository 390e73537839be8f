"""DFRA in closed form against the textbook form, in values, gradients and memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mldr_deploy.distill import relations
from mldr_deploy.distill.dfra import DfraForm, GlobalBatch, dfra_loss, dfra_losses

PARTS = ("class_relation", "sample_relation", "probability")
SHAPES = [(1, 2), (1, 7), (5, 2), (3, 9), (16, 5), (8, 8), (6, 40)]


def logits(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def pair(batch: int, classes: int, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    student = logits(batch, classes, seed=1, scale=scale).requires_grad_()
    return student, logits(batch, classes, seed=2, scale=scale)


def assert_equal(mine: Any, reference: Any, student: Tensor, alpha: float = 2.0) -> None:
    """Every part and the gradient of the total, to 1e-9."""
    for part in PARTS:
        torch.testing.assert_close(
            getattr(mine, part), getattr(reference, part), rtol=1e-9, atol=1e-9
        )
    (gradient,) = torch.autograd.grad(mine.total, student)
    (expected,) = torch.autograd.grad(reference.total(alpha), student)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("batch", "classes"), SHAPES)
def test_equals_the_textbook_form(batch: int, classes: int, textbook: Callable[..., Any]) -> None:
    student, teacher = pair(batch, classes)
    assert_equal(dfra_loss(student, teacher), textbook(student, teacher), student)


@pytest.mark.parametrize(("temperature", "alpha"), [(0.5, 2.0), (4.0, 0.5), (1.0, 7.5)])
def test_temperature_divides_and_alpha_weighs(
    temperature: float, alpha: float, textbook: Callable[..., Any]
) -> None:
    student, teacher = pair(4, 6)
    mine = dfra_loss(student, teacher, DfraForm(temperature=temperature, alpha=alpha))
    assert_equal(mine, textbook(student, teacher, temperature), student, alpha)


def test_extreme_logits_neither_overflow_nor_lose_digits(textbook: Callable[..., Any]) -> None:
    signs = logits(6, 9).sign()
    student = (60 * signs).requires_grad_()
    teacher = 60 * signs.roll(1, dims=1)
    assert_equal(dfra_loss(student, teacher), textbook(student, teacher), student)
    assert all(torch.isfinite(t.total) for t in dfra_losses([student.float()], teacher.float()))


def test_gradcheck() -> None:
    student, teacher = pair(3, 4)
    for part in (*PARTS, "total"):
        assert torch.autograd.gradcheck(
            lambda s, part=part: getattr(dfra_loss(s, teacher), part), [student]
        )


def test_zero_where_student_and_teacher_agree() -> None:
    student, teacher = pair(5, 6)[0], pair(5, 6)[0].detach()
    loss = dfra_loss(student, teacher).total
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


def test_heads_together_equal_each_alone() -> None:
    teacher = logits(7, 5, seed=9)
    heads = [logits(7, 5, seed=k).requires_grad_() for k in range(3)]
    together = dfra_losses(heads, teacher)
    weighted = sum((k + 1) * terms.total for k, terms in enumerate(together))
    gradients = torch.autograd.grad(weighted, heads)
    for k, head in enumerate(heads):
        alone = dfra_loss(head, teacher)
        torch.testing.assert_close(together[k].total, alone.total, rtol=1e-12, atol=1e-12)
        (expected,) = torch.autograd.grad((k + 1) * alone.total, head)
        torch.testing.assert_close(gradients[k], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("elements", [1, 17, 40, 150])
def test_block_size_changes_nothing(
    elements: int, monkeypatch: pytest.MonkeyPatch, textbook: Callable[..., Any]
) -> None:
    """From one column of one vector at a time to several whole vectors."""
    monkeypatch.setitem(relations._BLOCK_ELEMENTS, "cpu", elements)
    student, teacher = pair(7, 11)
    assert_equal(dfra_loss(student, teacher), textbook(student, teacher), student)


def test_relations_between_samples_may_span_a_gathered_batch(textbook: Callable[..., Any]) -> None:
    student, teacher = pair(9, 4)
    local, local_teacher = student[3:6], teacher[3:6]
    (mine,) = dfra_losses([local], local_teacher, global_batch=GlobalBatch([student], teacher))
    expected = dataclasses.replace(
        textbook(local, local_teacher), sample_relation=textbook(student, teacher).sample_relation
    )
    assert_equal(mine, expected, student)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_to_float32(dtype: torch.dtype) -> None:
    """In and out of autocast, which would otherwise round the products."""
    student, teacher = pair(6, 10)
    half, half_teacher = student.detach().to(dtype).requires_grad_(), teacher.to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        mine = dfra_loss(half, half_teacher)
    expected = dfra_loss(half.float(), half_teacher.float())
    assert mine.total.dtype == torch.float32
    torch.testing.assert_close(mine.total, expected.total, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(mine.total, half)
    assert gradient.dtype == dtype


def test_teacher_gets_no_gradient() -> None:
    student, teacher = pair(3, 4)
    teacher.requires_grad_()
    dfra_loss(student, teacher).total.backward()
    assert student.grad is not None
    assert teacher.grad is None


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                memory = tensor.untyped_storage().nbytes() // tensor.element_size()
                self.elements = max(self.elements, memory)
        return made


@pytest.mark.parametrize(("batch", "classes"), [(24, 300), (300, 24)])
def test_no_relation_is_ever_held_whole(
    batch: int, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and backward make nothing larger than a block or a few logit matrices."""
    block = 1 << 14
    monkeypatch.setitem(relations._BLOCK_ELEMENTS, "cpu", block)
    student, teacher = pair(batch, classes)
    with LargestTensor() as largest:
        dfra_loss(student, teacher).total.backward()
    allowed = max(block, 3 * batch * classes)
    assert largest.elements <= allowed < max(batch, classes) ** 2 * min(batch, classes) // 50


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((3, 4), (3, 5)), ((3, 4), (2, 4)), ((4,), (4,)), ((1, 3, 4), (1, 3, 4))],
)
def test_refuses_other_shapes(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"DFRA: student logits .* must both be \[batch, classes\]"
    ):
        dfra_loss(torch.zeros(student), torch.zeros(teacher))
    whole = torch.zeros(3, 4)
    with pytest.raises(ValueError, match="must both be"):  # the gathered side too
        global_batch = GlobalBatch([torch.zeros(student)], torch.zeros(teacher))
        dfra_losses([whole], whole, global_batch=global_batch)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_refuses_a_temperature_that_is_not_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature must be positive, not {temperature}"):
        DfraForm(temperature=temperature)
