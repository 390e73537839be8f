"""A student as PyTorch's own operators on one image: what exporters for phones begin with.

Attention is written out, and so are linear layers over grids and Vision Mamba's two operators. The
scan is its definition, position by position: few kinds of nodes, and many of them. A dynamic batch
is not asked for: these exporters bake the example's into the file, so the file takes one image, and
whoever runs it loops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from .onnx_export import plain_attention

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram


def plain_program(model: nn.Module, image_size: int) -> ExportedProgram:
    """``model``'s program, input [1, 3, S, S] -> logits [1, C].

    Raises whatever the exporter raises of the model's code.
    """
    import torch

    with plain_attention(model), _flat_linear(model), torch.no_grad():
        program: ExportedProgram = torch.export.export(
            model, (torch.zeros(1, 3, image_size, image_size),)
        )
    table = _decompositions()
    if not any(node.target in table for node in program.graph.nodes):
        return program
    plain: ExportedProgram = program.run_decompositions(table)
    return plain


@contextmanager
def _flat_linear(model: nn.Module) -> Iterator[None]:
    """Linear layers over grids [B, H, W, C] as layers over rows, which LiteRT's converter needs."""
    from torch import nn
    from torch.nn.functional import linear

    def forward(layer: nn.Linear, x: Tensor) -> Tensor:
        if x.dim() <= 3:
            return linear(x, layer.weight, layer.bias)
        rows = linear(x.flatten(0, -2), layer.weight, layer.bias)
        return rows.reshape(*x.shape[:-1], layer.out_features)

    # Layers of a class of its own keep what it does.
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear]
    for layer in layers:
        layer.forward = partial(forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


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
