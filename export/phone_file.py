"""A file for phones as a kind of artifact, whatever library writes and runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..bundle.atomic import write_bytes
from ..bundle.manifest import Island, Runnable
from ..bundle.precisions import PRECISIONS
from ..bundle.targets import TARGETS
from ..errors import MldrError, Unavailable
from ..runtimes.image_by_image import ImageByImage
from ..runtimes.model_file import ModelFile
from ..runtimes.runtime import RunError, Runtime, RuntimeOptions
from .artifact_kind import ArtifactKind, ExportContext, Written
from .claims import Graph
from .onnx_export import first_line

if TYPE_CHECKING:
    from torch import nn

DYNAMIC = "int8-dynamic"


@dataclass(frozen=True)
class PhoneFormat:
    """What a library makes of a student, and how its file is read and run.

    ``require`` raises Unavailable where the library is missing. ``lower`` gives the file's bytes of
    (model, image size S, precision): input [1, 3, S, S] -> logits [1, C]; it may raise anything of
    a model that the library refuses.
    """

    target: str  # its row in ``bundle/targets.py``
    suffix: str
    package: str  # whose version decides what is written and how fast it runs
    require: Callable[[], None]
    lower: Callable[[nn.Module, int, str], bytes]
    read: Callable[[Path], Graph]
    runtime: type[ImageByImage]

    def kind(self, precision: str) -> ArtifactKind:
        """The artifact of ``precision``."""
        return ArtifactKind(
            partial(self._written, precision),
            self._run,
            runtime=self.runtime.library,
            read=self.read,
            caveat=TARGETS[self.target].caveat,
        )

    def content(self, model: nn.Module, image_size: int, precision: str) -> bytes:
        """The file of ``model``. Raises Unavailable for a library that is missing or refuses it."""
        self.require()
        try:
            return self.lower(model, image_size, precision)
        except MldrError:
            raise
        except Exception as error:  # the exporter raises whatever the model's code provokes
            raise Unavailable(
                f"{self.runtime.library} cannot write {type(model).__name__} in {precision} "
                f"({first_line(error)}): choose another student, or leave the target out"
            ) from error

    def _written(self, precision: str, context: ExportContext) -> Written:
        path = context.folder / Path(PRECISIONS[precision].file).with_suffix(self.suffix)
        student, size = context.student, context.student.record.image_size
        write_bytes(path, self.content(student.model, size, precision))
        try:
            with self.runtime(ModelFile(path)) as runtime:
                runtime(np.zeros((1, 3, size, size), np.float32))
        except RunError as error:  # these libraries may write what they refuse to run
            path.unlink()
            raise Unavailable(
                f"{error}: choose another student, or leave the target out"
            ) from error
        if precision != DYNAMIC:
            return Written(path.name)
        computes = self.read(path).computes
        if "int8" not in computes.values():
            path.unlink()
            raise Unavailable(
                f"the student has no layer that {self.runtime.library} computes in dynamic int8"
            )
        reason = f"{self.runtime.library} has no dynamic int8 of it"
        fp32 = (node for node, computed in computes.items() if computed == "fp32")
        return Written(path.name, islands=tuple(Island(node=node, reason=reason) for node in fp32))

    def _run(self, folder: Path, runnable: Runnable, threads: int) -> Runtime:
        """The file's runtime, which is the same on every machine."""
        file = ModelFile(folder / runnable.file, runnable)
        return self.runtime(file, RuntimeOptions(threads=threads))
