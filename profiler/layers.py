"""Time per layer, by each runtime's own means, at batch 1 and apart from the timed runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..bundle.manifest import Artifact
from ..bundle.preprocess import Floats
from ..bundle.reader import Bundle
from ..errors import MldrError
from ..runtimes.runtime import RuntimeOptions
from ..runtimes.runtime_kinds import RuntimeKind
from .report import Layer


class Timed(NamedTuple):
    """One layer in one call."""

    name: str
    kind: str
    module: str
    precision: str
    nanoseconds: float


@dataclass(frozen=True)
class LayerJob:
    """What a way of timing layers is given."""

    kind: RuntimeKind
    bundle: Bundle
    artifact: Artifact | None
    options: RuntimeOptions
    calls: int

    @property
    def inputs(self) -> list[Floats]:
        """``calls`` single real images in turn."""
        golden = self.bundle.golden.inputs
        return [golden[k % len(golden)][None] for k in range(self.calls)]


@dataclass(frozen=True)
class Layers:
    """Rows, longest first, and how they came about."""

    rows: list[Layer]
    note: str


def layers_of(job: LayerJob) -> Layers:
    """The layers of an artifact in a runtime; no rows and the reason where that is not possible."""
    collect = _collectors().get(job.kind.name)
    if collect is None:
        return Layers([], f"{job.kind.name} tells no time per layer here")
    try:
        timed, how = collect(job)
    except MldrError as error:
        return Layers([], f"not measured: {error}")
    return Layers(table(timed, job.calls), how)


def table(timed: Iterable[Timed], calls: int) -> list[Layer]:
    """Sums over ``calls`` calls as rows, longest first."""
    spent: dict[tuple[str, str, str, str], float] = defaultdict(float)
    for one in timed:
        spent[one[:4]] += one.nanoseconds
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


Collector = Callable[[LayerJob], tuple[list[Timed], str]]


def _collectors() -> dict[str, Collector]:
    from .layers_onnxruntime import onnxruntime_layers
    from .layers_pytorch import pytorch_layers
    from .layers_tensorrt import tensorrt_layers

    return {
        "onnxruntime-cpu": onnxruntime_layers,
        "pytorch": pytorch_layers,
        "tensorrt": tensorrt_layers,
    }
