"""One small ONNX model for each operator of the standard and each type that ONNX allows it.

``probes()`` gives {(operator, type): model}; the type is that of the operator's main input, which
comes by a Cast from the float input, so that nothing is folded away before types matter. Models
that ONNX's own checker or shape inference refuses are no probes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 24
TYPES = ("FLOAT", "FLOAT16", "BFLOAT16", "INT32", "INT64", "INT8", "UINT8", "BOOL", "DOUBLE")
_UNARY = """
    Abs Acos Acosh Asin Asinh Atan Atanh Bernoulli BitwiseNot Ceil Celu Cos Cosh Elu Erf Exp EyeLike
    Flatten Floor Gelu GlobalAveragePool GlobalLpPool GlobalMaxPool HardSigmoid HardSwish Hardmax
    Identity IsInf IsNaN LeakyRelu Log LogSoftmax LpNormalization Mish Neg NonZero Not
    RandomNormalLike RandomUniformLike Reciprocal Relu Round Selu Shape Shrink Sigmoid Sign Sin Sinh
    Size Softmax Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Transpose Trilu Unique Det
    Dropout ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare ArgMax ArgMin
"""
_BINARY = """
    Add And BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max
    Mean Min Mod Mul Or PRelu Pow Sub Sum Xor MatMul Concat CastLike
"""
OPERATORS = _UNARY.split()
BINARY = _BINARY.split()
_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "LRN": {"size": 3},
    "Concat": {"axis": 1},
    "DepthToSpace": {"blocksize": 2},
    "SpaceToDepth": {"blocksize": 2},
    "AveragePool": {"kernel_shape": [2, 2]},
    "MaxPool": {"kernel_shape": [2, 2]},
    "LpPool": {"kernel_shape": [2, 2]},
    "Einsum": {"equation": "bcij,bcjk->bcik"},
    "Mod": {"fmod": 0},
}
_PLACE = np.zeros((1, 4, 4, 4), np.int64)
# Constants by operator: an array of ints or bools keeps its type, "x" takes the main input's.
_MORE: dict[str, tuple[Any, ...]] = {
    "Clip": ("x()", "x()"),
    "Conv": ("x(4,4,1,1)",),
    "ConvTranspose": ("x(4,4,1,1)",),
    "CumSum": (np.int64(1),),
    "DeformConv": ("x(4,4,1,1)", "x(1,2,4,4)"),
    "DepthToSpace": (),
    "Einsum": ("x(1,4,4,4)",),
    "Expand": (np.array([1, 4, 4, 4]),),
    "Gather": (np.array([0, 1]),),
    "GatherElements": (_PLACE,),
    "GatherND": (np.zeros((1, 1), np.int64),),
    "GridSample": ("x(1,4,4,2)",),
    "GroupNormalization": ("x(4)", "x(4)"),
    "InstanceNormalization": ("x(4)", "x(4)"),
    "LayerNormalization": ("x(4)", "x(4)"),
    "BatchNormalization": ("x(4)", "x(4)", "x(4)", "x(4)"),
    "LRN": (),
    "LpPool": (),
    "MaxPool": (),
    "AveragePool": (),
    "Pad": (np.array([0, 0, 1, 1, 0, 0, 1, 1]), "x()"),
    "RMSNormalization": ("x(4)",),
    "Reshape": (np.array([1, 64]),),
    "Resize": (None, np.array([1, 1, 2, 2], np.float32)),
    "ReverseSequence": (np.array([1, 1, 1, 1]),),
    "ScatterElements": (_PLACE, "x(1,4,4,4)"),
    "ScatterND": (np.zeros((1, 1), np.int64), "x(1,4,4,4)"),
    "Slice": (np.array([0]), np.array([2]), np.array([1])),
    "SpaceToDepth": (),
    "Split": (np.array([2, 2]),),
    "Squeeze": (np.array([0]),),
    "Tile": (np.array([1, 1, 2, 1]),),
    "TopK": (np.array([2]),),
    "Unsqueeze": (np.array([0]),),
    "Attention": ("x(1,4,4,4)", "x(1,4,4,4)"),
    "TensorScatter": ("x(1,4,4,4)", np.array([0])),
    "RotaryEmbedding": ("x(1,4,2)", "x(1,4,2)"),
}
_OTHERS = ("Gemm", "Cast", "Where", "OneHot")
_GROUPED = {"GroupNormalization": {"num_groups": 2}, "Split": {"axis": 1}, "Slice": {}}


def probes() -> dict[tuple[str, str], Any]:
    """Every probe that ONNX itself takes, by operator and type."""
    found = {}
    for operator in sorted({*OPERATORS, *BINARY, *_MORE, *_OTHERS}):
        for kind in TYPES:
            proto = _probe(operator, kind)
            if proto is not None:
                found[operator, kind] = proto
    return found


def _probe(operator: str, kind: str) -> Any:
    element = TensorProto.DataType.Value(kind)
    tensors = list(_constants(operator, element))
    names = ["x", *("" if tensor is None else tensor.name for tensor in tensors)]
    if operator == "Where":
        names = ["truth", "x", "x"]
    more = {**_ATTRIBUTES.get(operator, {}), **_GROUPED.get(operator, {})}
    if operator == "Cast":
        more = {"to": element}
    outputs = ["y", "z"] if operator in ("Split", "TopK") else ["y"]
    shape = [4, 4] if operator in ("Gemm", "EyeLike", "OneHot") else [1, 4, 4, 4]
    nodes = [
        helper.make_node("Cast", ["input"], ["x"], "into", to=element),
        helper.make_node(operator, names, outputs, "probe", **more),
    ]
    if operator == "Cast":  # the type is the one that it makes
        nodes = [helper.make_node("Cast", ["input"], ["y"], "probe", to=element)]
    if operator == "Where":
        nodes.insert(0, helper.make_node("Cast", ["input"], ["truth"], to=TensorProto.BOOL))
    last = "z" if operator == "Split" else "y"
    nodes.append(helper.make_node("Cast", [last], ["logits"], "out", to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None])],
        [tensor for tensor in tensors if tensor is not None],
    )
    imports = [helper.make_opsetid("", OPSET)]
    return _valid(helper.make_model(graph, opset_imports=imports, ir_version=11))


def _constants(operator: str, element: int) -> Iterator[Any]:
    listed = _MORE.get(operator, ())
    if operator in BINARY:
        listed = ("x(1,4,4,4)",)
    elif operator == "Gemm":
        listed = ("x(4,4)",)
    elif operator == "OneHot":
        listed = (np.int64(4), np.array([0, 1], np.float32))
    for k, value in enumerate(listed):
        if value is None:
            yield None
        elif isinstance(value, str):
            shape = [int(side) for side in value[2:-1].split(",") if side]
            values = np.ones(shape).astype(helper.tensor_dtype_to_np_dtype(element))
            yield numpy_helper.from_array(values, f"c{k}")
        else:
            yield numpy_helper.from_array(np.asarray(value), f"c{k}")


def _valid(proto: Any) -> Any:
    """``proto`` with the shape of its output inferred; None where ONNX refuses it."""
    shapeless = proto.graph.output[0].type.tensor_type
    shapeless.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError:
        return None
    if not inferred.graph.output[0].type.tensor_type.HasField("shape"):
        shapeless.shape.dim.add().dim_param = "unknown"
        return proto
    return inferred
