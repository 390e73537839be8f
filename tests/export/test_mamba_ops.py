"""Vision Mamba's operators in ONNX against the definition of the scan and PyTorch's convolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mldr_deploy.export.mamba_ops import chunking, translations
from mldr_deploy.models.causal_convolution import causal_convolution, library_convolution
from mldr_deploy.models.selective_scan import Way, selective_scan


class Scan(nn.Module):
    """A convolution, then two scans side by side of 4 channels and 3 states."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.A = nn.Parameter(-torch.randn(2, 4, 3, generator=generator).exp())
        self.D = nn.Parameter(torch.randn(2, 4, generator=generator))
        self.weight = nn.Parameter(torch.randn(8, 1, 4, generator=generator))
        self.bias = nn.Parameter(torch.randn(8, generator=generator))
        self.way = way

    def forward(self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> Tensor:
        convolve = library_convolution if self.way == "sequential" else causal_convolution
        x = convolve(x.flatten(2), self.weight, self.bias).unflatten(2, (2, 4))
        return selective_scan(x, dt, self.A, B, C, self.D, way=self.way)


def arguments(batch: int, length: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(batch)

    def normal(width: int) -> Tensor:
        return torch.randn(batch, length, 2, width, generator=generator)

    return normal(4), 3 * F.softplus(normal(4)), normal(3), normal(3)


@pytest.mark.parametrize("length", [1, 5, pytest.param(9, marks=pytest.mark.slow)])
def test_equals_the_definition_at_every_batch(length: int, tmp_path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=8)
    torch.onnx.export(
        Scan("auto").eval(),
        arguments(2, length),
        tmp_path / "scan.onnx",
        dynamo=True,
        dynamic_shapes=({0: batch},) * 4,
        custom_translation_table=translations(),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(tmp_path / "scan.onnx")
    names = [given.name for given in session.get_inputs()]
    for size in (1, 2, 5):
        given = arguments(size, length)
        with torch.no_grad():
            expected = Scan("sequential")(*given).numpy()
        feed = {name: t.numpy() for name, t in zip(names, given, strict=True)}
        np.testing.assert_allclose(session.run(None, feed)[0], expected, rtol=1e-4, atol=1e-5)
    graph = onnx.load(tmp_path / "scan.onnx").graph
    assert not {node.op_type for node in graph.node} & {"Loop", "Scan", "CumSum", "If"}
    assert len(graph.node) < 60


@pytest.mark.parametrize("length", [1, 2, 3, 17, 64, 65, 197, 785])
def test_chunks_cover_the_length_with_little_over(length: int) -> None:
    size, count = chunking(length)
    assert length <= size * count < length + size
    assert size * count - length <= 0.01 * length + 1
    assert size + count <= 2.5 * length**0.5 + 1
