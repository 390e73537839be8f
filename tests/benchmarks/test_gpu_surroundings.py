"""What is carried to a GPU machine, and the service that is started and stopped there."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import carried
import pytest
from clocks import query, sample_clocks
from mps import CONTROL, multi_process_service

from mldr_deploy.errors import MldrError, Unavailable

FILES = {
    "1": {"a-1-py3-none-any.whl": b"wheel", "cifar100-classes.csv": b"x", "cifar100-train-0": b"0"},
    "2": {"cifar100-train-1": b"1", "cifar100-test": b"t"},
}


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What pack writes, in small; $MLDR_DATA is put back afterwards."""
    monkeypatch.setenv(carried.DATA_VARIABLE, "")
    contents = {
        name: hashlib.sha256(data).hexdigest()
        for part in FILES.values()
        for name, data in part.items()
    }
    for number, files in FILES.items():
        folder = tmp_path / "carried" / number
        folder.mkdir(parents=True)
        (folder / "contents.json").write_text(json.dumps(contents))
        for name, data in files.items():
            (folder / name).write_bytes(data)
    return tmp_path / "carried"


def test_the_data_of_all_parts_lie_in_one_folder(parts: Path, tmp_path: Path) -> None:
    for _ in range(2):  # a second start finds the folder there
        carried.use_data(parts, tmp_path / "data")
        os.environ[carried.DATA_VARIABLE] = ""
    read = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    every = {**FILES["1"], **FILES["2"]}
    assert read == {name: data for name, data in every.items() if name.startswith("cifar100-")}


@pytest.mark.parametrize("name", ["cifar100-train-1", "cifar100-test"])
def test_half_of_the_data_is_not_taken_for_all(parts: Path, tmp_path: Path, name: str) -> None:
    (parts / "2" / name).unlink()
    with pytest.raises(Unavailable, match=f"^{name} .*carry the other parts"):
        carried.use_data(parts, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_file_that_was_cut_off_is_refused(parts: Path, tmp_path: Path) -> None:
    (parts / "2" / "cifar100-test").write_bytes(b"")
    with pytest.raises(MldrError, match="cifar100-test is not as it was packed"):
        carried.use_data(parts, tmp_path / "data")


def test_data_that_were_named_stay(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(carried.DATA_VARIABLE, "elsewhere")
    carried.use_data(parts, tmp_path / "data")
    assert os.environ[carried.DATA_VARIABLE] == "elsewhere"


def test_wheels_come_first_and_the_path_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carried, "NEEDED", ("module_of_a_wheel",))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "kept")
    site = tmp_path / "site"
    with pytest.raises(Unavailable, match="module_of_a_wheel are not installed and no wheels lie"):
        carried.use_wheels(tmp_path, site)
    (tmp_path / "1").mkdir()
    with zipfile.ZipFile(tmp_path / "1" / "w-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("module_of_a_wheel.py", "FIGURE = 7")
    carried.use_wheels(tmp_path, site)
    assert sys.path[0] == str(site)
    assert os.environ["PYTHONPATH"] == f"{site}{os.pathsep}kept"
    assert (site / "module_of_a_wheel.py").read_text() == "FIGURE = 7"


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A double of NVIDIA's control program first on the path; the file in which it notes calls."""
    folder, log = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    program = folder / CONTROL
    note = (
        f'if [ "$1" = -d ]; then echo "-d $CUDA_MPS_PIPE_DIRECTORY" >>{log}; else cat >>{log}; fi'
    )
    program.write_text(f"#!/bin/sh\n{note}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return log


def test_the_service_is_started_and_stopped(control: Path) -> None:
    with multi_process_service() as started:
        assert started
        folder = os.environ["CUDA_MPS_PIPE_DIRECTORY"]
        assert control.read_text().split() == ["-d", folder]
    assert control.read_text().split() == ["-d", folder, "quit"]
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ


def test_the_service_is_stopped_also_when_its_user_is_killed(
    control: Path, gpu_folder: Path
) -> None:
    code = (
        "from mps import *\nwith multi_process_service(): print('up', flush=True); time.sleep(600)"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=gpu_folder,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert user.stdout is not None and user.stdout.readline() == "up\n"
    os.killpg(user.pid, signal.SIGKILL)  # as a part's whole group is
    user.communicate()
    for _ in range(600):  # the shell hears of it by its input's end
        if control.read_text().endswith("quit\n"):
            return
        time.sleep(0.05)
    raise AssertionError(control.read_text())


def test_a_service_that_does_not_start_is_no_failure(
    control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin" / CONTROL).write_text("#!/bin/sh\nexit 1\n")
    with multi_process_service() as started:
        assert not started
    monkeypatch.setenv("PATH", str(tmp_path))
    with multi_process_service() as started:
        assert not started


def test_the_card_is_asked_and_never_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, calls = tmp_path / "nvidia-smi", tmp_path / "calls"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert query(["name"]) is None
    program.write_text(f'#!/bin/sh\necho "$@" >>{calls}\necho 1980 MHz, 3 W\n')
    program.chmod(0o755)
    assert query(["clocks.sm", "power.draw"]) == "1980 MHz, 3 W"
    for _ in range(2):
        sample_clocks([tmp_path])
    header, *lines = (tmp_path / "clocks.csv").read_text().splitlines()
    assert header.startswith("clocks.sm, ") and lines == ["1980 MHz, 3 W"] * 2
    asked = {word for line in calls.read_text().splitlines() for word in line.split()}
    allowed = ("--query-gpu=", "--format=csv,noheader", "--id=0")
    assert all(word.startswith(allowed) for word in asked)
    program.write_text("#!/bin/sh\necho broken\nexit 9\n")
    assert query(["name"]) is None


def test_pack_refuses_what_is_not_there(gpu_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(gpu_folder / "pack"), "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    expected = f"Error: no cifar100-classes.csv lies in {tmp_path}: name CIFAR-100's folder"
    assert done.returncode == 1 and done.stderr.startswith(expected)
    assert len(done.stderr.splitlines()) == 1
