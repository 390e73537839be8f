"""ONNX Runtime on an NVIDIA GPU: fixed device buffers per batch size, replayed as CUDA graphs.

Not yet run on hardware.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bundle.preprocess import Floats
from ..errors import Unavailable
from .runtime import RunError, Runtime, one_line


class OnnxRuntimeCuda(Runtime):
    """``onnxruntime-cuda``. A batch size met first costs an allocation and a recording."""

    name = "onnxruntime-cuda"
    _session: Any = None
    _slot: tuple[Any, Any, Any] | None = None  # of the batch fed last

    def load(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        cuda = {
            "device_id": str(self.options.device),
            "enable_cuda_graph": "1" if self.options.cuda_graphs else "0",
        }
        try:
            session: Any = onnxruntime.InferenceSession(
                str(self.model.path),
                options,
                providers=[("CUDAExecutionProvider", cuda), "CPUExecutionProvider"],
            )
        except Exception as error:
            raise RunError(
                f"{self.file} does not load in ONNX Runtime on CUDA: {one_line(error)}"
            ) from error
        if "CUDAExecutionProvider" not in session.get_providers():  # it falls back in silence
            raise Unavailable(
                "ONNX Runtime found no usable CUDA device or libraries: install onnxruntime-gpu "
                "with its CUDA and cuDNN, or choose --runtime onnxruntime-cpu"
            )
        self._session = session
        self._input = session.get_inputs()[0].name
        self._output = session.get_outputs()[0].name
        self._slots: dict[int, tuple[Any, Any, Any]] = {}

    def unload(self) -> None:
        self._slots = {}
        self._slot = None
        self._session = None

    def feed(self, inputs: Floats) -> None:
        inputs = np.ascontiguousarray(inputs, np.float32)
        self._batch = len(inputs)
        self._slot = self._slots.get(self._batch) or self._allocate(inputs)
        self._slot[1].update_inplace(inputs)
        self._slot[0].synchronize_inputs()

    def compute(self) -> None:
        import onnxruntime

        assert self._slot is not None, "feed before compute"
        options = onnxruntime.RunOptions()
        graph = self._batch if self.options.cuda_graphs else -1  # -1: neither record nor replay
        options.add_run_config_entry("gpu_graph_id", str(graph))
        try:
            self._session.run_with_iobinding(self._slot[0], options)
            self._slot[0].synchronize_outputs()
        except Exception as error:
            raise RunError(
                f"{self.file} does not run on a batch of {self._batch}: {one_line(error)}"
            ) from error

    def fetch(self) -> Floats:
        assert self._slot is not None, "feed and compute before fetch"
        return np.array(self._slot[2].numpy(), np.float32)

    def _allocate(self, inputs: Floats) -> tuple[Any, Any, Any]:
        """(binding, input, output) on the device; a graph needs them to keep their addresses."""
        from onnxruntime import OrtValue

        device, number = "cuda", self.options.device
        assert self.model.output is not None  # a bundle's file has it
        shape = [len(inputs), int(self.model.output.shape[-1])]
        source = OrtValue.ortvalue_from_numpy(inputs, device, number)
        logits = OrtValue.ortvalue_from_shape_and_type(shape, np.float32, device, number)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input, source)
        binding.bind_ortvalue_output(self._output, logits)
        self._slots[self._batch] = (binding, source, logits)
        return self._slots[self._batch]
