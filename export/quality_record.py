"""The student's own quality on the test split: measured beside parity, written into the bundle."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..bundle.atomic import write_json
from ..bundle.lesson import Lesson
from ..bundle.preprocess import Floats
from ..bundle.quality import FILE, Answers, Quality, quality_of
from ..bundle.temperature import fit_temperature
from .artifact_kind import ExportContext
from .quality_pictures import MISTAKES, QUALITY, draw_mistakes, draw_quality
from .torch_reference import torch_reference

if TYPE_CHECKING:
    from ..data.split import Split

Labels = NDArray[np.int64]
_BATCH = 250  # images; evaluation keeps no activations


class QualityRecord:
    """What the student says of validation and test, as the proofs come by its logits.

    ``validation``: its logits [N, C] and the labels [N] of the validation split, or None.
    ``lesson``: what training recorded of it.
    """

    def __init__(self, validation: tuple[Floats, Labels] | None, lesson: Lesson) -> None:
        self.lesson, self.fitted_on = lesson, 0
        temperature = 1.0
        if validation is not None:
            temperature = fit_temperature(*validation)
            self.fitted_on = len(validation[1]) if temperature != 1.0 else 0
        self.answers = Answers(temperature)

    def recorder(self) -> Callable[[Floats, Labels], None] | None:
        """What takes each batch of the student's test logits; None where they are known."""
        return None if self.answers.images else self.answers.add

    def written(
        self, context: ExportContext, test: Split, labels: list[str]
    ) -> tuple[Quality | None, list[str]]:
        """The summary, and the files that were written beside it into ``context.folder``."""
        if not self.answers.images:
            self._measure(context, test)
        measured = quality_of(self.answers, labels, test.name, self.fitted_on)
        if measured is None:
            return None, []
        quality, tables = measured
        write_json(context.folder / FILE, tables.model_dump(mode="json"))
        draw_quality(context.folder / QUALITY, quality, tables)
        files = [FILE, QUALITY]
        if quality.mistakes:
            pictures = [test.image(mistake.index) for mistake in quality.mistakes]
            draw_mistakes(context.folder / MISTAKES, quality.mistakes, pictures)
            files.append(MISTAKES)
        return quality, files

    def _measure(self, context: ExportContext, test: Split) -> None:
        """A pass of its own, where no artifact was measured: all were kept, or none runs."""
        from ..data.loader import EvalBatches

        context.progress.start("testing class by class", len(test))
        with torch_reference(context.student.model, context.config.threads) as student:
            for inputs, labels in EvalBatches(test, context.preprocessing, _BATCH, "cpu"):
                self.answers.add(student(inputs.numpy()), labels.numpy())
                context.progress.advance(len(labels))
        context.progress.finish()
