"""A student as OpenVINO's own files: ``.xml`` and, beside it, ``.bin`` with the weights.

fp16: the weights are stored in fp16 and computed with in fp32, half the file and other logits than
fp32's, so it has fp16's gate.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ..bundle.manifest import Island, Runnable
from ..bundle.precisions import PRECISIONS, precision_of_type
from ..errors import MldrError, Unavailable
from ..runtimes.model_file import ModelFile
from ..runtimes.openvino import OpenVino, require_openvino
from ..runtimes.runtime import Runtime, RuntimeOptions, one_line
from .artifact_kind import ArtifactKind, ExportContext, Written
from .claims import Graph, Port

_LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")
_MOVES = ("Convert", "Reshape", "Transpose")  # between stored weights and their layer


def ir_kind(precision: str) -> ArtifactKind:
    """The files of ``precision``, made from the fp32 ONNX file."""
    return ArtifactKind(partial(_write, precision), _run, runtime="OpenVINO", read=read_ir)


def _write(precision: str, context: ExportContext) -> Written:
    require_openvino()
    import openvino

    path = context.folder / Path(PRECISIONS[precision].file).with_suffix(".xml")
    try:
        model = openvino.Core().read_model(context.onnx())
        openvino.save_model(model, path, compress_to_fp16=precision == "fp16")
    except Exception as error:  # its errors share no base class
        raise Unavailable(f"OpenVINO cannot write {path.name} ({one_line(error)})") from error
    computes = read_ir(path).computes
    # Whatever multiplies two results has no weights, and small ones are stored as they are.
    reason = "OpenVINO stores no fp16 weights of it"
    islands = [Island(node=node, reason=reason) for node, c in computes.items() if c != precision]
    return Written(path.name, islands=tuple(islands), beside=(path.with_suffix(".bin").name,))


def read_ir(path: Path) -> Graph:
    """Read ``path``: a layer's precision is that of its stored weights.

    Raises MldrError when it is not OpenVINO's, Unavailable where the library is missing.
    """
    require_openvino()
    import openvino

    try:
        model = openvino.Core().read_model(path)
    except Exception as error:
        raise MldrError(f"{path} is not readable for OpenVINO ({one_line(error)})") from None
    return Graph(
        opset=0,
        inputs=tuple(map(_port, model.inputs)),
        outputs=tuple(map(_port, model.outputs)),
        outside={},
        computes=dict(_layers(model)),
    )


def _port(end: Any) -> Port:
    sizes = (None if size.is_dynamic else size.get_length() for size in end.get_partial_shape())
    kind = end.get_element_type().get_type_name()
    return Port(end.get_any_name(), "FLOAT" if kind == "f32" else kind, tuple(sizes))


def _layers(model: Any) -> Iterator[tuple[str, str]]:
    for node in model.get_ordered_ops():
        if node.get_type_name() in _LAYERS:
            source = node.input_value(1).get_node()
            while source.get_type_name() in _MOVES:
                source = source.input_value(0).get_node()
            kind = source.get_output_element_type(0).to_string()
            yield node.get_friendly_name(), precision_of_type(kind) or kind


def _run(folder: Path, runnable: Runnable, threads: int) -> Runtime:
    file = ModelFile(folder / runnable.file, runnable)
    return OpenVino(file, RuntimeOptions(threads=threads))
