"""ONNX Runtime on the CPU: inputs are bound where they lie, outputs into one buffer per batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bundle.preprocess import Floats
from .runtime import Runtime, RuntimeFailed, one_line


class OnnxRuntimeCpu(Runtime):
    """``onnxruntime-cpu``. Host and device share memory, so ``feed`` only binds."""

    name = "onnxruntime-cpu"
    _session: Any = None
    _binding: Any = None

    def load(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.options.cores
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if self.options.trace is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(self.options.trace)
        try:
            self._session = onnxruntime.InferenceSession(
                str(self.file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise RuntimeFailed(
                f"{self.file} does not load in ONNX Runtime: {one_line(error)}"
            ) from error
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name
        self._binding = self._session.io_binding()
        self._buffers: dict[int, Floats] = {}
        self._bound = 0  # batch size that the output is bound for

    def unload(self) -> None:
        self._session = self._binding = None
        self._buffers = {}

    def feed(self, inputs: Floats) -> None:
        inputs = np.ascontiguousarray(inputs, np.float32)
        self._fed = inputs  # ONNX Runtime keeps the address only
        self._binding.bind_cpu_input(self._input, inputs)
        if len(inputs) != self._bound:
            self._bind_output(len(inputs))

    def _bind_output(self, batch: int) -> None:
        self._bound, self._logits = batch, self._buffer(batch)
        address = self._logits.ctypes.data
        self._binding.bind_output(self._output, "cpu", 0, np.float32, self._logits.shape, address)

    def compute(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise RuntimeFailed(
                f"{self.file} does not run on a batch of {len(self._fed)}: {one_line(error)}"
            ) from error

    def fetch(self) -> Floats:
        return self._logits.copy()

    def trace_file(self) -> str:
        """Close the trace that ``options.trace`` asked for; the file it was written to."""
        return str(self._session.end_profiling())

    def _buffer(self, batch: int) -> Floats:
        if batch not in self._buffers:
            classes = len(self.bundle.manifest.labels)
            self._buffers[batch] = np.empty((batch, classes), np.float32)
        return self._buffers[batch]
