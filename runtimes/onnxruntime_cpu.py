"""ONNX Runtime on the CPU: host and device share memory, so nothing is copied to feed it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bundle.preprocess import Floats
from .runtime import RunError, Runtime, one_line


class OnnxRuntimeCpu(Runtime):
    """``onnxruntime-cpu``. Takes the tensors' names and shapes from the file."""

    name = "onnxruntime-cpu"
    _session: Any = None
    _fed: Floats | None = None
    _logits: Floats | None = None

    def load(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.options.cores
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not self.options.fusions:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        if self.options.trace is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(self.options.trace)
        try:
            self._session = onnxruntime.InferenceSession(
                self.model.content or str(self.model.path),
                options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise RunError(f"{self.file} does not load in ONNX Runtime: {one_line(error)}") from (
                error
            )
        self._input = self._session.get_inputs()[0].name

    def unload(self) -> None:
        self._session = self._fed = self._logits = None

    def feed(self, inputs: Floats) -> None:
        self._require_loaded(self._session)
        self._fed = np.ascontiguousarray(inputs, np.float32)

    def compute(self) -> None:
        assert self._fed is not None, "feed before compute"
        try:
            (self._logits,) = self._session.run(None, {self._input: self._fed})
        except Exception as error:
            raise RunError(
                f"{self.file} does not run on a batch of {len(self._fed)}: {one_line(error)}"
            ) from error

    def fetch(self) -> Floats:
        assert self._logits is not None, "feed and compute before fetch"
        return np.array(self._logits, np.float32)

    def trace_file(self) -> str:
        """Close the trace that ``options.trace`` asked for; the file it was written to."""
        return str(self._session.end_profiling())
