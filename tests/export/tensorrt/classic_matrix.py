"""ONNX operators that classic TensorRT's parser takes, and the types each takes (facts, not code).

Source: the support matrix of the ONNX-TensorRT project (``docs/operators.md``) for TensorRT 10.15,
opset 9 to 24. An operator of the standard domain that is not here is refused by its parser.
"""

from __future__ import annotations

_FLOAT = ("FLOAT", "FLOAT16", "BFLOAT16")
_HALF = ("FLOAT", "FLOAT16")
_INT = ("INT32", "INT64")

_GROUPS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        _FLOAT,
        "Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv "
        "ConvTranspose Cos Cosh CumSum Dropout Einsum Elu Erf Exp Floor Gemm GlobalAveragePool "
        "GlobalLpPool GlobalMaxPool GroupNormalization GRU HardSigmoid HardSwish Hardmax "
        "InstanceNormalization IsInf LayerNormalization LeakyRelu Log LogSoftmax LRN LSTM "
        "LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization PRelu QuantizeLinear "
        "Reciprocal Resize RMSNormalization RNN RotaryEmbedding Round Scan Selu Sigmoid Sin Sinh "
        "Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Upsample RandomNormal "
        "RandomNormalLike RandomUniform RandomUniformLike",
    ),
    (
        _HALF,
        "BlackmanWindow DeformConv GridSample HammingWindow HannWindow Mish NonMaxSuppression "
        "NonZero RoiAlign",
    ),
    (("FLOAT",), "STFT"),
    ((*_FLOAT, "INT32"), "TensorScatter"),
    (
        (*_FLOAT, *_INT),
        "Abs Add ArgMax ArgMin DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less "
        "LessOrEqual Max Min Mod Mul Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum "
        "ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu "
        "Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK",
    ),
    (("BOOL",), "And Not Or Xor"),
    ((*_FLOAT, "INT8", "FLOAT8E4M3FN"), "Attention"),
    ((*_FLOAT, "INT8", *_INT), "Gelu"),
    ((*_FLOAT, "FLOAT8E4M3FN", *_INT), "Mean"),
    ((*_FLOAT, *_INT, "UINT8", "BOOL"), "Cast CastLike"),
    (
        (*_FLOAT, *_INT, "BOOL"),
        "Concat Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop OneHot "
        "Reshape ReverseSequence Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze "
        "Where",
    ),
    (
        (*_FLOAT, "FLOAT8E4M3FN", "FLOAT4E2M1", "INT4", *_INT, "BOOL", "INT8"),
        "Constant ConstantOfShape",
    ),
    (("INT8", "FLOAT8E4M3FN", "FLOAT4E2M1", "INT4"), "DequantizeLinear"),
)

# By operator: the names of onnx.TensorProto's data types that its main input may have.
TYPES: dict[str, frozenset[str]] = {
    operator: frozenset(types) for types, operators in _GROUPS for operator in operators.split()
}
