"""Explicit Q/DQ graphs by onnxruntime.quantization: which nodes, which types, which ranges.

Two forms of int8 (measured with ONNX Runtime 1.32 on an x86 processor with VNNI):

- ``AFFINE``: activations uint8 with a zero point, so that a ReLU is nothing but the lower end of
  the range and Conv, Add and pooling become integer kernels. This is what is fast on a CPU.
- ``SYMMETRIC``: activations int8, zero point 0, which is all that TensorRT takes; ranges stand
  before Conv, Gemm and MatMul only, so that it may fuse what follows. ONNX Runtime's CPU provider
  computes it in float, and is then slower than fp32.

Weights are int8, symmetric, one scale a channel in both; biases stay float (ONNX Runtime quantises
them itself where its kernels want it, and TensorRT takes no quantised ones).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...bundle.preprocess import Floats
from ...bundle.progress import Progress
from ...errors import MldrError
from ..claims import MOVES, computed_by
from .graph import load_graph
from .precision_config import QuantizeConfig

_WEIGHTED = ("Conv", "Gemm", "MatMul")
# What a CPU computes on integers between two convolutions; LayerNorm, Softmax and GELU never.
_BETWEEN = (
    "Add",
    "Mul",
    "Relu",
    "Clip",
    "GlobalAveragePool",
    "AveragePool",
    "MaxPool",
    "ReduceMean",
    "Reshape",
    "Flatten",
    "Concat",
    "Split",
)
_ENTROPY_BINS = 256  # ONNX Runtime's default of 128 leaves one candidate: the largest magnitude


@dataclass(frozen=True)
class Scheme:
    """One form of quantised graph."""

    activations: str  # words for the manifest
    symmetric: bool
    float_outputs: tuple[str, ...]  # operators whose results are not quantised

    @property
    def operators(self) -> list[str]:
        """What is quantised."""
        return [*_WEIGHTED] if self.symmetric else [*_WEIGHTED, *_BETWEEN]


AFFINE = Scheme("uint8, affine, per tensor", False, ("Gemm", "MatMul"))
SYMMETRIC = Scheme("int8, symmetric, per tensor", True, _WEIGHTED)


def prepared(fp32: Path, folder: Path) -> Path:
    """The fp32 graph as ONNX Runtime's quantizer wants it: constants folded, BatchNorm merged.

    Written into ``folder``; the artifact itself stays as it is.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = folder / "prepared.onnx"
    try:
        with _quiet():
            quant_pre_process(str(fp32), str(path), skip_symbolic_shape=True)
    except OSError:
        raise
    except Exception as error:  # ONNX Runtime's errors share no base class
        reason = " ".join(str(error).split())[:300]
        raise MldrError(f"{fp32} cannot be prepared for quantisation: {reason}") from error
    return path


def layers(proto: Any, family: str) -> list[str]:
    """Names of the nodes with constant weights, in their order: what quantising pays for.

    In Mamba models the depthwise convolution before the scan stays in float.
    """
    constants = {tensor.name for tensor in proto.graph.initializer}
    weighted = _WEIGHTED if family != "mamba" else ("Gemm", "MatMul")
    return [n.name for n in proto.graph.node if n.op_type in weighted and n.input[1] in constants]


def nodes_to_quantise(proto: Any, quantised: set[str], family: str, scheme: Scheme) -> list[str]:
    """The ``quantised`` layers and, in an affine CNN, what lies between them.

    What a layer that was not chosen gives is read in float, so the node behind it is left too, as
    is what a product of two activations (attention in a CNN) reads.
    """
    if family != "cnn" or scheme.symmetric:
        return sorted(quantised)
    weighted = set(layers(proto, family))
    from_left = {
        name
        for node in proto.graph.node
        if node.name in weighted - quantised
        for name in node.output
    }
    multiplied = _feeding_products(proto, weighted)
    between = {
        node.name
        for node in proto.graph.node
        if node.op_type in _BETWEEN and not from_left & set(node.input)
    }
    return sorted(quantised | between - multiplied)


def _feeding_products(proto: Any, weighted: set[str]) -> set[str]:
    """Nodes whose results reach a product of two activations with nothing but moves between."""
    producer = {name: node for node in proto.graph.node for name in node.output}
    feeding = set()
    for product in proto.graph.node:
        if product.op_type not in _WEIGHTED or product.name in weighted:
            continue
        for name in product.input:
            while (node := producer.get(name)) is not None:
                feeding.add(node.name)
                if node.op_type not in MOVES:
                    break
                name = node.input[0]
    return feeding


def integer_products(proto: Any, layers: Iterable[str]) -> list[str]:
    """Products of two activations that read integers on both sides.

    In attention by convolutions: what a convolution gives is quantised whoever reads it. ``layers``
    are the nodes with constant weights.
    """
    producer = {name: node for node in proto.graph.node for name in node.output}
    weighted = set(layers)

    def is_dequantised(name: str) -> bool:
        node = computed_by(name, producer)
        return node is not None and node.op_type == "DequantizeLinear"

    return [
        node.name
        for node in proto.graph.node
        if node.op_type in _WEIGHTED
        and node.name not in weighted
        and all(map(is_dequantised, node.input[:2]))
    ]


def calibrate(
    path: Path,
    batches: Iterable[Floats],
    method: str,
    scheme: Scheme,
    config: QuantizeConfig,
    progress: Progress,
) -> Any:
    """Range of every activation that may be quantised, measured on ``batches`` by ``method``.

    Returns onnxruntime's ``TensorsData``.
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    kind = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }[method]
    options: dict[str, Any] = {"symmetric": scheme.symmetric}
    if method == "entropy":
        options["num_bins"] = _ENTROPY_BINS
    if method == "percentile":
        options["percentile"] = config.percentile
    with _quiet():
        calibrator = create_calibrator(
            path,
            scheme.operators,
            augmented_model_path=str(path.with_name("augmented.onnx")),
            calibrate_method=kind,
            extra_options=options,
        )
        for batch in batches:  # one at a time: the calibrators keep all they were given
            calibrator.collect_data(_Once(batch))
            progress.advance(len(batch))
        return calibrator.compute_data()


def qdq(path: Path, ranges: Any, nodes: list[str], scheme: Scheme, config: QuantizeConfig) -> Any:
    """The graph at ``path`` with Q/DQ around ``nodes``; ``ranges`` from ``calibrate``."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    proto = load_graph(path)
    if not nodes:
        return proto  # the quantizer takes an empty list for all
    activations = QuantType.QInt8 if scheme.symmetric else QuantType.QUInt8
    with _quiet():
        quantizer = QDQQuantizer(
            proto,
            True,  # per channel
            config.reduce_range,
            QuantType.QInt8,
            activations,
            ranges,
            nodes,
            [],
            scheme.operators,
            {
                "ActivationSymmetric": scheme.symmetric,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": list(scheme.float_outputs),
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    return quantizer.model.model


class _Once:
    """One batch, as onnxruntime's calibrators ask for it."""

    def __init__(self, batch: Floats) -> None:
        self._waiting: list[dict[str, Floats]] = [{"input": batch}]

    def get_next(self) -> dict[str, Floats] | None:
        return self._waiting.pop() if self._waiting else None


@contextlib.contextmanager
def _quiet() -> Any:
    """onnxruntime's quantizer prints; what it has to say against a graph it raises."""
    import logging

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
