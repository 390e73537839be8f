"""The fp32 artifact, which the others are made from."""

from __future__ import annotations

from ...bundle.precisions import PRECISIONS
from ..job import ArtifactKind, Job, Written
from ..onnx_export import export_onnx


def _write(job: Job) -> Written:
    student = job.student
    export_onnx(student.model, student.record.image_size, job.onnx(), job.config)
    return Written(PRECISIONS["fp32"].file, opset=job.config.opset)


KIND = ArtifactKind(_write)
