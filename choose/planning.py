"""From a request to a plan: who is measured, who is within the budget, and the rounds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import torch

from ..bundle.preprocess import Floats, Preprocessing
from ..bundle.progress import Progress
from ..bundle.wording import counted, figure
from ..data.loader import EvalBatches
from ..distill.phase import Training
from ..errors import MldrError
from ..export.kinds import PHONES
from ..models.architecture_config import ModelConfig
from ..pipeline.phases import Pipeline
from ..pipeline.recipe import dump_recipe
from .choice_plan import ChoicePlan, Entrant
from .epoch_cost import seconds_per_epoch
from .halving import plan, together
from .measurements import Measurements, machine
from .near_budget import near_budget
from .request import ChoiceRequest
from .shelf import Contender, Misfit, shelf
from .untrained import (
    Latencies,
    UntrainedLatency,
    is_noisy,
    measure_untrained,
    over_budget,
)

_IMAGES = 16  # real inputs that latencies are measured on
_LEAST_STEPS = 100  # of a round that is shorter than an epoch
_FORWARD = 1 / 3  # of a training step: an answer of the teacher


@dataclass
class Planning:
    """The measuring of one choice; `plan` is its outcome."""

    pipeline: Pipeline  # of the fitted base recipe
    request: ChoiceRequest
    measurements: Measurements
    progress: Progress
    device: str  # by its name
    jobs: int = 1  # trainings at once
    _entrants: dict[str, Entrant] = field(default_factory=dict)
    _misfits: dict[str, str] = field(default_factory=dict)

    def plan(self) -> ChoicePlan:
        """Measure and settle everything.

        Raises MldrError where nothing is within the budget, with what comes nearest, and where the
        hours are too few for one round; Unavailable where the target's library is missing.
        """
        if self.request.target in PHONES:
            PHONES[self.request.target].require()
        selected = near_budget(self._contenders(), self.request.candidates, self._fits)
        entrants = [self._entrants[contender.name] for contender in selected]
        outside = [e for e in self._entrants.values() if not e.precisions]
        if not entrants:
            raise MldrError(self._out_of_reach(outside))
        entrants = [costed for e in entrants if (costed := self._costed(e)) is not None]
        if not entrants:
            raise MldrError(self._out_of_reach([]))
        fixed = self._teacher_seconds(len({e.image_size for e in entrants}))
        recipe = self.pipeline.recipe
        costs = [e.seconds_per_epoch or 0.0 for e in entrants]
        least = min(1.0, _LEAST_STEPS * recipe.data.batch_size / len(self.pipeline.dataset.train))
        seconds, limit = 3600 * self.request.hours, recipe.train.passes
        if recipe.train.parts == "head-first":  # every run teaches its own head, too
            fixed += together((recipe.train.head_views * _FORWARD * c for c in costs), self.jobs)
        rounds = plan(costs, fixed, seconds, limit, self.jobs, least)
        return ChoicePlan(
            request=self.request,
            recipe=dump_recipe(recipe),
            machine=machine(),
            device=self.device,
            pictures=self.pipeline.dataset.fingerprint,
            entrants=entrants,
            outside=outside,
            misfits=self._misfits,
            fixed_seconds=fixed,
            jobs=self.jobs,
            rounds=rounds,
        )

    def _contenders(self) -> list[Contender]:
        recipe, contenders = self.pipeline.recipe, []
        sizes = self.request.image_sizes or (recipe.data.image_size,)
        self.progress.start("looking at architectures", None)
        listed = shelf(self.request.students, recipe.student, sizes, self._classes)
        for contender in listed:
            self.progress.advance()
            if isinstance(contender, Misfit):
                self._misfits[contender.name] = contender.reason
            else:
                contenders.append(contender)
        self.progress.finish()
        return contenders

    @cached_property
    def _classes(self) -> int:
        return len(self.pipeline.dataset.classes)

    def _fits(self, contender: Contender) -> bool:
        """Whether a file of ``contender`` is within the budget; measured the first time."""
        if contender.name in self._misfits:
            return False
        if contender.name not in self._entrants:
            self.progress.note(f"measuring {contender}")
            try:
                self._entrants[contender.name] = self._entrant(contender)
            except MldrError as error:
                self._misfits[contender.name] = str(error)
                return False
            self.progress.note(_figures(self._entrants[contender.name]))
        return bool(self._entrants[contender.name].precisions)

    def _entrant(self, contender: Contender) -> Entrant:
        latencies, budget = self._latencies(contender), self.request.budget
        excess = {
            precision: reason
            for precision, latency in latencies.items()
            if (reason := over_budget(latency, budget))
        }
        return Entrant(
            name=contender.name,
            folder=contender.folder,
            model=contender.model,
            image_size=contender.image_size,
            family=contender.listing.family,
            parameters=contender.listing.parameters,
            published_size=contender.listing.image_size,
            operations=contender.operations,
            latencies=latencies,
            excess=excess,
        )

    def _latencies(self, contender: Contender) -> Latencies:
        request, budget = self.request, self.request.budget
        bare = contender.model.model_copy(update={"weights": None, "fresh_head": False})
        subject = {
            "model": bare.model_dump(mode="json"),
            "image_size": contender.image_size,
            "classes": self._classes,
            "batch": budget.batch,
            "threads": budget.threads,
            "target": request.target,
            "library": version(PHONES[request.target].package) if request.target in PHONES else "",
            "precisions": list(request.precisions),
            "rules": request.rules.model_dump(mode="json"),
        }
        stored = self.measurements.read("latency", subject)
        if stored is not None:
            return {name: UntrainedLatency(**latency) for name, latency in stored.items()}
        images = self._images(contender.image_size)
        measured = measure_untrained(
            contender,
            budget,
            request.target,
            request.precisions,
            images,
            self._classes,
            request.rules,
        )
        if not is_noisy(measured):  # else the next choice may find a quieter machine
            entries = {name: latency.model_dump() for name, latency in measured.items()}
            self.measurements.write("latency", subject, entries)
        return measured

    def _images(self, side: int) -> Floats:
        """Real inputs [N, 3, side, side]."""
        dataset = self.pipeline.dataset
        preprocessing = Preprocessing(size=(side, side), mean=dataset.mean, std=dataset.std)
        batches = EvalBatches(dataset.train, preprocessing, _IMAGES, "cpu")
        images: Floats = next(iter(batches))[0].numpy()
        return images

    def _costed(self, entrant: Entrant) -> Entrant | None:
        """With the cost of an epoch; None for one that does not train."""
        training = self.pipeline.recipe.training
        try:
            threads = max(1, torch.get_num_threads() // self.jobs)
            seconds = self._cost(entrant.model, entrant.image_size, training, threads)
        except MldrError as error:
            self._misfits[entrant.name] = str(error)
            return None
        return entrant.model_copy(update={"seconds_per_epoch": seconds})

    def _teacher_seconds(self, sizes: int) -> float:
        """What the teacher's training and its answers take, about; ``sizes``: of the students."""
        recipe = self.pipeline.recipe
        teacher = recipe.teacher
        assert teacher is not None
        threads = torch.get_num_threads()
        epoch = self._cost(teacher.model, recipe.teacher_data.image_size, teacher.training, threads)
        answers = sizes * recipe.train.teacher_views * _FORWARD
        if not teacher.is_trained_here:
            return epoch * answers
        if teacher.train.parts == "head":
            return epoch * (answers + teacher.train.head_views * _FORWARD)
        return epoch * (answers + teacher.train.length)

    def _cost(self, model: ModelConfig, side: int, training: Training, threads: int) -> float:
        """Seconds an epoch on ``threads``, measured the first time."""
        phase = self.pipeline.phase("student")
        data = phase.data.model_copy(update={"image_size": side})
        bare = model.model_copy(update={"weights": None, "fresh_head": False})
        subject: dict[str, Any] = {
            "model": bare.model_dump(mode="json"),
            "data": data.model_dump(mode="json", exclude={"source", "root"}),
            "pictures": phase.dataset.fingerprint,  # large ones take longer to decode
            "images": [len(phase.dataset.train), len(phase.dataset.val), self._classes],
            "precision": training.train.precision,
            "optimizer": training.optimizer.name,
            "augment": training.augment.model_dump(mode="json"),
            "device": [str(phase.accelerator.device), threads],
        }
        stored = self.measurements.read("epoch", subject)
        if stored is None:
            self.progress.note(f"measuring an epoch of {model.name} at {side} px")
            stored = seconds_per_epoch(replace(phase, data=data), model, training, threads)
            self.measurements.write("epoch", subject, stored)
        return float(stored)

    def _out_of_reach(self, outside: list[Entrant]) -> str:
        budget = self.request.budget
        if not outside:
            name, reason = next(iter(self._misfits.items()))
            return f"no student is left to choose from ({name}: {reason}): give other --students"
        fastest = min(outside, key=lambda e: e.fastest.milliseconds)
        sizes = [latency.bytes for e in outside for latency in e.latencies.values()]
        nearest = f"the fastest is {fastest.name} with {figure(fastest.fastest.milliseconds)} ms"
        if budget.max_mb is not None:
            nearest += f", the smallest file has {min(sizes) / 1e6:.2f} MB"
        return (
            f"of {counted(len(outside), 'student')} none is within {budget}: {nearest}; give more "
            "(--max-ms, --max-mb), smaller --image-sizes or other --students"
        )


def _figures(entrant: Entrant) -> str:
    parts = [
        f"{precision} {figure(latency.milliseconds)} ms, {latency.bytes / 1e6:.2f} MB"
        + (" (over)" if precision in entrant.excess else "")
        for precision, latency in entrant.latencies.items()
    ]
    return f"{entrant.name}: {'; '.join(parts)}"
