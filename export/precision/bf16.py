"""bf16, in the first operator set in which Conv, pooling and batch normalisation take it."""

from __future__ import annotations

from .half import half_kind
from .islands import ElementType

# Operators that TensorRT takes in fp32 and not in bf16: those that TensorRT-RTX's parser or builder
# refuses (tests/export/tensorrt/test_differences.py), those without bf16 in the support matrix of
# TensorRT 10.15, and those without bf16 in ONNX itself.
_LACKS = {
    *("ConvTranspose", "GlobalLpPool", "HardSwish", "LpNormalization", "LpPool", "Mish"),
    *("RandomNormalLike", "RandomUniformLike", "DeformConv", "GridSample", "RoiAlign", "STFT"),
    *("Einsum", "OneHot", "ReverseSequence", "Shrink"),
}
BF16 = ElementType("bf16", (2 - 2.0**-7) * 2.0**127, 2.0**-126, 8, frozenset(_LACKS))
KIND = half_kind(BF16, opset=22)
