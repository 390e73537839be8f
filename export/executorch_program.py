"""A student as an ExecuTorch program: a ``.pte`` of one image for XNNPACK's kernels on a phone.

int8-dynamic: the weights of linear layers and of ordinary convolutions in int8, a scale per channel;
their inputs get a scale at each call. Everything else stays in fp32. A dynamic batch is not written:
the exporter bakes the example's into the file, so the file takes one image, and whoever runs it loops.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle.atomic import write_bytes
from ..bundle.manifest import Island, Runnable
from ..bundle.precisions import PRECISIONS
from ..bundle.targets import TARGETS
from ..errors import Unavailable
from ..runtimes.executorch import ExecuTorch, require_executorch
from ..runtimes.model_file import ModelFile
from ..runtimes.runtime import Runtime, RuntimeOptions
from .artifact_kind import ArtifactKind, ExportContext, Written
from .executorch_reading import read_program
from .onnx_export import first_line, plain_attention, quiet_exporter
from .plain_mamba import with_plain_operators

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

DYNAMIC = "int8-dynamic"


def program_kind(precision: str) -> ArtifactKind:
    """The program of ``precision``."""
    return ArtifactKind(
        partial(_write, precision),
        _run,
        runtime="ExecuTorch",
        read=read_program,
        caveat=TARGETS["executorch"].caveat,
    )


def write_program(model: nn.Module, image_size: int, path: Path, precision: str) -> None:
    """Write ``model`` as a program, input [1, 3, S, S] -> logits [1, C].

    Raises Unavailable where ExecuTorch is not installed or refuses the model.
    """
    require_executorch()
    try:
        content = _lowered(model, image_size, precision)
    except Exception as error:  # the exporter raises whatever the model's code provokes
        raise Unavailable(
            f"ExecuTorch cannot write {type(model).__name__} in {precision} ({first_line(error)}): "
            "choose another student, or leave the target out"
        ) from error
    write_bytes(path, content)


def _lowered(model: nn.Module, image_size: int, precision: str) -> bytes:
    import torch

    example = torch.zeros(1, 3, image_size, image_size)
    with quiet_exporter(), plain_attention(model), torch.no_grad():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = with_plain_operators(torch.export.export(model, (example,)))
        if precision == DYNAMIC:
            program = _quantised(program, example)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        return bytes(lowered.to_executorch().buffer)


def _quantised(program: ExportedProgram, example: Any) -> ExportedProgram:
    """``program`` with its linear layers and convolutions in dynamic int8.

    The quantiser passes over a layer before a ReLU, which it keeps for a pattern that has no dynamic
    form. As a bound of values the ReLU is fused all the same, and the layer is int8.
    """
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer()
    quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True))
    module: Any = program.module()
    aten = torch.ops.aten
    for node in module.graph.nodes:
        if node.target in (aten.relu.default, aten.relu_.default):
            node.target, node.args = aten.hardtanh.default, (*node.args, 0.0, float("inf"))
    module.recompile()
    prepared = prepare_pt2e(module, quantizer)
    prepared(example)  # of a dynamic scale nothing is measured; the tracer wants a call
    return torch.export.export(convert_pt2e(prepared), (example,))


def _write(precision: str, context: ExportContext) -> Written:
    path = context.folder / Path(PRECISIONS[precision].file).with_suffix(".pte")
    write_program(context.student.model, context.student.record.image_size, path, precision)
    computes = read_program(path).computes
    if precision == DYNAMIC and "int8" not in computes.values():
        path.unlink()
        raise Unavailable("the student has no layer that XNNPACK computes in dynamic int8")
    islands = [
        Island(node=node, reason="XNNPACK has no dynamic int8 of it")
        for node, computed in computes.items()
        if precision == DYNAMIC and computed == "fp32"
    ]
    return Written(path.name, islands=tuple(islands))


def _run(folder: Path, runnable: Runnable, threads: int) -> Runtime:
    """The runtime of a program, which is the same on every machine."""
    file = ModelFile(folder / runnable.file, runnable)
    return ExecuTorch(file, RuntimeOptions(threads=threads))
