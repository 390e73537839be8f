"""A training step at 224 px beside a plain loop, eager or compiled, and beside a product's rate.

The forms are those of benchmarks/step.py; each is measured in turns with the plain loop. The first
steps of a compiled form compile: how long that took is told too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import step as bench
import torch
from machine import arithmetic
from results import Part, Row
from runner import Cases
from scale import Scale

from mldr_deploy.distill.precision import uses_bf16
from mldr_deploy.pipeline.recipe import Recipe, load_recipe

FORMS = {"ours": ("mldr-kd", 0), "cached": ("mldr-kd", 1), "labels": ("scratch", 0)}
_WARM_UP = 3  # steps: one compiles, the others record and replay the CUDA graphs


class Bench:
    """One recipe's steps, made as they are asked for."""

    def __init__(self, scale: Scale, *, compiled: bool) -> None:
        self.scale = scale
        settings = [*scale.settings, f"train.compile={str(compiled).lower()}"]
        self.recipe: Recipe = load_recipe(scale.recipe, settings)

    @cached_property
    def phase(self) -> Any:
        """The surroundings: random pictures, the device, a folder."""
        pictures = bench.pictures(self.recipe.data.batch_size * 4)
        return bench.phase_of(self.recipe, pictures, self.scale.device, Path(mkdtemp()))

    @cached_property
    def plain(self) -> Callable[[], object]:
        """A step of the plain loop, always eager and in fp32."""
        return bench.plain_step(self.phase, self.recipe)

    def form(self, name: str) -> Callable[[], object]:
        """A step of the trainer."""
        method, views = FORMS[name]
        return bench.trainer_step(bench.ready(self.phase, self.recipe, method, views=views))

    def warm_up(self, name: str) -> Row:
        """Seconds of the first steps of a form; nothing else."""
        self._warmed(name)
        return {"seconds": round(self._warming, 1)}

    def against_plain(self, name: str) -> Row:
        """Milliseconds of a step of both, in turns, and their ratio."""
        ours = self._warmed(name)
        taken = bench.in_turns(
            {"plain": self.plain, name: ours}, self.scale.turns, self.scale.device
        )
        batch = self.recipe.data.batch_size
        return {
            "recipe": self.recipe.name,
            "batch": batch,
            "side": self.recipe.data.image_size,
            "plain_milliseconds": round(1000 * taken["plain"], 3),
            "milliseconds": round(1000 * taken[name], 3),
            "images_per_second": round(batch / taken[name], 1),
            "times": round(taken["plain"] / taken[name], 3),
            "warm_up_seconds": round(self._warming, 1),
            "plain_arithmetic": arithmetic(False),
            "arithmetic": self._arithmetic,
        }

    def share(self) -> Row:
        """Operations of a step of ours as a share of a large product's rate, by the step's time."""
        trainer = bench.ready(self.phase, self.recipe, "mldr-kd", views=0)
        ours = self._warmed("ours")
        taken = bench.in_turns({"ours": ours}, self.scale.turns, self.scale.device)["ours"]
        peak = bench.product_rate(self.scale.device, self._bf16)
        return {
            "share_of_peak": round(bench.count(trainer) / taken / peak, 4),
            "peak_operations": float(f"{peak:.4g}"),
            "arithmetic": self._arithmetic,
        }

    def _warmed(self, name: str) -> Callable[[], object]:
        step, began = self.form(name), time.perf_counter()
        for _ in range(_WARM_UP):
            step()
        bench.now(self.scale.device)  # waits for the device
        self._warming = time.perf_counter() - began
        return step

    @property
    def _bf16(self) -> bool:
        return uses_bf16(self.recipe.train.precision, torch.device(self.scale.device))

    @property
    def _arithmetic(self) -> str:
        return arithmetic(self._bf16)


def cases(scale: Scale, part: Part, *, compiled: bool) -> Cases:
    """Every form against the plain loop; eager also the share of a product's rate."""
    forms = Bench(scale, compiled=compiled)
    table: dict[str, Callable[[], Row]] = {
        name: lambda name=name: forms.against_plain(name)  # type: ignore[misc]
        for name in FORMS
    }
    return table if compiled else {**table, "share": forms.share}


def warm_up(scale: Scale, part: Part) -> Cases:
    """Compile the step while other parts have the machine, so that the kernels lie in the cache."""
    forms = Bench(scale, compiled=True)
    return {name: lambda name=name: forms.warm_up(name) for name in FORMS}  # type: ignore[misc]
