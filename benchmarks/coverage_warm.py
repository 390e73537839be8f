"""Imported once by the process that coverage.py forks from: what every model would pay for again.

Importing PyTorch, timm and ONNX and the exporter's first call take longer than a small model does.
"""

from __future__ import annotations

import functools
import gc
import tempfile
from pathlib import Path

import accelerate  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import onnxruntime  # noqa: F401
import torch
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from mldr_deploy.distill import training_run  # noqa: F401
from mldr_deploy.export import build_bundle  # noqa: F401
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.onnx_export import export_onnx

torch.set_num_threads(1)
# The exporter builds its table of operators anew for each model, the same one each time.
table = functools.cache(ONNXRegistry.from_torchlib)
ONNXRegistry.from_torchlib = staticmethod(table)  # type: ignore[assignment]
with tempfile.TemporaryDirectory() as folder:
    few = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    export_onnx(few.eval(), 8, Path(folder) / "few.onnx", ExportConfig())
gc.freeze()  # what stays is not looked through again and again in every fork
gc.set_threshold(50_000, 20, 20)
