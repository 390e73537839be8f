"""Folders that cannot be renamed: mounted volumes, and what is mounted over read-only places."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mldr_deploy.bundle.atomic import atomic_folder, require_folder
from mldr_deploy.bundle.lock import lock
from mldr_deploy.errors import MldrError

MARK = "manifest.json"
WRITE = """
import json, os, pathlib, sys
from mldr_deploy.bundle.atomic import atomic_folder, require_folder
out = pathlib.Path(sys.argv[1])
for content in ("old", "new"):
    require_folder(out, replaces="manifest.json")
    with atomic_folder(out, replaces="manifest.json") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / content).write_text(content, encoding="utf-8")
        (folder / "manifest.json").write_text(content, encoding="utf-8")
files = [path for path in out.rglob("*") if path.is_file()]
held = {str(path.relative_to(out)): path.read_text(encoding="utf-8") for path in files}
print(json.dumps([held, sorted(os.listdir(out)), sorted(os.listdir(out.parent))]))
"""


def program(*arguments: str, code: str = WRITE) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def in_mounts(script: str, folder: Path) -> list[object]:
    """What WRITE prints in ``folder``/out, after ``script`` mounted things for it alone."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "-r"]
    shell = ["sh", "-ec", f'cd "$0"; {script} || exit 77; exec "$@"', str(folder)]
    done = subprocess.run(
        [*unshare, *shell, *program(str(folder / "out"))],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    answer: list[object] = json.loads(done.stdout)
    return answer


@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's")
@pytest.mark.parametrize(
    ("script", "kept", "beside"),
    [
        ("mkdir out && mount -t tmpfs none out", [], ["out"]),
        ("mkdir out disk && mount --bind disk out", [], ["disk", "out"]),
        (
            "mkdir out && mount -t tmpfs none out && mkdir out/lost+found out/.snapshot",
            [".snapshot", "lost+found"],
            ["out"],
        ),
        (
            "mkdir out && mount --bind . . && cd . && mount -o remount,bind,ro . && "
            'cd "$0" && mount -t tmpfs none out',
            [],
            ["out"],
        ),
        # a folder of an image's lower layer, itself written over by an earlier run
        (
            "mkdir -p layers && mount -t tmpfs none layers && cd layers && "
            "mkdir -p low/out/sub up work && echo x > low/out/manifest.json && "
            'mount -t overlay -o lowerdir=low,upperdir=up,workdir=work none "$0"',
            [],
            ["out"],
        ),
    ],
    ids=["another disk", "the same disk", "a disk's own entries", "read-only around", "overlay"],
)
def test_a_mounted_folder_gets_the_whole_content(
    script: str, kept: list[str], beside: list[str], tmp_path: Path
) -> None:
    held, names, around = in_mounts(script, tmp_path)
    assert held == {"sub/new": "new", MARK: "new"}
    assert names == sorted([MARK, "sub", *kept])
    assert around == beside


@pytest.fixture
def fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that counts as a mount point."""
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "out")
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def write(out: Path, content: str) -> None:
    with atomic_folder(out, replaces=MARK) as folder:
        for name in ("a", "b", MARK, f"only-{content}"):
            (folder / name).write_text(content, encoding="utf-8")


def generations(out: Path) -> dict[str, str]:
    return {p.name: p.read_text(encoding="utf-8") for p in out.iterdir() if p.is_file()}


def whole(content: str) -> dict[str, str]:
    return dict.fromkeys(("a", "b", MARK, f"only-{content}"), content)


KILLED = """
import os, pathlib, signal, sys
sys.path[:0] = sys.argv[3].split(os.pathsep)
from mldr_deploy.bundle import in_place
from mldr_deploy.bundle.atomic import atomic_folder
pathlib.Path.is_mount = lambda path: path.name == "out"
left = int(sys.argv[2])
def counted(function):
    def call(*arguments, **keys):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keys)
    return call
in_place.shutil.move, in_place.os.replace = counted(in_place.shutil.move), counted(os.replace)
pathlib.Path.rename = counted(pathlib.Path.rename)
with atomic_folder(pathlib.Path(sys.argv[1]), replaces="manifest.json") as folder:
    for name in ("a", "b", "manifest.json", "only-new"):
        (folder / name).write_text("new", encoding="utf-8")
"""


@pytest.mark.parametrize("steps", range(9))
def test_a_kill_at_any_step_leaves_the_old_or_the_new(fixed: Path, steps: int) -> None:
    write(fixed, "old")
    command = program(str(fixed), str(steps), os.pathsep.join(sys.path), code=KILLED)
    done = subprocess.run(command, check=False)
    assert done.returncode == -signal.SIGKILL
    if MARK in generations(fixed):
        assert generations(fixed) in (whole("old"), whole("new"))
    with pytest.raises(RuntimeError), atomic_folder(fixed, replaces=MARK):
        raise RuntimeError
    assert generations(fixed) == whole("old" if steps <= 4 else "new")
    assert [path.name for path in fixed.iterdir() if path.name[0] == "."] == []


def test_a_failed_body_leaves_a_mounted_folder_as_it_was(fixed: Path) -> None:
    write(fixed, "old")
    with pytest.raises(RuntimeError), atomic_folder(fixed, replaces=MARK) as folder:
        (folder / "a").write_text("half", encoding="utf-8")
        raise RuntimeError
    assert generations(fixed) == whole("old")


def test_a_move_that_fails_is_taken_back(fixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(fixed, "old")
    moves = iter([True, True, False])
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if not next(moves):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr("mldr_deploy.bundle.in_place.shutil.move", failing)
    with pytest.raises(MldrError, match=r"out cannot be written \(Input/output error\)"):
        write(fixed, "new")
    assert generations(fixed) == whole("old")
    assert len(list(fixed.iterdir())) == 4


def test_other_files_on_a_volume_are_refused(fixed: Path) -> None:
    (fixed / "thesis.tex").write_text("years of work", encoding="utf-8")
    for begin in (write, lambda out, _: require_folder(out, replaces=MARK)):
        with pytest.raises(MldrError, match="holds other files"):
            begin(fixed, "new")
    assert [path.name for path in fixed.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EXDEV])
def test_a_folder_that_turns_out_to_stay_is_copied_into(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rename = tmp_path / "out", Path.rename

    def refusing(path: Path, target: Path) -> Path:
        if path == out:
            raise OSError(code, os.strerror(code))
        return rename(path, target)

    write(out, "old")
    monkeypatch.setattr(Path, "rename", refusing)
    write(out, "new")
    assert generations(out) == whole("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_in_one_that_may_not_be_written(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    tmp_path.chmod(0o555)
    try:
        write(tmp_path / "out", "new")
        with pytest.raises(MldrError, match="cannot be written"):
            write(tmp_path / "other", "new")
    finally:
        tmp_path.chmod(0o755)
    assert generations(tmp_path / "out") == whole("new")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_file_system_that_syncs_no_folders(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def of_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files)
    write(tmp_path / "out", "new")
    assert generations(tmp_path / "out") == whole("new")


@pytest.mark.parametrize(
    ("code", "locked"), [(errno.ENOLCK, True), (errno.ENOTSUP, True), (errno.EAGAIN, False)]
)
def test_a_file_system_without_locks_is_not_one_in_use(
    code: int, locked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    with (tmp_path / ".lock").open("wb") as file:
        assert lock(file) is locked


def test_a_lock_is_one_process_s_at_a_time(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("wb") as first, (tmp_path / ".lock").open("wb") as second:
        assert lock(first)
        assert not lock(second)
    with (tmp_path / ".lock").open("wb") as third:
        assert lock(third)
