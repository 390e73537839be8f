"""A frozen model's features or logits through ONNX Runtime, on CPUs 2 to 3 times as fast.

The graph is traced here and held to what PyTorch says of the first images; where either fails,
PyTorch goes on alone.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..bundle.progress import Progress
from ..models.stages import forward_stages
from .small_grids import small_grids
from .task import FrozenTeacher

_WORTH = 2000  # images from which tracing takes less time than it saves
_TOLERANCE = 1e-3  # largest difference from PyTorch, as a part of the largest number

Output = Literal["features", "logits", "both"]  # both: [b, C + F], the logits first
Frozen = Callable[[Tensor], Tensor]  # network inputs [b, 3, S, S] -> an output, float32


def fastest(
    frozen: FrozenTeacher,
    images: int,
    device: torch.device,
    progress: Progress,
    output: Output = "features",
) -> Frozen:
    """The fastest function here that gives ``output`` of ``images`` images.

    Features [b, F] are pooled, as the classifier takes them; logits are [b, C].
    """

    @torch.no_grad()
    def by_torch(inputs: Tensor) -> Tensor:
        if frozen.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with small_grids(device):
            if output == "logits":
                logits: Tensor = frozen.model(inputs)
                return logits.float()
            answer = forward_stages(frozen.model, inputs, frozen.plan, features=True)
        assert answer.features is not None
        parts = (answer.logits, answer.features) if output == "both" else (answer.features,)
        return torch.cat(parts, dim=1).float()

    if device.type != "cpu" or images < _WORTH:
        return by_torch
    try:
        by_onnx = _traced(frozen, output)
    except Exception as error:  # any failure of a converter: PyTorch gives the same numbers
        name = type(error).__name__
        progress.note(f"{output} by PyTorch: {name} while tracing for ONNX Runtime")
        return by_torch
    noise = torch.Generator().manual_seed(0)
    probe = torch.randn(4, 3, frozen.side, frozen.side, generator=noise)
    expected = by_torch(probe)
    deviation = float((by_onnx(probe) - expected).detach().abs().max())
    if not deviation <= _TOLERANCE * float(expected.abs().max()):
        progress.note(f"{output} by PyTorch: ONNX Runtime's differ by up to {deviation:.3g}")
        return by_torch
    return by_onnx


class _Answering(nn.Module):
    """A classifier that gives ``output``."""

    def __init__(self, model: Any, output: Output) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, inputs: Tensor) -> Tensor:
        if self.output == "logits":
            logits: Tensor = self.model(inputs)
            return logits
        last = self.model.forward_features(inputs)
        pooled: Tensor = self.model.forward_head(last, pre_logits=True).flatten(1)
        if self.output == "features":
            return pooled
        return torch.cat([self.model.forward_head(last), pooled], dim=1)


def _traced(frozen: FrozenTeacher, output: Output) -> Frozen:
    import onnxruntime

    example = torch.zeros(2, 3, frozen.side, frozen.side)  # a batch of 1 would be specialised
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Answering(frozen.model, output).eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
            verbose=False,
        )
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def by_onnx(inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: inputs.numpy()})[0])

    return by_onnx
