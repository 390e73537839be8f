"""Time per layer, by each runtime's own means, at batch 1 and apart from the timed runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..errors import MldrError
from .layer_job import LayerJob, Timed
from .layers_onnxruntime import onnxruntime_layers
from .layers_pytorch import pytorch_layers
from .layers_tensorrt import tensorrt_layers
from .report import Layer

Collector = Callable[[LayerJob], tuple[list[Timed], str]]
COLLECTORS: dict[str, Collector] = {
    "onnxruntime-cpu": onnxruntime_layers,
    "pytorch": pytorch_layers,
    "tensorrt": tensorrt_layers,
}


@dataclass(frozen=True)
class Layers:
    """Layers, longest first, and a note on how they were timed."""

    rows: list[Layer]
    note: str


def layers_of(job: LayerJob) -> Layers:
    """The layers of an artifact in a runtime; no rows and the reason where that is not possible."""
    collect = COLLECTORS.get(job.kind.name)
    if collect is None:
        return Layers([], f"{job.kind.name} tells no time per layer here")
    try:
        timed, note = collect(job)
    except MldrError as error:
        return Layers([], f"not measured: {error}")
    return Layers(table(timed, job.calls), note)


def table(timed: Iterable[Timed], calls: int) -> list[Layer]:
    """Sums over ``calls`` calls as rows, longest first."""
    spent: dict[tuple[str, str, str, str], float] = defaultdict(float)
    for layer in timed:
        spent[layer[:4]] += layer.nanoseconds
    total = sum(spent.values()) or 1.0
    rows = [
        Layer(
            name=name,
            kind=kind,
            module=module,
            precision=precision,
            milliseconds=nanoseconds / calls / 1e6,
            share=min(100 * nanoseconds / total, 100.0),
        )
        for (name, kind, module, precision), nanoseconds in spent.items()
    ]
    return sorted(rows, key=lambda row: -row.milliseconds)
