"""The processor, and how much of it this process may use.

A container or a scheduler grants less than the machine has in two ways: it binds the process to
some of the cores (affinity, cpusets), or its cgroup has a quota of processor time in every period.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")


@dataclass(frozen=True)
class Cores:
    """How many cores there are, and how many of them this process may use. Prints itself."""

    present: int
    bound: int  # that the scheduler may put this process on
    quota: float | None  # processors' worth of time that its cgroups grant; None: no limit

    @property
    def usable(self) -> int:
        """How many threads are worth starting: a part of a core counts as a whole one."""
        return self.bound if self.quota is None else min(self.bound, max(1, math.ceil(self.quota)))

    def __str__(self) -> str:
        of = f" of {self.present}" if self.usable < self.present else ""
        quota = "" if self.quota is None else f" (CPU quota {self.quota:g})"
        return f"{self.usable}{of} cores usable{quota}"


def cores(root: Path | None = None) -> Cores:
    """The cores of this process; ``root`` is where /proc and /sys lie."""
    present = os.cpu_count() or 1
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else present
    return Cores(present, bound, cpu_quota(root))


def usable_cores() -> int:
    """How many threads are worth starting in this process."""
    return cores().usable


def cpu_quota(root: Path | None = None) -> float | None:
    """Processors' worth of time that the cgroups of this process grant, by the tightest of them.

    Reads cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us) from the process's own group up to the one
    that is mounted. None without a limit, and where there are no cgroups.
    """
    grants = [_granted(folder) for folder in _groups(root or _ROOT)]
    return min((grant for grant in grants if grant is not None), default=None)


def processor() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    return cpuinfo("model name") or platform.processor() or platform.machine()


def cpuinfo(field: str) -> str | None:
    """What /proc/cpuinfo says in ``field`` of the first core; None where it does not."""
    for line in _lines(_ROOT / "proc/cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() == field:
            return value.strip()
    return None


def _granted(folder: Path) -> float | None:
    """Quota over period of one group, in either version's files; None without a limit."""
    numbers = " ".join(_lines(folder / "cpu.max")).split()  # v2: "150000 100000" or "max 100000"
    if not numbers:
        numbers = [*_lines(folder / "cpu.cfs_quota_us"), *_lines(folder / "cpu.cfs_period_us")]
    try:
        quota, period = map(int, numbers)
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def _groups(root: Path) -> Iterator[Path]:
    """Folders of this process's groups, each with those above it, of both versions."""
    paths = dict(_paths(root))
    for line in _lines(root / "proc/self/mountinfo"):
        fields, _, file_system = line.partition(" - ")
        kind, _, options = (*file_system.split(), "", "", "")[:3]
        controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        if controller not in paths or (controller and controller not in options.split(",")):
            continue
        top, mounted = fields.split()[3:5]
        folder = mount = root / mounted.lstrip("/")
        if Path(paths[controller]).is_relative_to(top):  # else the group is above what is mounted
            folder = mount / Path(paths[controller]).relative_to(top)
        yield folder
        yield from (above for above in folder.parents if above.is_relative_to(mount))


def _paths(root: Path) -> Iterator[tuple[str, str]]:
    """(controller, path of this process's group in its hierarchy); "" stands for version 2."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        yield from ((controller, path) for controller in controllers.split(","))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
