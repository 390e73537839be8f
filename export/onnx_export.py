"""PyTorch to ONNX by the dynamo exporter, with a dynamic batch.

See docs/design.md, section Precisions.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle.atomic import write_bytes
from ..errors import MldrError
from .export_config import ExportConfig

if TYPE_CHECKING:
    from torch import nn
    from torch.onnx import ONNXProgram

INPUT, OUTPUT = "input", "logits"
_LARGEST = 2**31 - 1  # protobuf's limit for one file, bytes
_MODULE = "pkg.torch.onnx.name_scopes"  # the module path of a node, kept for readers of the graph


def export_onnx(model: nn.Module, image_size: int, path: Path, config: ExportConfig) -> None:
    """Write ``model`` as one self-contained ONNX file, input [batch, 3, S, S] -> logits [batch, C].

    The model is exported as it is (mode included). The exporter's notes about the machine (source
    paths, stack traces) are removed; the module path of each node stays. Raises MldrError when
    the exporter or the ONNX checker refuses.
    """
    import onnx

    proto = trace(model, image_size, config).model_proto
    _strip(proto)
    data = proto.SerializeToString(deterministic=True)
    if len(data) > _LARGEST:
        raise MldrError(f"the ONNX file would have {len(data)} bytes, the format holds {_LARGEST}")
    write_bytes(path, data)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise MldrError(
            f"export: what PyTorch's exporter made of {type(model).__name__} is no valid ONNX "
            f"({first_line(error)}); choose another student, or another export.opset (18 to 23)"
        ) from error


def trace(model: nn.Module, image_size: int, config: ExportConfig) -> ONNXProgram:
    """The exporter's program of ``model``; ``.exported_program`` is the PyTorch graph behind it."""
    import torch

    from .mamba_ops import translations

    example = torch.zeros(2, 3, image_size, image_size)  # a batch of 1 would be specialised
    batch = torch.export.Dim("batch", min=1, max=config.max_batch)
    try:
        with quiet_exporter(), plain_attention(model):
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: batch},),
                opset_version=config.opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
                custom_translation_table=translations(),
            )
    except Exception as error:  # the exporter raises whatever the model's code provokes
        raise MldrError(
            f"export: {type(model).__name__} cannot be written as ONNX opset {config.opset} "
            f"({first_line(error)}); choose another student, or another export.opset (18 to 23)"
        ) from error
    assert program is not None
    return program


def _strip(proto: Any) -> None:
    graph = proto.graph
    for item in [
        proto,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
        *proto.functions,
    ]:
        modules = [(p.key, p.value) for p in item.metadata_props if p.key == _MODULE]
        del item.metadata_props[:]
        for key, value in modules:
            item.metadata_props.add(key=key, value=value)
        item.doc_string = ""


@contextmanager
def plain_attention(model: nn.Module) -> Iterator[None]:
    """timm's attention written out: softmax(q k^T + mask) v.

    The exporter takes PyTorch's fused attention apart into a third more nodes, and refuses masks
    of windows, biases of position and inputs of other than four dimensions.
    """
    fused: list[Any] = [m for m in model.modules() if getattr(m, "fused_attn", False) is True]
    for module in fused:
        module.fused_attn = False
    try:
        yield
    finally:
        for module in fused:
            module.fused_attn = True


_COLOUR = re.compile("\x1b\\[[0-9;]*m")  # of terminals


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """The exporter talks to the authors of exporters; its failures still raise."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def first_line(error: BaseException) -> str:
    """Of what was raised first: the exporter wraps it into advice to its own authors."""
    while error.__cause__ is not None:
        error = error.__cause__
    plain = _COLOUR.sub("", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
