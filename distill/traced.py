"""A frozen module's forward pass through ONNX Runtime, traced here."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

_TOLERANCE = 1e-3  # largest difference from PyTorch, as a part of the largest output

Forward = Callable[[Tensor], Tensor]  # network inputs, float32 [b, 3, S, S] -> float32 [b, N]


def traced(module: nn.Module, side: int) -> Forward:
    """``module`` in eval mode and fp32, as ONNX Runtime computes it on the CPU.

    Inputs are [b, 3, side, side] for any b. Raises whatever the converter does.
    """
    import onnxruntime

    example = torch.zeros(2, 3, side, side)  # a batch of 1 would be specialised
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
            verbose=False,
        )
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # Between two batches the student has the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def by_onnx(inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: inputs.contiguous().numpy()})[0])

    return by_onnx


def disagreement(answer: Tensor, expected: Tensor) -> float | None:
    """Largest difference where it is more than rounding, or NaN; else None."""
    deviation = float((answer - expected).detach().abs().max())
    return None if deviation <= _TOLERANCE * float(expected.abs().max()) else deviation
