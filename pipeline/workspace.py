"""A run's folder: whose recipe it holds, what is finished in it, and that one process works there.

OUT/recipe.toml  times.json  summary.json
OUT/teacher/     OUT/student/      as distill/finish.py leaves them
OUT/bundle/
"""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..bundle.atomic import write_json, write_text, writing
from ..bundle.lock import lock
from ..bundle.manifest import FILE as MANIFEST
from ..bundle.trained import RECORD, read_trained
from ..bundle.wording import cause
from ..data.data_config import located
from ..distill.trained_folder import TRAINED
from ..errors import MldrError
from .recipe import Recipe, dump_recipe, is_idle
from .toml_text import parse_toml

_RECIPE = "recipe.toml"
_TIMES = "times.json"
# Keys that say where things are, how often to look or what to refuse, not what comes out.
_INDIFFERENT = (
    "name",
    "description",
    "train.trackers",
    "teacher.train.trackers",
    "data.root",
    "data.workers",
    "data.download",
    "data.check_images",
    "data.skip_share",
    "data.leak_share",
    "train.threads",
    "teacher.train.threads",
)


class Busy(MldrError):
    """Another process is at work in the folder."""


class Workspace:
    """The folder of one run of one recipe.

    ``shared`` says of phases that other runs use too, such as one teacher of many students, where
    they lie; they are not thrown away with this run.
    """

    def __init__(self, out: Path, recipe: Recipe, shared: Mapping[str, Path] | None = None) -> None:
        self.out, self.recipe, self._shared = out, recipe, dict(shared or {})

    def folder(self, phase: str) -> Path:
        """Where a phase writes: teacher, student or bundle."""
        return self._shared.get(phase, self.out / phase)

    def trained(self, phase: str) -> Path | None:
        """The finished model of a training phase, if it is there."""
        folder = self.folder(phase) / TRAINED
        return folder if (folder / RECORD).is_file() else None

    def bundle(self) -> Path | None:
        """The finished bundle, if it is there."""
        return self.folder("bundle") if (self.folder("bundle") / MANIFEST).is_file() else None

    def claim(self, *, restart: bool) -> None:
        """Take the folder for this recipe; with ``restart``, throw away what is in it.

        Raises MldrError when it holds results of another recipe, and names the first difference.
        """
        phases = [self.out / name for name in ("teacher", "student", "bundle")]
        if restart:
            for path in (*phases, self.out / "summary.json", self.out / _TIMES):
                with writing(path):
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        elif any(phase.exists() for phase in phases) and (difference := self.difference()):
            raise MldrError(f"{difference}: choose another --out, or --restart to discard it")
        write_text(self.out / _RECIPE, dump_recipe(self.recipe))

    def record_time(self, phase: str, seconds: float) -> None:
        """Note what a phase took."""
        write_json(self.out / _TIMES, {**self._noted(), phase: round(seconds, 2)})

    def times(self) -> dict[str, float]:
        """Seconds by phase, in the order of the work; of a training phase no less than its steps.

        So a kill between a phase's last write and its note loses no more than its preparation.
        """
        noted = self._noted()
        for phase in ("teacher", "student"):
            if (finished := self.trained(phase)) is not None:
                steps = round(read_trained(finished).metrics["train_seconds"], 2)
                noted[phase] = max(noted.get(phase, 0.0), steps)
        order = ("data", "teacher", "student", *noted)
        return {phase: noted[phase] for phase in order if phase in noted}

    def _noted(self) -> dict[str, float]:
        try:
            noted: dict[str, float] = json.loads((self.out / _TIMES).read_bytes())
        except (OSError, ValueError):  # not there yet, or damaged: they are for the table alone
            return {}
        return noted if isinstance(noted, dict) else {}

    def difference(self) -> str | None:
        """How the recipe that the folder holds a run of differs from this one, if it does.

        Keys that did not exist when it was written count as their defaults; those of the export
        count once something was exported.
        """
        path = self.out / _RECIPE
        try:
            table = parse_toml(path.read_bytes(), str(path))
        except FileNotFoundError:
            return f"{self.out} holds a run, and no {_RECIPE} that says of which recipe"
        except (OSError, MldrError) as error:
            return f"what lies in {self.out} is not known to be of this recipe ({cause(error)})"
        stored, current = _completed(table), flat(tomllib.loads(dump_recipe(self.recipe)))
        for key in sorted(stored.keys() | current.keys()):
            idle = is_idle(self.recipe, key) or (key.startswith("export.") and not self.bundle())
            indifferent = key in _INDIFFERENT or idle
            if not indifferent and _differ(key, stored.get(key), current.get(key)):
                return (
                    f"{self.out} holds a run with {key} = {stored.get(key, 'unset')}, not "
                    f"{current.get(key, 'unset')}"
                )
        return None


def _differ(key: str, stored: Any, current: Any) -> bool:
    """Whether two values of a key are not the same; a path of the data may be said in two ways."""
    if key == "data.source" and isinstance(stored, str) and isinstance(current, str):
        return located(stored) != located(current)
    return bool(stored != current)


def _completed(table: dict[str, Any]) -> dict[str, Any]:
    """A written recipe with today's keys, flat; as it stands where it is no recipe any more."""
    try:
        return flat(tomllib.loads(dump_recipe(Recipe(**table))))
    except ValidationError:
        return flat(table)


@contextmanager
def workspace(
    out: Path, recipe: Recipe, shared: Mapping[str, Path] | None = None
) -> Iterator[Workspace]:
    """The folder ``out``, locked against a second process for the length of the block.

    Raises Busy when another process holds it, MldrError when it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / ".lock").open("wb")
    except OSError as error:
        raise MldrError(
            f"{out} cannot be written ({error.strerror}): choose another --out"
        ) from error
    with file:
        if not lock(file):
            raise Busy(
                f"another mldr-deploy is at work in {out}: wait for it, or choose another --out"
            )
        yield Workspace(out, recipe, shared)


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted keys."""
    entries: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        entries |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return entries
