"""Vision Mamba's two operators as PyTorch's own, for exporters that know no others.

The scan is its definition, position by position: few kinds of nodes, and many of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram


def with_plain_operators(program: ExportedProgram) -> ExportedProgram:
    """``program`` without operators of ours; itself where it has none."""
    table = _decompositions()
    if not any(node.target in table for node in program.graph.nodes):
        return program
    return program.run_decompositions(table)


def _decompositions() -> dict[Any, Callable[..., Any]]:
    import torch

    from ..models import chunked_scan  # noqa: F401  (it registers its operator)
    from ..models.causal_convolution import library_convolution
    from ..models.selective_scan import sequential_scan

    def scan(
        x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, learns: bool
    ) -> tuple[Tensor, Tensor]:
        """The operator's second result, kept for its gradient, is never used."""
        return sequential_scan(x, dt, A, B, C), x.new_zeros(())

    operators = torch.ops.mldr_deploy
    return {
        operators.chunked_scan.default: scan,
        operators.causal_convolution.default: library_convolution,
    }
