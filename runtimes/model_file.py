"""What a runtime is given: a model file, its tensors, and what a manifest lists of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..bundle.engine import EngineRecord
from ..bundle.manifest import Artifact, FileEntry, Runnable, TensorSpec
from ..bundle.preprocess import Preprocessing
from ..bundle.reader import Bundle

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModelFile:
    """A file that maps inputs float32 [B, 3, H, W] to logits float32 [B, C].

    ``input`` and ``output`` may be left out where the file itself tells them: ONNX Runtime on the
    CPU and TensorRT read them there.
    """

    path: Path
    entry: FileEntry | None = None  # as a manifest lists it
    input: TensorSpec | None = None
    output: TensorSpec | None = None
    max_batch: int = 1  # images that parity was proven for
    preprocessing: Preprocessing | None = None
    content: bytes | None = None  # a model in memory, run in the file's place
    network: Callable[[], nn.Module] | None = None  # builds the network of a file of weights

    @classmethod
    def of(cls, bundle: Bundle, artifact: Artifact | None) -> Self:
        """An artifact of ``bundle``; None: its weights, for PyTorch."""
        manifest = bundle.manifest
        entry = artifact or manifest.weights
        return cls(
            bundle.file(entry),
            entry,
            manifest.input,
            manifest.output,
            manifest.max_batch,
            manifest.preprocessing,
            network=None if artifact else lambda: _rebuilt(bundle),
        )

    @property
    def artifact(self) -> Artifact | None:
        """The artifact that it is; None: weights, or a file that is not in a manifest yet."""
        return self.entry if isinstance(self.entry, Artifact) else None

    @property
    def precision(self) -> str:
        """Precision of what is run."""
        return self.artifact.precision if self.artifact else "fp32"

    @property
    def engine(self) -> EngineRecord | None:
        """What is recorded of a TensorRT engine; None: it is none."""
        return self.entry.engine if isinstance(self.entry, Runnable) else None


def _rebuilt(bundle: Bundle) -> nn.Module:
    from ..models.rebuild import rebuild

    manifest, source = bundle.manifest, str(bundle.path)
    classes, size = len(manifest.labels), manifest.image_size
    return rebuild(manifest.model, classes, size, bundle.weights(), source)
