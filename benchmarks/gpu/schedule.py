"""The two steps: what is measured, the most valuable first, and how long each part may take.

The limits of a step's parts and its start add up to no more than the step's own limit, which holds
whatever happens. Parts of one group run at the same time; nothing is timed in such a group.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from results import Part, Results
from runner import Cases, Group, PartPlan, StepPlan
from scale import Scale

LIMITS = {1: 180.0, 2: 510.0}
START = {1: 20.0, 2: 20.0}  # imports, wheels, and in step 2 the sums of the data
MODULES = ("torch", "timm", "accelerate", "step", "dfra")
MODULES += ("mldr_deploy.compare.comparison", "mldr_deploy.cli.compare")


def step_of(number: int, scale: Scale, results: Results) -> StepPlan:
    """Step 1 or 2."""
    groups = first(scale) if number == 1 else second(scale, results)
    return StepPlan(LIMITS[number], START[number], groups)


def first(scale: Scale) -> list[Group]:
    """Tests, kernels, steps, processes side by side."""
    # A rehearsal shows that a part which takes too long is ended: compiling on a CPU does.
    compiling = 40.0 if not scale.rehearsal else 3.0
    return [
        [planned("machine", 12, "machine", scale)],
        [
            PartPlan("tests-kernels", 38, partial(tests, scale, "test_relations.py")),
            PartPlan("tests-step", 38, partial(tests, scale, "test_step.py")),
            planned("compile", min(compiling, 38), "training", scale, name="warm_up"),
        ],
        [planned("dfra", 18, "kernels", scale)],
        [planned("step", 22, "training", scale, compiled=False)],
        [planned("step-compiled", compiling, "training", scale, compiled=True)],
        [planned("processes", 13, "side_by_side", scale, service=False)],
        [planned("processes-mps", 13, "side_by_side", scale, service=True)],
    ]


def second(scale: Scale, results: Results) -> list[Group]:
    """The comparison, and in any case its report."""
    return [
        [planned("machine-2", 8, "machine", scale)],
        [planned("comparison", 448, "comparison", scale, results, name="train_cases", grace=6)],
        [planned("report", 30, "comparison", scale, results, name="report_cases", always=True)],
    ]


def planned(
    part: str,
    seconds: float,
    module: str,
    *arguments: Any,
    name: str = "cases",
    always: bool = False,
    grace: float = 1.0,
    **settings: Any,
) -> PartPlan:
    """A part whose cases a function of ``module`` gives, imported in the part's process."""
    function = partial(_call, module, name, *arguments, **settings)
    return PartPlan(part, seconds, function, always, grace)


def _call(module: str, name: str, *arguments: Any, **settings: Any) -> Cases:
    from importlib import import_module

    function: Callable[..., Cases] = getattr(import_module(module), name)
    return function(*arguments, **settings)


def tests(scale: Scale, file: str, part: Part) -> Cases:
    """tests/gpu/``file``."""
    import suite

    return {"all": suite.run(file, part, on_gpu=not scale.rehearsal)}
