from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mldr_deploy.bundle.atomic import atomic_folder, sha256, write_bytes, write_json
from mldr_deploy.errors import MldrError

HOST = socket.gethostname().replace(".", "-")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    write_bytes(file, b"old")
    write_bytes(file, b"new")
    assert file.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.bin"
    write_bytes(file, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MldrError, match=r"a\.bin cannot be written \(No space left on device\)"):
        write_bytes(file, b"new")
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_json_keeps_the_order_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"z": 1, "a": "Zürich"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert list(json.loads(text)) == ["z", "a"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})


def test_sha256_is_hashlib_s(tmp_path: Path) -> None:
    data = os.urandom(3_000_001)
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    for content in ("1", "2"):
        with atomic_folder(tmp_path / "deep" / "out") as folder:
            assert not (folder / "file").exists()
            (folder / "file").write_text(content)
            (folder / f"only{content}").touch()
    assert (tmp_path / "deep/out/file").read_text() == "2"
    assert names(tmp_path / "deep/out") == ["file", "only2"]
    assert names(tmp_path / "deep") == ["out"]


def test_an_error_leaves_the_old_folder_alone(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("half")
        raise RuntimeError
    assert (tmp_path / "out/file").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_a_killed_writer_leaves_nothing_readable_and_the_next_one_clears_up(
    tmp_path: Path,
) -> None:
    program = (
        "import os, pathlib, signal, sys\n"
        "from mldr_deploy.bundle.atomic import atomic_folder\n"
        "with atomic_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'file').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out")], env=environment, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert len(names(tmp_path)) == 1
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("whole")
    assert names(tmp_path) == ["out"]


def test_a_folder_lost_between_the_renames_comes_back(tmp_path: Path) -> None:
    aside = tmp_path / f".out.{HOST}.{dead_pid()}.12345678.old"
    aside.mkdir()
    (aside / "file").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "out"):
        raise RuntimeError
    assert (tmp_path / "out/file").read_text() == "old"


def test_temporary_folders_of_the_living_and_of_others_stay(tmp_path: Path) -> None:
    living = tmp_path / f".out.{HOST}.{os.getppid()}.12345678.tmp"
    elsewhere = tmp_path / f".out.elsewhere.{dead_pid()}.12345678.tmp"
    other_name = tmp_path / f".outer.{HOST}.{dead_pid()}.12345678.tmp"
    for folder in (living, elsewhere, other_name):
        folder.mkdir()
    with atomic_folder(tmp_path / "out"), atomic_folder(tmp_path / "out") as second:
        (second / "file").touch()
    assert {living.name, elsewhere.name, other_name.name, "out"} == set(names(tmp_path))


def test_a_foreign_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("years of work")
    message = r"home holds other files \(there is no manifest\.json in it\)"
    with (
        pytest.raises(MldrError, match=message),
        atomic_folder(tmp_path / "home", replaces="manifest.json"),
    ):
        pass
    assert (tmp_path / "home/thesis.tex").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty", replaces="manifest.json") as folder:
        (folder / "manifest.json").touch()


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(MldrError, match="out is a file"), atomic_folder(tmp_path / "out"):
        pass
    with (
        pytest.raises(MldrError, match="cannot be written"),
        atomic_folder(tmp_path / "out" / "below"),
    ):
        pass
    assert (tmp_path / "out").read_text() == "mine"


def test_a_file_in_a_folder_is_told_where_it_would_have_come_to_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    expected = re.escape(f"{tmp_path / 'out' / 'deep' / 'file'} cannot be written (No space left")
    with pytest.raises(MldrError, match=f"^{expected}"), atomic_folder(tmp_path / "out") as folder:
        (folder / "deep").mkdir()
        write_bytes(folder / "deep" / "file", b"content")
    assert names(tmp_path) == []


def test_a_body_that_meets_a_full_disk_and_one_that_reads_a_missing_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(MldrError, match=r"out cannot .* \(File too large\)"), atomic_folder(out):
        raise OSError(27, "File too large")
    with pytest.raises(MldrError, match=r"out cannot .* \(Is a dir"), atomic_folder(out) as folder:
        folder.write_bytes(b"")
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "out"):
        (tmp_path / "absent").read_bytes()


def test_what_a_library_left_to_its_owner_is_for_every_reader_of_the_folder(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as folder:
        for name, mode in (("weights", 0o600), ("script", 0o700)):
            (folder / name).touch()
            (folder / name).chmod(mode)
        (folder / "fresh").touch()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert modes["weights"] == modes["fresh"]
    assert modes["script"] == modes["fresh"] | 0o700


def test_tensors_on_a_full_disk_are_one_error_of_ours(tmp_path: Path) -> None:
    """The system itself refuses: no file of this process may grow beyond 1,000 bytes."""
    program = (
        "import pathlib, resource, sys, numpy as np\n"
        "from mldr_deploy.bundle.tensors import write_tensors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    write_tensors(pathlib.Path(sys.argv[1]), {'w': np.zeros(1000, np.float32)})\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    root = Path(sys.modules["mldr_deploy"].__path__[0]).parent
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "w.safetensors")],
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    path = tmp_path / "w.safetensors"
    assert done.stdout.startswith(f"Unwritable {path} cannot be written (File too large): free sp")
    assert names(tmp_path) == []
