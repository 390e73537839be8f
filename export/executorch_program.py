"""A student as an ExecuTorch program: a ``.pte`` of one image for XNNPACK's kernels on a phone.

int8-dynamic: the weights of linear layers and of ordinary convolutions in int8, a scale per
channel; their inputs get a scale at each call. Everything else stays in fp32.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..runtimes.executorch import ExecuTorch, require_executorch
from .executorch_reading import read_program
from .onnx_export import quiet_exporter
from .phone_file import DYNAMIC, PhoneFormat
from .plain_program import plain_program

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

_LEAST_SCALE = 2.0**-40  # of weights; any smaller might vanish in products of scales


def _lowered(model: nn.Module, image_size: int, precision: str) -> bytes:
    import torch

    with quiet_exporter(), torch.no_grad():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = plain_program(model, image_size)
        if precision == DYNAMIC:
            program = _quantised(program)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        return bytes(lowered.to_executorch().buffer)


def _quantised(program: ExportedProgram) -> ExportedProgram:
    """``program`` with its linear layers and convolutions in dynamic int8.

    The quantiser passes over a layer before a ReLU, which it keeps for a pattern that has no
    dynamic form. As a bound of values the ReLU is fused all the same, and the layer is int8.
    """
    import torch
    from executorch.backends.transforms.duplicate_dynamic_quant_chain import (
        DuplicateDynamicQuantChainPass,
    )
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.observer import PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    aten = torch.ops.aten
    module: Any = program.module()
    for node in module.graph.nodes:
        if node.target in (aten.relu.default, aten.relu_.default):
            node.target, node.args = aten.hardtanh.default, (*node.args, 0.0, float("inf"))
    module.recompile()
    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    assert config.weight is not None
    # The library's own least scale, 2**-12, rounds weights below 1e-4 to nothing.
    observer = PerChannelMinMaxObserver.with_args(eps=_LEAST_SCALE)
    weight = dataclasses.replace(config.weight, observer_or_fake_quant_ctr=observer)
    quantizer = XNNPACKQuantizer().set_global(dataclasses.replace(config, weight=weight))
    quantizer.set_filter_function(lambda node: not _convolves_tokens(node))
    prepared = prepare_pt2e(module, quantizer)
    example = program.example_inputs[0]
    prepared(*example)  # of a dynamic scale nothing is measured; the tracer wants a call
    converted = convert_pt2e(prepared)
    # Of layers that share one quantised input XNNPACK computes all but one wrongly.
    DuplicateDynamicQuantChainPass()(converted)
    return torch.export.export(converted, example)


def _convolves_tokens(node: Any) -> bool:
    """Whether it is a convolution of what was rows just before, of a linear layer or of attention.

    XNNPACK quantises such an input with its axes in the wrong order. A norm between them is no
    kernel of XNNPACK's, so what comes from there is in order.
    """
    import torch

    aten = torch.ops.aten
    norms, turns = (
        (aten.layer_norm.default,),
        (
            *(aten.permute.default, aten.transpose.int, aten.reshape.default, aten.view.default),
            *(aten.unflatten.int, aten.flatten.using_ints),
        ),
    )
    if node.target not in (aten.conv2d.default, aten.convolution.default):
        return False
    sources = [node.args[0]]
    while sources:
        source = sources.pop()
        target = getattr(source, "target", None)
        if target in turns:
            return getattr(source.args[0], "target", None) not in norms
        if torch.Tag.pointwise in getattr(target, "tags", ()):
            sources += source.args
    return False


EXECUTORCH = PhoneFormat(
    "executorch", ".pte", "executorch", require_executorch, _lowered, read_program, ExecuTorch
)
