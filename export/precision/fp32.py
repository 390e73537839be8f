"""The fp32 artifact, which the others are made from."""

from __future__ import annotations

from ...bundle.precisions import PRECISIONS
from ..artifact_kind import ArtifactKind, ExportContext, Written
from ..onnx_export import export_onnx


def _write(context: ExportContext) -> Written:
    student = context.student
    export_onnx(student.model, student.record.image_size, context.onnx(), context.config)
    return Written(PRECISIONS["fp32"].file, opset=context.config.opset)


KIND = ArtifactKind(_write)
