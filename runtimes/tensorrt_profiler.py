"""TensorRT's time per layer, handed on to whoever sums it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LayerReport = Callable[[str, float], None]  # (layer, milliseconds) of one execution


def layer_profiler(trt: Any, report: LayerReport) -> Any:
    """An ``IProfiler`` of the library ``trt`` that calls ``report`` once a layer and execution.

    It must live as long as a context that has it, which does not keep it.
    """

    class LayerProfiler(trt.IProfiler):  # type: ignore[misc]  # no stubs
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)  # pybind11 asks for the call by name

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            report(layer_name, ms)

    return LayerProfiler()
