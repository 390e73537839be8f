"""The int8 and fp8 artifacts."""

from __future__ import annotations

import dataclasses

from ..job import ONNX_FILES, Job, Written
from .fp8 import to_fp8
from .graph import opset_of, save_graph
from .qdq import AFFINE, SYMMETRIC, Scheme
from .search import Convert, search

_FP8 = dataclasses.replace(SYMMETRIC, activations="fp8 (E4M3FN), symmetric, per tensor")


def write_int8(job: Job) -> Written:
    """int8 for CPUs. Raises MldrError without images to calibrate on or to judge by."""
    return _write(job, "int8", AFFINE)


def write_int8_symmetric(job: Job) -> Written:
    """int8 as TensorRT takes it."""
    return _write(job, "int8-symmetric", SYMMETRIC)


def write_fp8(job: Job) -> Written:
    """fp8 as TensorRT takes it."""
    return _write(job, "fp8", _FP8, to_fp8)


def _write(job: Job, precision: str, scheme: Scheme, convert: Convert | None = None) -> Written:
    proto, record = search(job, precision, scheme, convert)
    save_graph(proto, job.onnx(precision))
    return Written(ONNX_FILES[precision], opset=opset_of(proto), quantization=record)
