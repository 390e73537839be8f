"""The first ONNX node whose output leaves the band, and the PyTorch module it came from.

The dynamo exporter keeps the names of the traced PyTorch graph: an ONNX value ``relu_3`` is that
graph's node ``relu_3``. So PyTorch's graph is run once more, node by node, in fp32, the artifact
is run with every such value as an output and with ONNX Runtime's own fusions off, and the two are
compared in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.parity import Fault, Gate
from ..bundle.preprocess import Floats
from ..runtimes.runtime import RunError
from .export_config import ExportConfig
from .onnx_export import OUTPUT, trace
from .precision.emulated import emulable
from .precision.graph import load_graph

if TYPE_CHECKING:
    from torch import fx, nn
    from torch.export import ExportedProgram

_WIDE = ":fp32"  # suffix of a value cast to fp32
_QUANTIZE = "QuantizeLinear"
_LISTED = 8  # suspects and weights listed at most
_TIGHTER = (1, 1e-1)  # a fault may be small where it starts: bands tried, times the gate's


@dataclass(frozen=True)
class TorchValue:
    """What one node of the traced PyTorch graph gave, and the module that it belongs to."""

    value: NDArray[Any]
    module: str
    module_type: str


def bisect(
    model: nn.Module, artifact: Path, inputs: Floats, config: ExportConfig, gate: Gate
) -> Fault | None:
    """Run both graphs on ``inputs`` [B, 3, S, S] and name the first node out of band.

    None: every node agrees, so the fault lies outside of the graph (preprocessing, labels, the
    order of images) or in the runtime's own optimisations. Raises RunError when the artifact does
    not run on these inputs.
    """
    return first_out_of_band(artifact, torch_values(model, inputs, config), inputs, gate)


def first_out_of_band(
    artifact: Path, expected: dict[str, TorchValue], inputs: Floats, gate: Gate
) -> Fault | None:
    """The comparison of ``bisect``, with PyTorch's values at hand."""
    import onnx

    proto = onnx.load(str(artifact))
    produced = {name for node in proto.graph.node for name in node.output}
    rounding = emulable(load_graph(artifact))  # 16 bits are really 16 bits there; fp32 is as it is
    names, read_as = sorted(produced & expected.keys()), _dequantised(proto)
    fetched = _onnx_values(rounding, [read_as.get(name, name) for name in names], inputs)
    actual = {name: fetched[read_as.get(name, name)] for name in names}
    for factor in _TIGHTER:
        for node, name in _outputs(proto):
            if name not in actual:
                continue
            reference = expected[name]
            largest = float(np.abs(reference.value).max(initial=0.0))
            allowed = max(gate.band * factor * largest, 1e-7)
            difference = _difference(reference.value, actual[name])
            if difference is None or difference > allowed:
                before = _unverified_before(proto, node, actual.keys())
                return Fault(
                    node=node.name,
                    op_type=node.op_type,
                    value=name,
                    module=reference.module,
                    module_type=reference.module_type,
                    shape=[*reference.value.shape],
                    difference=difference,
                    allowed=allowed,
                    suspects=[source.name for source in before][-_LISTED:],
                    weights=_weights(proto, [*before, node])[-_LISTED:],
                )
    return None


def torch_values(model: nn.Module, inputs: Floats, config: ExportConfig) -> dict[str, TorchValue]:
    """Every float tensor of the traced graph of ``model`` in evaluation mode, by node name."""
    import torch

    was_training = model.training
    model.float().eval()
    try:
        program = trace(model, inputs.shape[-1], config).exported_program
    finally:
        model.train(was_training)
    assert program is not None
    recorder = _recorder(program)
    with torch.inference_mode():
        recorder.run(*_arguments(program, torch.from_numpy(inputs)))
    values: dict[str, TorchValue] = recorder.values
    (last,) = program.graph_signature.user_outputs
    values[OUTPUT] = values[str(last)]
    return values


def _recorder(program: ExportedProgram) -> Any:
    import torch

    class Recorder(torch.fx.Interpreter):
        """Runs the graph and keeps what each node gave."""

        def __init__(self) -> None:
            super().__init__(program.graph_module)
            self.values: dict[str, TorchValue] = {}

        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            tensor = isinstance(result, torch.Tensor) and result.is_floating_point()
            if n.op == "call_function" and tensor:
                stack = list(n.meta.get("nn_module_stack", {}).values())
                path, kind = stack[-1] if stack else ("", type(program).__name__)
                kind = kind if isinstance(kind, str) else kind.__name__
                self.values[n.name] = TorchValue(result.numpy().copy(), path, kind.split(".")[-1])
            return result

    return Recorder()


def _arguments(program: ExportedProgram, inputs: Any) -> list[Any]:
    """Weights, buffers and constants in the order in which the graph takes them, and ``inputs``."""
    tensors = {**program.constants, **program.state_dict}
    specs = program.graph_signature.input_specs
    return [inputs if spec.target is None else tensors[spec.target] for spec in specs]


def _onnx_values(proto: Any, names: list[str], inputs: Floats) -> dict[str, NDArray[Any]]:
    """The values ``names`` of the ONNX graph, run as written."""
    import onnx
    import onnxruntime

    wide = onnx.ModelProto()
    wide.CopyFrom(proto)
    # Cast, because NumPy has no bfloat16 and ONNX Runtime hands none out.
    for name in names:
        wide.graph.node.append(
            onnx.helper.make_node("Cast", [name], [name + _WIDE], to=onnx.TensorProto.FLOAT)
        )
        wide.graph.output.append(onnx.ValueInfoProto(name=name + _WIDE))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            wide.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        values = session.run(
            [name + _WIDE for name in names], {session.get_inputs()[0].name: inputs}
        )
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise RunError(
            f"the artifact does not run: {' '.join(str(error).split())[:300]}"
        ) from error
    return dict(zip(names, values, strict=True))


def _dequantised(proto: Any) -> dict[str, str]:
    """Value -> what its readers see of it, where Q and DQ stand between.

    The range of a Q may end at zero in place of a ReLU, so that what is before it means nothing.
    """
    quantised = {n.output[0]: n.input[0] for n in proto.graph.node if n.op_type == _QUANTIZE}
    return {
        quantised[node.input[0]]: node.output[0]
        for node in proto.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in quantised
    }


def _outputs(proto: Any) -> Iterator[tuple[Any, str]]:
    for node in proto.graph.node:
        for name in node.output:
            yield node, name


def _difference(expected: NDArray[Any], actual: NDArray[Any]) -> float | None:
    if expected.shape != actual.shape:
        return None
    with np.errstate(invalid="ignore"):
        largest = float(np.abs(expected - actual.astype(np.float32)).max(initial=0.0))
    return largest if np.isfinite(largest) else None


def _unverified_before(proto: Any, node: Any, verified: Any) -> list[Any]:
    """Nodes that ``node`` depends on through values that nothing was compared with."""
    producer = {name: maker for maker, name in _outputs(proto)}
    waiting, names = list(node.input), set()
    while waiting:
        name = waiting.pop()
        before = producer.get(name)
        if before is None or name in verified or before.name in names:
            continue
        names.add(before.name)
        waiting.extend(before.input)
    return [maker for maker in proto.graph.node if maker.name in names]


def _weights(proto: Any, nodes: list[Any]) -> list[str]:
    """Constants of any number type but indices that the nodes take, in their order."""
    import onnx

    indices = (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
    constants = {i.name for i in proto.graph.initializer if i.data_type not in indices}
    return list(dict.fromkeys(n for node in nodes for n in node.input if n in constants))
