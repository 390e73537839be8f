"""Cores, and quotas of cgroups: of both versions, from files laid out as the kernel lays them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mldr_deploy.bundle import processor
from mldr_deploy.bundle.processor import Cores, cores, cpu_quota

V2 = "30 23 0:26 {top} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 25 0:29 {top} /sys/fs/cgroup/{folder} rw,nosuid shared:9 - cgroup cgroup rw,{folder}\n"
OTHER = "24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"


def machine(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups, encoding="utf-8")
    (root / "proc/self/mountinfo").write_text(OTHER + mounts, encoding="utf-8")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "quota"),
    [
        ("0::/\n", V2.format(top="/"), {"cpu.max": "150000 100000"}, 1.5),
        ("0::/\n", V2.format(top="/"), {"cpu.max": "max 100000"}, None),
        ("0::/\n", V2.format(top="/"), {}, None),
        ("0::/\n", V2.format(top="/"), {"cpu.max": "rubbish"}, None),
        # a service below a slice: the tightest of all above it
        (
            "0::/a.slice/b.service\n",
            V2.format(top="/"),
            {"a.slice/cpu.max": "200000 100000", "a.slice/b.service/cpu.max": "50000 10000"},
            2.0,
        ),
        # a container without a namespace of its own: its group is what is mounted
        ("0::/docker/c\n", V2.format(top="/docker/c"), {"cpu.max": "300000 100000"}, 3.0),
        # its own group lies above what is mounted
        ("0::/../x\n", V2.format(top="/"), {"cpu.max": "100000 50000"}, 2.0),
        (
            "4:memory:/m\n3:cpu,cpuacct:/docker/c\n",
            V1.format(top="/docker/c", folder="memory")
            + V1.format(top="/docker/c", folder="cpu,cpuacct"),
            {"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        (
            "1:cpu:/\n",
            V1.format(top="/", folder="cpu"),
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            None,
        ),
        # both versions mounted at once, the limit in the older one
        (
            "1:cpu:/job\n0::/\n",
            V1.format(top="/", folder="cpu") + V2.format(top="/").replace("cgroup ", "cgroup/u "),
            {"cpu/job/cpu.cfs_quota_us": "400000", "cpu/job/cpu.cfs_period_us": "100000"},
            4.0,
        ),
        # only the memory is limited
        ("4:memory:/\n", V1.format(top="/", folder="memory"), {}, None),
    ],
)
def test_the_tightest_quota_counts(
    groups: str, mounts: str, files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    assert cpu_quota(machine(tmp_path, groups, mounts, files)) == quota


def test_without_cgroups_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("here", "usable", "text"),
    [
        (Cores(8, 8, None), 8, "8 cores usable"),
        (Cores(8, 2, None), 2, "2 of 8 cores usable"),
        (Cores(8, 8, 0.25), 1, "1 of 8 cores usable (CPU quota 0.25)"),
        (Cores(8, 8, 2.5), 3, "3 of 8 cores usable (CPU quota 2.5)"),
        (Cores(8, 2, 4.0), 2, "2 of 8 cores usable (CPU quota 4)"),
        (Cores(2, 2, 64.0), 2, "2 cores usable (CPU quota 64)"),
    ],
)
def test_usable_is_what_both_limits_leave(here: Cores, usable: int, text: str) -> None:
    assert (here.usable, str(here)) == (usable, text)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_affinity_is_seen() -> None:
    program = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from mldr_deploy.bundle.processor import cores; print(cores().bound, cores().usable)"
    )
    assert printed(program) == "1 1"


def test_a_real_group_s_quota_is_seen() -> None:
    """In a group of its own, made by the child and removed; where this user may make one."""
    home = Path("/sys/fs/cgroup")
    group = (home / "cpu" if (home / "cpu").is_dir() else home) / f"mldr-test-{os.getpid()}"
    limit = "cpu.cfs_quota_us" if (home / "cpu").is_dir() else "cpu.max"
    try:
        group.mkdir()
        (group / limit).write_text("50000", encoding="ascii")
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no cgroup with a CPU quota can be made here: {error}")
    program = (
        "import os, pathlib, sys\n"
        f"group = pathlib.Path({str(group / 'cgroup.procs')!r})\n"
        "try: group.write_text(str(os.getpid()), encoding='ascii')\n"
        "except OSError as error: sys.exit(print('refused', error))\n"
        "from mldr_deploy.bundle.processor import cores; print(cores().quota, cores().usable)"
    )
    try:
        answer = printed(program)
        if answer.startswith("refused"):
            pytest.skip(f"no process may be put into a cgroup here: {answer}")
        assert answer == "0.5 1"
    finally:
        group.rmdir()


def test_every_part_asks_the_same_judge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A quota of one core is what every part goes by, whatever this machine has."""
    from mldr_deploy.cli.process import respect_quota
    from mldr_deploy.export.build_bundle import _circumstances
    from mldr_deploy.export.export_config import ExportConfig
    from mldr_deploy.pipeline.environment import _cpu
    from mldr_deploy.pipeline.summary import machine as run_machine
    from mldr_deploy.profiler.machine import this_machine
    from mldr_deploy.runtimes.model_file import ModelFile
    from mldr_deploy.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
    from mldr_deploy.runtimes.runtime import RuntimeOptions

    root = machine(tmp_path, "0::/\n", V2.format(top="/"), {"cpu.max": "70000 100000"})
    monkeypatch.setattr(processor, "_ROOT", root)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert cores() == Cores(8, 8, 0.7)
    assert RuntimeOptions().cores == 1 and RuntimeOptions(threads=3).cores == 3
    assert OnnxRuntimeCpu(ModelFile(Path("a.onnx"))).options.cores == 1
    profiled = this_machine([], RuntimeOptions())
    assert (profiled.cores, profiled.threads, profiled.cpu_quota) == (1, 1, 0.7)
    assert str(profiled).endswith("1 thread on 1 core, CPU quota 0.7")
    assert _cpu().description.endswith("1 of 8 cores usable (CPU quota 0.7)")
    exported = _circumstances(ExportConfig())
    assert (exported["cores"], exported["cpu_quota"]) == (1, 0.7)
    assert " (CPU quota 0.7)" in run_machine()
    respect_quota()
    assert os.environ["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    respect_quota()
    assert os.environ["OMP_NUM_THREADS"] == "5"


def printed(program: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
