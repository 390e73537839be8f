"""Time per layer from TensorRT's IProfiler, precision from the EngineInspector.

Not yet run on hardware.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from ..bundle.manifest import Artifact
from ..bundle.precisions import by_width
from ..bundle.reader import Bundle
from ..runtimes.tensorrt import TensorRt
from .layer_job import LayerJob, Timed


class LayerClock:
    """What IProfiler calls: milliseconds by layer, summed."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = defaultdict(float)

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Called by TensorRT once a layer and execution."""
        self.milliseconds[layer_name] += ms


def tensorrt_layers(job: LayerJob) -> tuple[list[Timed], str]:
    """Layers of ``job.calls`` calls without CUDA graphs, which hide layers from IProfiler."""
    options = job.options.model_copy(update={"cuda_graphs": False})
    with job.kind.create(job.bundle, job.artifact, options) as runtime:
        assert isinstance(runtime, TensorRt)
        for images in job.inputs[:5]:
            runtime(images)
        clock = LayerClock()
        runtime.attach_profiler(clock.report_layer_time)
        for images in job.inputs:
            runtime(images)
        artifact = runtime.model.artifact
    layers = inspector_layers(job.bundle, artifact)
    note = f"TensorRT's IProfiler, mean of {job.calls} calls without CUDA graphs"
    return rows(clock, layers), note


def rows(clock: LayerClock, layers: dict[str, dict[str, Any]]) -> list[Timed]:
    """IProfiler's times with what the EngineInspector says of the layers of the same name."""
    return [
        Timed(name, kind, "", precision, 1e6 * ms)
        for name, ms in clock.milliseconds.items()
        for kind, precision in [_described(layers.get(name, {}))]
    ]


def inspector_layers(bundle: Bundle, artifact: Artifact | None) -> dict[str, dict[str, Any]]:
    """The EngineInspector's JSON that lies beside an engine, by layer; empty without one."""
    for entry in artifact.beside if artifact else []:
        if entry.file.endswith(".json"):
            content = json.loads(bundle.file(entry).read_text(encoding="utf-8"))
            layers = content.get("Layers", []) if isinstance(content, dict) else []
            return {
                layer["Name"]: layer
                for layer in layers
                if isinstance(layer, dict) and "Name" in layer
            }
    return {}


def _described(layer: dict[str, Any]) -> tuple[str, str]:
    """(operator, narrowest type) of a layer; TensorRT writes types as ``Half NCHW ...``.

    10.x has them with the layout under ``Format/Datatype``, 11.x under ``DataType``.
    """
    types = []
    for tensor in (*layer.get("Inputs", []), *layer.get("Outputs", [])):
        for key in ("Format/Datatype", "Datatype", "DataType"):
            types += str(tensor.get(key, "")).split()
    return str(layer.get("LayerType", "")), next(reversed(by_width(types)), "")
