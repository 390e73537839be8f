"""Carries out the parts of a step, each in a forked process and within its limit.

A part is forked from a process that has imported everything and never touched the GPU, so that it
starts in milliseconds. It leads a process group of its own; at the end of the part the whole group
is gone. However it ended, the next part runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clocks import sample_clocks
from orphans import end_with_parent
from results import Part, Results, Row

Cases = Mapping[str, Callable[[], Row]]
END = 4.0  # seconds of a step in which the archive is written for the last time
SAVE = 3.0  # seconds between two looks whether the archive has grown
_LEAST = 1.0  # seconds; with less time than that a part is not begun


@dataclass(frozen=True)
class PartPlan:
    """A part of a step: ``cases`` is called in the part's own process."""

    name: str
    seconds: float  # its end included
    cases: Callable[[Part], Cases]
    always: bool = False  # also where it was done before; time is kept for it
    grace: float = 1.0  # seconds of its limit in which it ends in good order


Group = Sequence[PartPlan]  # parts that run at the same time


@dataclass(frozen=True)
class StepPlan:
    """Groups one after another, all within ``limit`` seconds from the start of the process."""

    limit: float
    start: float  # seconds until the first part can begin: imports, wheels
    groups: Sequence[Group]

    @property
    def promised(self) -> float:
        """Seconds that all takes where every part needs its whole limit."""
        return self.start + sum(longest(group) for group in self.groups) + END


def longest(group: Group) -> float:
    """Seconds that a group may take."""
    return max(part.seconds for part in group)


def run_step(step: StepPlan, results: Results, began: float) -> dict[str, str]:
    """Carry out what is not done yet; gives each part's state. ``began``: a time.time()."""
    states: dict[str, str] = {}
    for number, group in enumerate(step.groups):
        reserved = sum(longest(g) for g in step.groups[number + 1 :] if any(p.always for p in g))
        due = began + step.limit - END - reserved
        pending = [p for p in group if p.always or not _is_done(results.part(p.name))]
        children = [_Child(plan, results.part(plan.name), due) for plan in pending]
        _watch(children, results)
        for plan in group:
            states[plan.name] = results.part(plan.name).state["state"]
            print(_line(plan, results.part(plan.name), plan in pending), flush=True)
    return states


def _is_done(part: Part) -> bool:
    return part.state.get("state") == "done"


def _line(plan: PartPlan, part: Part, carried_out: bool) -> str:
    state = part.state
    took = f"{state.get('seconds', 0):.1f} s of {plan.seconds:g}" if carried_out else "before"
    why = f": {state['why']}" if "why" in state else ""
    return f"{plan.name:22}{state['state']:10}{took}{why}"


def _watch(children: Sequence[_Child], results: Results) -> None:
    """Until all have ended, saving the archive as it grows; none outlives this call."""
    looked = time.monotonic()
    try:
        while not all([child.ended() for child in children]):
            time.sleep(0.05)
            if time.monotonic() - looked >= SAVE:
                sample_clocks([child.part.folder for child in children])
                results.save()
                looked = time.monotonic()
    finally:
        for child in children:
            child.kill()
        results.save()


class _Child:
    """The process of one part."""

    def __init__(self, plan: PartPlan, part: Part, due: float) -> None:
        self.plan, self.part = plan, part
        self.began = time.time()
        self.limit = min(plan.seconds, due - self.began)
        self.pid, self.asked = 0, False
        part.begin()
        if self.limit < plan.grace + _LEAST:
            part.set_state("skipped", why="no time was left in this step")
            return
        part.set_state("running", limit=round(self.limit, 1))
        sys.stdout.flush()
        parent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            _be(plan, part, parent)
        _lead_group(self.pid)

    def ended(self) -> bool:
        """Whether it has; asks it to stop when its time is nearly over, kills it when it is."""
        if not self.pid:
            return True
        gone, status = os.waitpid(self.pid, os.WNOHANG)
        if gone:
            self._close(status)
            return True
        spent = time.time() - self.began
        if spent >= self.limit:
            self._signal(signal.SIGKILL)
        elif spent >= self.limit - self.plan.grace and not self.asked:
            self.asked = True
            self._signal(signal.SIGTERM)
        return False

    def kill(self) -> None:
        """End it at once where it still runs: the step itself was asked to stop."""
        if self.pid:
            self._signal(signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
            self.part.set_state("stopped", **self._details(), why="the step was asked to stop")

    def _close(self, status: int) -> None:
        self._signal(signal.SIGKILL)  # what it left behind
        self.pid = 0
        rows = self.part.rows
        failed = [case for case, row in rows.items() if "failed" in row]
        if self.asked:
            case = last_case(self.part.folder)
            why = f"{self.limit:.0f} s were not enough; it was at: {case}"
            self.part.set_state("timed out", **self._details(), why=why)
        elif status:
            code = os.waitstatus_to_exitcode(status)
            why = f"ended by signal {-code}" if code < 0 else f"ended with {code}"
            self.part.set_state("failed", **self._details(), why=f"{why}, see output.txt")
        elif failed:
            why = f"{', '.join(failed)} failed"
            self.part.set_state("failed", **self._details(), why=why)
        else:
            self.part.set_state("done", **self._details())

    def _details(self) -> Row:
        spent = time.time() - self.began
        return {"seconds": round(spent, 1), "limit": round(self.limit, 1)}

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def _lead_group(pid: int) -> None:
    """Make ``pid`` a group of its own; called on both sides, since either may be first."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(pid, pid)


def _be(plan: PartPlan, part: Part, parent: int) -> None:
    """In the part's process: its output into a file, its cases in turn. Does not return."""
    code = 1
    try:
        _lead_group(os.getpid())
        end_with_parent(parent)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        with (part.folder / "output.txt").open("ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        _carry_out(plan, part)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # a fork must not run what its parent has registered for its own end


def _carry_out(plan: PartPlan, part: Part) -> None:
    done = set() if plan.always else set(part.rows)
    for case, work in plan.cases(part).items():
        if case in done:
            continue
        print(f"== {case}", flush=True)
        try:
            part.write(case, work())
        except Exception:
            traceback.print_exc()
            part.write(case, {"failed": traceback.format_exc()})


def last_case(folder: Path) -> str:
    """The case that output.txt says was begun last."""
    text = (folder / "output.txt").read_text(errors="replace") if folder.is_dir() else ""
    begun = [line[3:] for line in text.splitlines() if line.startswith("== ")]
    return begun[-1] if begun else "its preparations"
