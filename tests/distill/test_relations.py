"""The GPU's kernels in Triton's interpreter, what they compile to, and the operator around them."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mldr_deploy.distill import relations
from mldr_deploy.distill.dfra import dfra_losses

pytest.importorskip("triton", reason="triton comes with PyTorch's CUDA builds")
ROOT = Path(__file__).resolve().parents[2]
CASES = [(1, 1, 1), (1, 1, 2), (6, 3, 5), (2, 5, 31), (3, 2, 129), (6, 1, 300), (1, 1, 515)]
# Triton decides at its import whether it interprets, so the kernels run in a process of their own.
INTERPRET = """
import sys
from safetensors.torch import load_file, save_file
from mldr_deploy.distill.relations_triton import divergence
given, made = load_file(sys.argv[1]), {}
for name in {key.partition(".")[0] for key in given}:
    student, teacher, scale = (given[f"{name}.{part}"] for part in ("student", "teacher", "scale"))
    for wanted in (True, False):
        loss, gradient = divergence(student, teacher, scale.item(), wanted)
        made |= {f"{name}.{wanted}.loss": loss, f"{name}.{wanted}.gradient": gradient}
save_file(made, sys.argv[2])
"""


def scale_of(length: int) -> float:
    return float(torch.tensor(1 / math.sqrt(length)))


def inputs(heads: int, count: int, length: int) -> tuple[Tensor, Tensor]:
    return vectors(heads, count, length, seed=1), vectors(count, length, seed=2)


def extreme() -> tuple[Tensor, Tensor]:
    return 60 * vectors(2, 3, 9, seed=1).sign(), 60 * vectors(3, 9, seed=2).sign()


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What the kernels make of every case, in Triton's interpreter."""
    folder = tmp_path_factory.mktemp("triton")
    given = {str(case): (*inputs(*case), scale_of(case[2])) for case in CASES}
    given["extreme"] = (*extreme(), 1.0)
    tensors = {}
    for name, (student, teacher, scale) in given.items():
        tensors |= {f"{name}.student": student, f"{name}.teacher": teacher}
        tensors[f"{name}.scale"] = torch.tensor(scale)
    save_file(tensors, folder / "given")
    subprocess.run(
        [sys.executable, "-c", INTERPRET, folder / "given", folder / "made"],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT / ".src")},
        check=True,
        timeout=300,
    )
    return load_file(folder / "made")


def vectors(*shape: int, seed: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def textbook(student: Tensor, teacher: Tensor, scale: float) -> Tensor:
    """Explicit relations, softmaxed over rows; [H], in float64."""

    def relation(v: Tensor) -> Tensor:
        return (scale * v[..., :, None] * v[..., None, :]).log_softmax(dim=-2)

    p, q = relation(teacher.double()), relation(student.double())
    return (p.exp() * (p - q)).sum(-2).mean(dim=(-1, -2))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_kernels_equal_explicit_relations(
    interpreted: dict[str, Tensor], case: tuple[int, int, int]
) -> None:
    """Odd lengths, lengths beside the block's and the chunk's; values and gradients."""
    student, teacher = inputs(*case)
    exact = student.double().requires_grad_()
    expected = textbook(exact, teacher, scale_of(case[2]))
    (slope,) = torch.autograd.grad(expected.sum(), exact)
    loss, gradient = (interpreted[f"{case}.True.{part}"] for part in ("loss", "gradient"))
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=2e-5, atol=2e-6)
    torch.testing.assert_close(gradient.double(), slope, rtol=2e-5, atol=1e-6)


@pytest.mark.slow
def test_extreme_logits_do_not_overflow(interpreted: dict[str, Tensor]) -> None:
    expected = textbook(*extreme(), 1.0)
    loss = interpreted["extreme.True.loss"]
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    assert interpreted["extreme.True.gradient"].isfinite().all()


@pytest.mark.slow
def test_no_gradient_is_made_where_none_is_wanted(interpreted: dict[str, Tensor]) -> None:
    for case in CASES:
        assert interpreted[f"{case}.False.gradient"].numel() == 0
        loss, wanted = (interpreted[f"{case}.{w}.loss"] for w in (False, True))
        torch.testing.assert_close(loss, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", ["_columns", "_rows"])
def test_one_exponential_an_element_whatever_the_heads(name: str, capability: int) -> None:
    """Compiled for a GPU that need not be there: 1 + H exponentials, each over the lanes."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from mldr_deploy.distill import relations_triton as kernels

    heads, lanes, warps = 6, 512, 4
    kernel = getattr(kernels, name)
    constants = {"HEADS": heads, "LANES": lanes, "CHUNK": 128}
    kinds = {"scale": "fp32", "factor": "fp32", "vectors": "i32", "length": "i32"}
    signature = {
        n: "constexpr" if n in constants else kinds.get(n, "*fp32") for n in kernel.arg_names
    }
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(kernel.arg_names.index(n),): value for n, value in constants.items()},
    )
    target = GPUTarget("cuda", capability, 32)
    assembly = compile(source, target=target, options={"num_warps": warps}).asm["ptx"]
    a_thread = lanes // (32 * warps)
    assert len(re.findall(r"\bex2\.approx", assembly)) == (1 + heads) * a_thread


# --- the operator


def test_the_operator_holds_to_pytorchs_contract() -> None:
    """Schema, fake tensors, autograd registration and AOT dispatch, by PyTorch's own check."""
    student = vectors(2, 3, 5, seed=1).requires_grad_()
    torch.library.opcheck(
        torch.ops.mldr_deploy.relation_divergence.default,
        (student, vectors(3, 5, seed=2), 0.4, True),
    )


def test_twice_is_refused_not_wrong() -> None:
    student = vectors(1, 2, 3, seed=1).requires_grad_()
    loss = relations.relation_divergence(student, vectors(2, 3, seed=2), 0.5).sum()
    with pytest.raises(RuntimeError, match=r"once|does not require grad"):
        (slope,) = torch.autograd.grad(loss, student, create_graph=True)
        slope.sum().backward()


def test_compiled_it_is_one_call_in_one_graph() -> None:
    """No graph break; the same losses and gradients as without torch.compile."""

    def total(student: Tensor, teacher: Tensor) -> Tensor:
        return sum(terms.total for terms in dfra_losses([student, 2 * student], teacher))  # type: ignore[return-value]

    student, teacher = vectors(4, 6, seed=1).requires_grad_(), vectors(4, 6, seed=2)
    compiled = torch.compile(total, backend="aot_eager", fullgraph=True)
    expected, found = total(student, teacher), compiled(student, teacher)
    torch.testing.assert_close(found, expected)
    (slope,) = torch.autograd.grad(found, student)
    torch.testing.assert_close(slope, torch.autograd.grad(expected, student)[0])
