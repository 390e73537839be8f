"""One image through the student, and the teacher where there is one."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from PIL import Image

from ..bundle.preprocess import Floats, Pixels, normalise, to_pixels
from ..errors import MldrError
from ..serve.shares import probabilities
from .loaded_student import Form, LoadedStudent
from .loaded_teacher import LoadedTeacher

TOP = 5
CALLS = 7  # of each model, for the comparison


@dataclass(frozen=True)
class RankedLabel:
    """A class and its probability, 0 to 1: the softmax over the temperature."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Answer:
    """What one model says to one image."""

    name: str  # of the model or the artifact
    detail: str  # what runs it
    top: list[RankedLabel]
    shares: Floats  # [C]
    seconds: float  # compute; a median where several calls were made


@dataclass(frozen=True)
class Look:
    """One image, answered."""

    pixels: Pixels  # [H, W, 3] after resize and crop: what the network is given
    student: Answer
    teacher: Answer | None
    truth: str | None  # label of a known image
    decode: float  # seconds
    preprocess: float
    artifacts: list[Answer] = field(default_factory=list)  # every artifact, for the comparison

    @property
    def agree(self) -> bool | None:
        """Whether student and teacher name the same class; None without a teacher."""
        if self.teacher is None:
            return None
        return self.student.top[0].index == self.teacher.top[0].index


class Viewer:
    """Answers images with the models that are loaded."""

    def __init__(self, student: LoadedStudent, teacher: LoadedTeacher | None) -> None:
        self.student, self.teacher = student, teacher
        self.manifest = student.bundle.manifest
        golden = student.bundle.golden
        self._truth = {
            _key(source if source.size else golden.pixels[k]): self.manifest.labels[int(label)]
            for k, (source, label) in enumerate(zip(golden.sources, golden.label, strict=True))
        }

    def named(self, artifact: str | None) -> str:
        """The artifact asked for, or the one that the page begins with. Raises MldrError."""
        name = artifact or self.student.first
        if name is None:
            raise MldrError(nothing_runs(self.student))
        return name

    def form(self, name: str) -> Form:
        """The artifact ``name``. Raises MldrError that says why it is not there."""
        if name in self.student.forms:
            return self.student.forms[name]
        if name in self.student.left_out:
            raise MldrError(self.student.left_out[name])
        raise MldrError(f"there is no artifact {name!r}: choose {', '.join(self.student.forms)}")

    def look(self, image: Image.Image, name: str, decode: float, *, compare: bool = False) -> Look:
        """Answer the upright RGB ``image`` with the artifact ``name``; ``compare`` asks all others.

        Raises MldrError for an artifact that is not there, RequestRefusal for a model without a
        finite answer.
        """
        self.form(name)
        began = time.perf_counter()
        pixels = to_pixels(image, self.manifest.preprocessing)
        inputs = normalise(pixels[None], self.manifest.preprocessing)
        prepared = time.perf_counter() - began
        names, calls = ([*self.student.forms], CALLS) if compare else ([name], 1)
        artifacts, teacher = self._answers(names, inputs, image, calls)
        return Look(
            pixels=pixels,
            student=next(answer for answer in artifacts if answer.name == name),
            teacher=teacher,
            truth=self._truth.get(_key(np.asarray(image))),
            decode=decode,
            preprocess=prepared,
            artifacts=artifacts if compare else [],
        )

    def _answers(
        self, names: list[str], inputs: Floats, image: Image.Image, calls: int
    ) -> tuple[list[Answer], Answer | None]:
        """The artifacts ``names`` and the teacher, each time a median of ``calls`` in turns."""
        models = [partial(self._answer, name, self.student.forms[name], inputs) for name in names]
        if self.teacher is not None:
            spec = self.teacher.preprocessing
            own_inputs = normalise(to_pixels(image, spec)[None], spec)
            models.append(partial(self._teacher_answer, self.teacher, own_inputs))
        rounds = [[model() for model in models] for _ in range(calls)]
        answers = [
            replace(repeats[-1], seconds=statistics.median(a.seconds for a in repeats))
            for repeats in zip(*rounds, strict=True)
        ]
        return answers[: len(names)], answers[-1] if self.teacher is not None else None

    def _answer(self, name: str, form: Form, inputs: Floats) -> Answer:
        logits, seconds = form(inputs)
        detail = f"{form.artifact.file}, {form.runtime.name}"
        shares = probabilities(logits[0], self.manifest.temperature)
        return self._answered(name, detail, shares, seconds)

    def _teacher_answer(self, teacher: LoadedTeacher, inputs: Floats) -> Answer:
        logits, seconds = teacher(inputs)
        shares = probabilities(logits[0], 1.0)
        return self._answered(teacher.name, "PyTorch, not calibrated", shares, seconds)

    def _answered(self, name: str, detail: str, shares: Floats, seconds: float) -> Answer:
        labels = self.manifest.labels
        order = (-shares).argsort(kind="stable")[:TOP]
        top = [RankedLabel(labels[k], int(k), float(shares[k])) for k in order]
        return Answer(name, detail, top, shares, seconds)


def nothing_runs(student: LoadedStudent) -> str:
    """Why no artifact is there, in one line."""
    return next(iter(student.left_out.values()), "the bundle holds no artifact")


def _key(pixels: Pixels) -> tuple[tuple[int, ...], bytes]:
    return pixels.shape, np.ascontiguousarray(pixels).tobytes()
