"""fp16: ONNX Runtime's CPU provider runs the file, if not as a GPU would."""

from __future__ import annotations

from ..artifact_kind import in_onnx_runtime
from .half import half_kind
from .islands import ElementType

FP16 = ElementType("fp16", 65504.0, 2.0**-14, 11)
KIND = half_kind(FP16, itself=in_onnx_runtime)
