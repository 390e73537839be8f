"""OpenVINO on the CPU, from the same ONNX file; an optional extra."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bundle.preprocess import Floats
from .required_library import require_library
from .runtime import RunError, Runtime, one_line


def require_openvino() -> None:
    """Raises Unavailable where OpenVINO is not installed, or does not load."""
    require_library("OpenVINO", "openvino", "openvino")


class OpenVino(Runtime):
    """``openvino``. Computes in the file's own precision: the plug-in would lower fp32 to bf16
    or fp16 where the processor is faster at it, which no parity gate has seen."""

    name = "openvino"
    _request: Any = None

    def load(self) -> None:
        require_openvino()
        import openvino

        properties = {
            "INFERENCE_NUM_THREADS": self.options.cores,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            compiled: Any = openvino.Core().compile_model(str(self.model.path), "CPU", properties)
            self._request = compiled.create_infer_request()
        except Exception as error:
            raise RunError(f"{self.file} does not load in OpenVINO: {one_line(error)}") from (error)

    def unload(self) -> None:
        self._request = None

    def feed(self, inputs: Floats) -> None:
        import openvino

        self._fed = np.ascontiguousarray(inputs, np.float32)
        self._request.set_input_tensor(openvino.Tensor(self._fed, shared_memory=True))

    def compute(self) -> None:
        try:
            self._request.infer()
        except Exception as error:
            raise RunError(
                f"{self.file} does not run on a batch of {len(self._fed)}: {one_line(error)}"
            ) from error

    def fetch(self) -> Floats:
        return np.array(self._request.get_output_tensor(0).data, np.float32)
