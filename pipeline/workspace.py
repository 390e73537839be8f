"""A run's folder: whose recipe it holds, what is finished in it, and that one process works there.

OUT/recipe.toml  times.json  summary.json
OUT/teacher/     OUT/student/      as distill/run.py leaves them
OUT/bundle/
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..bundle.atomic import write_json, write_text
from ..bundle.manifest import FILE as MANIFEST
from ..bundle.trained import RECORD, read_trained
from ..distill.run import TRAINED
from ..errors import MldrError
from .recipe import Recipe, dump_recipe, is_idle

_RECIPE = "recipe.toml"
_TIMES = "times.json"
# Keys that say where things are or how often to look, not what comes out.
_INDIFFERENT = (
    "name",
    "description",
    "data.root",
    "data.workers",
    "data.download",
    "data.check_images",
)


class Workspace:
    """The folder of one run of one recipe."""

    def __init__(self, out: Path, recipe: Recipe) -> None:
        self.out, self.recipe = out, recipe

    def folder(self, stage: str) -> Path:
        """Where a stage writes: teacher, student or bundle."""
        return self.out / stage

    def trained(self, stage: str) -> Path | None:
        """The finished model of a training stage, if it is there."""
        folder = self.folder(stage) / TRAINED
        return folder if (folder / RECORD).is_file() else None

    def bundle(self) -> Path | None:
        """The finished bundle, if it is there."""
        return self.folder("bundle") if (self.folder("bundle") / MANIFEST).is_file() else None

    def claim(self, *, restart: bool) -> None:
        """Take the folder for this recipe; with ``restart``, throw away what is in it.

        Raises MldrError when it holds results of another recipe, and names the first difference.
        """
        stages = [self.folder(name) for name in ("teacher", "student", "bundle")]
        if restart:
            for path in (*stages, self.out / "summary.json", self.out / _TIMES):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        elif any(stage.exists() for stage in stages):
            self._refuse_another()
        write_text(self.out / _RECIPE, dump_recipe(self.recipe))

    def record_time(self, stage: str, seconds: float) -> None:
        """Note what a stage took."""
        write_json(self.out / _TIMES, {**self._noted(), stage: round(seconds, 2)})

    def times(self) -> dict[str, float]:
        """Seconds by stage, in the order of the work; of a training stage, what its record tells.

        So a kill between a stage's last write and its note loses no time.
        """
        noted = self._noted()
        for stage in ("teacher", "student"):
            if (finished := self.trained(stage)) is not None:
                noted[stage] = round(read_trained(finished).metrics["train_seconds"], 2)
        order = ("data", "teacher", "student", *noted)
        return {stage: noted[stage] for stage in order if stage in noted}

    def _noted(self) -> dict[str, float]:
        path = self.out / _TIMES
        return json.loads(path.read_text()) if path.is_file() else {}

    def _refuse_another(self) -> None:
        path = self.out / _RECIPE
        try:
            there = flat(tomllib.loads(path.read_text()))
        except (OSError, ValueError) as error:  # bad TOML and bad UTF-8 are ValueErrors
            raise MldrError(
                f"{path} cannot be read ({type(error).__name__}), so what lies in {self.out} is "
                "not known to be of this recipe: choose another --out, or --restart to discard it"
            ) from error
        here = flat(tomllib.loads(dump_recipe(self.recipe)))
        for key in sorted(there.keys() | here.keys()):
            indifferent = key in _INDIFFERENT or is_idle(self.recipe, key)
            if not indifferent and there.get(key) != here.get(key):
                raise MldrError(
                    f"{self.out} holds a run with {key} = {there.get(key, 'unset')}, not "
                    f"{here.get(key, 'unset')}: choose another --out, or --restart to discard it"
                )


@contextmanager
def workspace(out: Path, recipe: Recipe) -> Iterator[Workspace]:
    """The folder ``out``, locked against a second process for the length of the block."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise MldrError(
            f"{out} cannot be written ({error.strerror}): choose another --out"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MldrError(
                f"another mldr-deploy is at work in {out}: wait for it, or choose another --out"
            ) from None
        yield Workspace(out, recipe)


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found
