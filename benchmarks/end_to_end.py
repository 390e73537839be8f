"""Where the time of the main job goes, part by part.

    python benchmarks/end_to_end.py [--recipe digits] [--out FOLDER] [--set KEY=VALUE]

Runs `mldr-deploy distill-and-export` in a fresh process and folder with clocks around its parts;
what one part calls of another counts for the inner one alone. Both wall time and processor time
(of all threads) are told, since a busy machine stretches the former. `imports` is everything up to
the command itself. With --again the finished job is asked for once more, which should cost next to
nothing. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARTS = (  # part, module, name; the same part may have several functions
    ("data", "pipeline.phases", "load_dataset"),
    ("building models", "distill.network", "create_model"),
    ("building models", "distill.teacher_loading", "create_model"),
    ("building models", "distill.teacher_loading", "plan_teacher"),
    ("building models", "distill.training_run", "plan_stages"),
    ("building models", "distill.training_run", "plan_teacher"),
    ("training: teacher", "distill.training_run", "train_teacher"),
    ("training: student", "distill.training_run", "distill"),
    ("training: validation", "distill.trainer", "Trainer._validate"),
    ("training: checkpoints", "distill.trainer", "Trainer._checkpoint"),
    ("training: teacher's logits kept", "distill.teacher_cache", "TeacherCache.fill"),
    ("training: curves", "distill.finish", "draw_curves"),
    ("export: ONNX trace", "export.onnx_export", "trace"),
    ("export: ONNX checker", "onnx.checker", "check_model"),
    ("export: evidence of training", "export.build_bundle", "require_same_function"),
    ("export: parity", "export.build_bundle", "proven"),
    ("export: latencies", "export.build_bundle", "_timed"),
    ("export: the rest", "pipeline.phases", "build_bundle"),
    ("table: teacher on test", "pipeline.summary", "evaluate"),
    ("table: latencies", "pipeline.summary", "in_turns"),
)
Clocks = tuple[float, float]  # wall, processor


class Stopwatch:
    """Exclusive time of parts that call each other."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = {}
        self._open: list[str] = []
        self._last = clocks()

    def switch(self, to: str | None) -> None:
        """What went by belongs to the part that is open; then open ``to``, or close the last."""
        now = clocks()
        owner = self._open[-1] if self._open else "all else"
        spent = self.parts.setdefault(owner, [0.0, 0.0])
        for k in range(2):
            spent[k] += now[k] - self._last[k]
        self._last = now
        if to is None:
            self._open.pop()
        else:
            self._open.append(to)

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` timed as ``part``."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.switch(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch(None)

        return timed


def clocks() -> Clocks:
    """Seconds of the wall clock, and of the processor in this process."""
    return time.perf_counter(), time.process_time()


def inside(arguments: list[str], began: float) -> None:
    """In the process of the job: put the clocks in place, run it, write what they say."""
    watch = Stopwatch()
    from mldr_deploy.cli.group import main as command

    for part, module, name in PARTS:
        where = module if module.startswith("onnx.") else f"mldr_deploy.{module}"
        owner: Any = importlib.import_module(where)
        *path, last = name.split(".")
        for step in path:
            owner = getattr(owner, step)
        setattr(owner, last, watch.around(part, getattr(owner, last)))
    watch.switch("imports")  # until here it was all else
    imports = [time.time() - began, time.process_time()]
    watch.switch(None)
    watch.parts = {}
    code = 0
    try:
        command(arguments, standalone_mode=True)
    except SystemExit as end:
        code = int(end.code or 0)
    watch.switch("end")
    print("PARTS " + json.dumps({"imports": imports, **watch.parts}))
    sys.exit(code)


def job(recipe: str, out: Path, settings: list[str]) -> dict[str, list[float]]:
    """One run of the main job in a process of its own; seconds of every part."""
    arguments = ["distill-and-export", "--device", "auto", "--recipe", recipe, "--out", str(out)]
    for setting in settings:
        arguments += ["--set", setting]
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".src")}
    command = [sys.executable, __file__, "--inside", str(time.time()), *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"the job ended with {done.returncode}: {done.stdout}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("PARTS "))
    found: dict[str, list[float]] = json.loads(line.removeprefix("PARTS "))
    return found


def told(title: str, parts: dict[str, list[float]]) -> dict[str, float]:
    """Print a table; returns shares of the processor's time by part."""
    wall, processor = (sum(spent[k] for spent in parts.values()) for k in range(2))
    print(f"{title}: {wall:.1f} s, {processor:.1f} s of processor time")
    for part, spent in sorted(parts.items(), key=lambda item: -item[1][1]):
        share = 100 * spent[1] / processor
        print(f"  {part:34}{spent[0]:9.2f} s{spent[1]:9.2f} s of processor{share:7.1f} %")
    return {part: round(spent[1] / processor, 4) for part, spent in parts.items()}


def main(recipe: str, out: Path | None, settings: list[str], again: bool) -> None:
    """Run, print and end in the JSON line."""
    with contextlib.ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"
        first = job(recipe, folder, settings)
        line: dict[str, Any] = {"recipe": recipe, "seconds": first}
        line["shares"] = told(f"recipe {recipe}", first)
        if again:
            second = job(recipe, folder, settings)
            told("the same again", second)
            line["again"] = second
    print(json.dumps(line))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[3:], float(sys.argv[2]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    main(given.recipe, given.out, given.settings, given.again)
