"""Input and output of the collectors of layer times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..bundle.manifest import Artifact
from ..bundle.preprocess import Floats
from ..bundle.reader import Bundle
from ..runtimes.runtime import RuntimeOptions
from ..runtimes.runtime_kinds import RuntimeKind


class Timed(NamedTuple):
    """One layer in one call."""

    name: str
    kind: str
    module: str
    precision: str
    nanoseconds: float


@dataclass(frozen=True)
class LayerJob:
    """An artifact in a runtime, and the number of calls whose layers are timed."""

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
