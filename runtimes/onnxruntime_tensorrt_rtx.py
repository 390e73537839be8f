"""ONNX Runtime with NVIDIA's plugin for RTX cards: TensorRT-RTX compiles the ONNX file at load.

Not yet run on hardware. The plugin is a library that ONNX Runtime registers by its path; without
NVIDIA's driver the registration itself fails.
"""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import Unavailable
from .onnxruntime_cpu import OnnxRuntimeCpu
from .runtime import RunError, one_line

PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"  # module of onnxruntime-ep-nv-tensorrt-rtx-cu13


class OnnxRuntimeTensorRtRtx(OnnxRuntimeCpu):
    """``onnxruntime-tensorrt-rtx``. One profile: every batch up to the file's largest."""

    name = "onnxruntime-tensorrt-rtx"

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
            session: Any = onnxruntime.InferenceSession(str(self.model.path), options)
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise RunError(
                f"{self.file} does not load in TensorRT-RTX: {one_line(error)}"
            ) from error
        if device[self.options.device].ep_name not in session.get_providers():
            raise Unavailable(f"TensorRT-RTX takes nothing of {self.file}: choose another runtime")
        self._session = session
        self._input = session.get_inputs()[0].name

    def _profile(self) -> dict[str, str]:
        assert self.model.input is not None  # a bundle's file has it
        name, (_, *sides) = self.model.input.name, self.model.input.shape
        image = "x".join(str(side) for side in sides)
        return {
            "nv_profile_min_shapes": f"{name}:1x{image}",
            "nv_profile_opt_shapes": f"{name}:1x{image}",
            "nv_profile_max_shapes": f"{name}:{self.model.max_batch}x{image}",
        }


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
