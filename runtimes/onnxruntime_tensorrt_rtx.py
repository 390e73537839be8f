"""ONNX Runtime with NVIDIA's plugin for RTX cards: TensorRT-RTX compiles the ONNX file at load.

Not yet run on hardware. The plugin is a library that ONNX Runtime registers by its path; without
NVIDIA's driver the registration itself fails.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..bundle.preprocess import Floats
from ..errors import Unavailable
from .runtime import Runtime, RuntimeFailed, one_line

PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"  # module of onnxruntime-ep-nv-tensorrt-rtx-cu13


class OnnxRuntimeTensorRtRtx(Runtime):
    """``onnxruntime-tensorrt-rtx``. One profile: every batch up to the bundle's largest."""

    name = "onnxruntime-tensorrt-rtx"
    _session: Any = None
    _inputs: Floats | None = None
    _logits: Floats | None = None

    def load(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        device = devices()
        if self.options.device >= len(device):
            raise Unavailable(
                f"there is no RTX card number {self.options.device}: {len(device)} are here"
            )
        options.add_provider_for_devices([device[self.options.device]], self._profile())
        try:
            session: Any = onnxruntime.InferenceSession(str(self.file), options)
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise RuntimeFailed(
                f"{self.file} does not load in TensorRT-RTX: {one_line(error)}"
            ) from error
        if device[self.options.device].ep_name not in session.get_providers():
            raise Unavailable(f"TensorRT-RTX takes nothing of {self.file}: choose another runtime")
        self._session = session
        self._names = (session.get_inputs()[0].name, session.get_outputs()[0].name)

    def _profile(self) -> dict[str, str]:
        manifest = self.bundle.manifest
        image = "x".join(str(side) for side in (3, *manifest.preprocessing.size))
        name = manifest.input.name
        return {
            "nv_profile_min_shapes": f"{name}:1x{image}",
            "nv_profile_opt_shapes": f"{name}:1x{image}",
            "nv_profile_max_shapes": f"{name}:{manifest.max_batch}x{image}",
        }

    def unload(self) -> None:
        self._session = self._inputs = self._logits = None

    def feed(self, inputs: Floats) -> None:
        self._inputs = np.ascontiguousarray(inputs, np.float32)

    def compute(self) -> None:
        assert self._inputs is not None, "feed before compute"
        name, output = self._names
        try:
            (self._logits,) = self._session.run([output], {name: self._inputs})
        except Exception as error:
            raise RuntimeFailed(
                f"{self.file} does not run on a batch of {len(self._inputs)}: {one_line(error)}"
            ) from error

    def fetch(self) -> Floats:
        assert self._logits is not None, "feed and compute before fetch"
        return np.array(self._logits, np.float32)


def devices() -> list[Any]:
    """The cards that the plugin offers. Raises Unavailable, in one line, where it offers none."""
    import onnxruntime

    plugin = importlib.import_module(PLUGIN)
    provider = plugin.get_ep_name()
    offered = _offered(provider)
    if not offered:
        try:
            onnxruntime.register_execution_provider_library(provider, plugin.get_library_path())
        except Exception as error:
            raise Unavailable(
                "runtime onnxruntime-tensorrt-rtx needs an NVIDIA RTX card and its driver, and "
                f"the plugin does not load here: {_cause(error)}"
            ) from error
        offered = _offered(provider)
    if not offered:
        raise Unavailable("runtime onnxruntime-tensorrt-rtx finds no NVIDIA RTX card")
    return offered


def _offered(provider: str) -> list[Any]:
    import onnxruntime

    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == provider]


def _cause(error: Exception) -> str:
    """The last part of ONNX Runtime's message: what the dynamic loader said."""
    return one_line(error).rpartition(" with error: ")[2]
