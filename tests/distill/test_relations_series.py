"""The power series against explicit relations in float64: digits, limits, and who decides."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mldr_deploy.distill import relations, relations_series
from mldr_deploy.distill.relations import blocked, relation_divergence
from mldr_deploy.distill.relations_series import terms_needed
from mldr_deploy.distill.relations_symmetric import largest_exponent


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def one_sided(*shape: int, seed: int) -> Tensor:
    """Most elements small and negative, one far to the right, as a sure classifier's logits."""
    vectors = 0.3 * normal(*shape, seed=seed) - 1.0
    vectors[..., 0] = 4.0
    return vectors


def crowded(*shape: int, seed: int) -> Tensor:
    """The worst case of the module's docstring: one element at -V/2, all others at V."""
    vectors = torch.full(shape, 4.0)
    vectors[..., 0] = -2.0
    return vectors + 0.01 * normal(*shape, seed=seed)


def textbook(student: Tensor, teacher: Tensor, scale: float) -> Tensor:
    """Explicit relations, softmaxed over rows; [H], in float64."""

    def relation(v: Tensor) -> Tensor:
        return (scale * v[..., :, None] * v[..., None, :]).log_softmax(dim=-2)

    p, q = relation(teacher.double()), relation(student.double())
    return (p.exp() * (p - q)).sum(-2).mean(dim=(-1, -2))


def assert_explicit(student: Tensor, teacher: Tensor, exponent: float) -> None:
    """Values and gradients are those of explicit relations with this largest exponent.

    To what float32 itself loses.
    """
    scale = exponent / float(torch.maximum(student.abs().max(), teacher.abs().max())) ** 2
    exact = student.double().requires_grad_()
    expected = textbook(exact, teacher, scale)
    (slope,) = torch.autograd.grad(expected.sum(), exact)
    student.requires_grad_()
    loss = relation_divergence(student, teacher, scale)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert loss.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-6, atol=1e-6)
    parts = scale * student.detach().norm() / slope[0].numel()  # a gradient is a difference of them
    assert (gradient.double() - slope).norm() <= 1e-6 * slope.norm() + 5e-6 * parts


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, torch.dtype]]:
    """What `terms_needed` answered in this test."""
    answers: list[tuple[int, torch.dtype]] = []

    def recorded(*args: object) -> tuple[int, torch.dtype]:
        answers.append(terms_needed(*args))  # type: ignore[arg-type]
        return answers[-1]

    monkeypatch.setattr(relations, "terms_needed", recorded)
    return answers


@pytest.mark.parametrize("draw", [normal, one_sided, crowded])
@pytest.mark.parametrize(
    ("exponent", "dtype"),
    [
        (0.001, torch.float32),
        (1.0, torch.float32),
        (7.9, torch.float32),
        (8.5, torch.float64),
        (63.0, torch.float64),
    ],
)
def test_equals_explicit_relations(
    draw: Callable[..., Tensor],
    exponent: float,
    dtype: torch.dtype,
    chosen: list[tuple[int, torch.dtype]],
) -> None:
    """Values and gradients, to what float32 itself loses, at every size that the series takes."""
    assert_explicit(draw(3, 2, 640, seed=1), draw(2, 640, seed=2), exponent)
    assert [kind for terms, kind in chosen if terms] == [dtype]


@pytest.mark.parametrize("draw", [normal, one_sided, crowded])
@pytest.mark.parametrize("exponent", [8.5, 30.0, 63.9])
def test_exponentials_without_a_shift_equal_explicit_relations(
    draw: Callable[..., Tensor], exponent: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors too short for the series; no block of shifted columns is made."""
    monkeypatch.delattr(relations, "_block")
    assert_explicit(draw(3, 50, 61, seed=1), draw(50, 61, seed=2), exponent)


def test_beyond_64_exponentials_are_shifted() -> None:
    """One by one without a shift, exp(200) would be infinite."""
    assert_explicit(normal(3, 5, 61, seed=1), normal(5, 61, seed=2), 200.0)


@pytest.mark.parametrize("elements", [1, 5000, 40000])
def test_block_size_changes_nothing(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = normal(2, 7, 90, seed=1), normal(7, 90, seed=2)
    expected = blocked(student, teacher, 0.1, True)
    monkeypatch.setitem(relations._BLOCK_ELEMENTS, "cpu", elements)
    for mine, whole in zip(blocked(student, teacher, 0.1, True), expected, strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-5, atol=1e-7)


def test_no_gradient_is_made_where_none_is_wanted() -> None:
    student, teacher = normal(2, 7, 90, seed=1), normal(7, 90, seed=2)
    loss, gradient = blocked(student, teacher, 0.1, False)
    torch.testing.assert_close(loss, blocked(student, teacher, 0.1, True)[0], rtol=0, atol=0)
    assert gradient.numel() == 0


@pytest.mark.parametrize(
    ("student", "why"),
    [
        (normal(1, 2, 90, seed=1).double(), "float64 is for references"),
        (normal(1, 2, 6, seed=1), "more terms than elements"),
        (3 * normal(1, 2, 90, seed=1), "dearer than 90 exponentials a column"),
        (60 * normal(1, 2, 900, seed=1), "exponents beyond 64"),
        (normal(1, 2, 90, seed=1) * torch.nan, "not numbers"),
        (normal(1, 2, 90, seed=1) / 0, "infinite"),
    ],
)
def test_where_it_does_not_serve_exponentials_are_made(student: Tensor, why: str) -> None:
    exponent = largest_exponent(student, student[0], 0.1)
    assert terms_needed(exponent, student.dtype, student.shape[-1])[0] == 0, why


def test_a_logit_that_is_not_a_number_makes_a_loss_that_is_none() -> None:
    student = normal(1, 2, 90, seed=1)
    student[0, 1, 3] = torch.nan
    assert relation_divergence(student, normal(2, 90, seed=2), 0.1).isnan().all()


def test_all_zero_logits_agree() -> None:
    nothing = torch.zeros(1, 2, 90)
    loss, gradient = blocked(nothing, nothing[0], 0.1, True)
    torch.testing.assert_close(loss, torch.zeros(1), rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, nothing, rtol=0, atol=1e-9)


def test_as_many_terms_as_the_largest_exponent_needs() -> None:
    """Against the remainder of exp's series itself, at the two elements that need most."""
    for exponent in (0.0, 0.1, 1.0, 8.0, 16.0, 64.0):
        count = relations_series._terms(exponent)
        series = relations_series._coefficients(exponent, count)
        left = 1 - float(series.sum() / torch.tensor(exponent).double().exp())
        assert left <= 1e-7
        assert count <= 12 + 2.5 * exponent + 12 * exponent**0.5
