"""Time per node from ONNX Runtime's own trace (``end_profiling``)."""

from __future__ import annotations

import ast
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..bundle.precisions import by_width
from ..bundle.wording import cause
from ..errors import MldrError
from .layer_job import LayerJob, Timed

_END = "_kernel_time"
_SCOPES = "pkg.torch.onnx.name_scopes"
_WARM_UP = 5


def onnxruntime_layers(job: LayerJob) -> tuple[list[Timed], str]:
    """Node events of ``job.calls`` calls after a warm-up, in a session of its own."""
    with tempfile.TemporaryDirectory() as folder:
        options = job.options.model_copy(update={"trace": Path(folder) / "nodes"})
        with job.kind.create(job.bundle, job.artifact, options) as runtime:
            inputs = job.inputs
            for images in (inputs * _WARM_UP)[:_WARM_UP] + inputs:
                runtime(images)
            trace = Path(runtime.trace_file())  # type: ignore[attr-defined]
            file = runtime.model.path
        try:
            events = json.loads(trace.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise MldrError(f"ONNX Runtime's trace cannot be read ({cause(error)})") from None
    note = f"ONNX Runtime's node trace, mean of {job.calls} calls; tracing itself adds time"
    return list(node_times(events, modules_of(file), skip=_WARM_UP)), note


def node_times(
    events: list[dict[str, Any]], modules: dict[str, str], skip: int = 0
) -> Iterator[Timed]:
    """The node events of every run of the session but the first ``skip``; durations are in us."""
    runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
    begin = runs[skip] if len(runs) > skip else 0
    for event in events:
        named = event.get("cat") == "Node" and event["name"].endswith(_END)
        if not named or event["ts"] < begin:
            continue
        name, attributes = event["name"].removesuffix(_END), event["args"]
        kind = attributes.get("op_name", "")
        module = modules.get(name) or modules.get(name.removesuffix("_nchwc"), "")
        yield Timed(name, kind, module, precision_of(attributes), 1000 * event["dur"])


def precision_of(attributes: dict[str, Any]) -> str:
    """The narrowest number type among what a node takes and gives; int8 also for its uint8 side."""
    tensors = (*attributes.get("input_type_shape", []), *attributes.get("output_type_shape", []))
    return next(reversed(by_width(dtype for tensor in tensors for dtype in tensor)), "")


def modules_of(file: Path) -> dict[str, str]:
    """Node names and outputs -> PyTorch module, from what the exporter left in the graph."""
    import onnx

    modules: dict[str, str] = {}
    for node in onnx.load(str(file), load_external_data=False).graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == _SCOPES), "")
        try:
            path = [part for part in ast.literal_eval(scopes)[:-1] if part] if scopes else []
        except (ValueError, SyntaxError):
            path = []
        if path:
            modules |= dict.fromkeys([node.name, *node.output], path[-1])
    return modules
