"""Starting, refusing to start, and stopping."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.cli import main
from mldr_deploy.errors import MldrError
from mldr_deploy.serve import server
from mldr_deploy.serve.server import listen


def refused(*words: str) -> tuple[int, str]:
    """(exit code, the one line) of a command that must not start serving."""
    result = CliRunner().invoke(main, ["serve", *words])
    assert result.stdout == "" and result.stderr.count("\n") == 1, result.output
    return result.exit_code, result.stderr


def test_an_occupied_port_is_one_line(served: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        code, said = refused(str(served), "--port", port)
    assert code == 1
    assert said == (
        f"Error: port {port} of 127.0.0.1 is taken by another program: choose another --port\n"
    )


def test_a_host_that_is_not_here_is_one_line(served: Path) -> None:
    code, said = refused(str(served), "--host", "203.0.113.7", "--port", "0")
    assert code == 1 and "cannot listen on port 0 of 203.0.113.7" in said
    code, said = refused(str(served), "--host", "no-such-host.invalid", "--port", "0")
    assert code == 1 and "no-such-host.invalid is no address" in said


def test_a_port_without_permission_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: socket.socket, address: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", forbidden)
    with pytest.raises(MldrError, match="no permission to listen on port 80"):
        listen("127.0.0.1", 80)


def test_an_unknown_runtime_is_one_line(served: Path) -> None:
    code, said = refused(str(served), "--runtime", "tvm")
    assert code == 1 and said.startswith("Error: unknown runtime 'tvm'; choose auto, onnx")


def test_what_is_no_bundle_is_one_line(tmp_path: Path) -> None:
    code, said = refused(str(tmp_path))
    assert code == 1 and "is not a bundle (manifest.json is missing)" in said


def test_a_bundle_without_artifacts_is_one_line(copied: Path, edit: Callable[..., Path]) -> None:
    code, said = refused(str(edit(copied, lambda content: content["artifacts"].clear())))
    assert code == 1 and "manifest.json: artifacts: List should have at least 1 item" in said


def test_a_tampered_file_is_one_line(copied: Path) -> None:
    file = copied / "student.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    code, said = refused(str(copied))
    assert code == 1 and "student.onnx was changed after export" in said


def test_a_failed_artifact_is_one_line(failed: Path) -> None:
    code, said = refused(str(failed))
    assert code == 1
    assert "student.onnx failed its parity gate (|dlogit| 0.25 is above 0.001)" in said


def test_a_failed_artifact_is_served_when_allowed(
    failed: Path, launch: Callable[..., Any], good: bytes
) -> None:
    live = launch(failed, "--allow-failed", "--runtime", "onnxruntime-cpu")
    with urllib.request.urlopen(f"{live.url}/classify", good, timeout=30) as answer:
        assert answer.status == 200


def test_a_folder_that_may_not_be_read_is_told(copied: Path) -> None:
    open_bundle(copied)  # all that it needs is imported: another user may not read site-packages
    user = os.geteuid()
    copied.chmod(0)
    if user == 0:  # root reads everything: ask as nobody
        os.seteuid(65534)
    try:
        with pytest.raises(MldrError, match=r"cannot be read \(Permission denied\): give this"):
            open_bundle(copied)
    finally:
        os.seteuid(user)
        copied.chmod(0o700)


def test_a_missing_package_is_exit_code_2(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PACKAGES", ("no_such_package",))
    code, said = refused(str(served))
    assert code == 2 and 'no_such_package: pip install "mldr-deploy[serve]"' in said


SLOW_MODEL = """
import time
from mldr_deploy.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
compute = OnnxRuntimeCpu.compute
def slow(self):
    time.sleep({seconds})
    compute(self)
OnnxRuntimeCpu.compute = slow
from mldr_deploy.cli import main
main()
"""


SLOW_DECODE = """
import time
from pathlib import Path
from mldr_deploy.serve import service
opened = service.open_image
def slow(data, most):
    while data.endswith(b"slow") and not Path({gate!r}).exists():
        time.sleep(0.02)
    return opened(data, most)
service.open_image = slow
from mldr_deploy.cli import main
main()
"""


BARRED_MODEL = """
import time
from pathlib import Path
from mldr_deploy.runtimes.onnxruntime_cpu import OnnxRuntimeCpu
compute = OnnxRuntimeCpu.compute
def barred(self):
    while Path({barrier!r}).exists():
        time.sleep(0.02)
    compute(self)
OnnxRuntimeCpu.compute = barred
from mldr_deploy.cli import main
main()
"""


def accepts(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=30).close()
    except ConnectionError:
        return False
    return True


def test_a_slow_decode_stalls_nobody_else(
    served: Path, launch: Callable[..., Any], good: bytes, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    options = ("--runtime", "onnxruntime-cpu", "--deadline", "300")
    live = launch(served, *options, python=SLOW_DECODE.format(gate=str(gate)))
    answers: list[str] = []

    def ask(image: bytes, name: str) -> None:
        with urllib.request.urlopen(f"{live.url}/classify", image, timeout=300) as answer:
            answers.append(f"{name} {answer.status}")

    slow = threading.Thread(target=ask, args=(good + b"slow", "slow"))
    slow.start()
    others = [threading.Thread(target=ask, args=(good, "other")) for _ in range(8)]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    assert answers == ["other 200"] * 8
    gate.touch()
    slow.join()
    assert answers[-1] == "slow 200"


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered_before_the_end(
    served: Path, launch: Callable[..., Any], good: bytes, by: int, tmp_path: Path
) -> None:
    barrier = tmp_path / "barrier"
    options = ("--runtime", "onnxruntime-cpu", "--deadline", "300", "--grace", "300")
    live = launch(served, *options, python=BARRED_MODEL.format(barrier=str(barrier)))
    barrier.touch()
    statuses: list[int] = []

    def ask() -> None:
        with urllib.request.urlopen(f"{live.url}/classify", good, timeout=300) as answer:
            statuses.append(answer.status)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    arrived = 'mldr_stage_seconds_count{stage="preprocess"} 4.0'
    while arrived not in urllib.request.urlopen(f"{live.url}/metrics").read().decode():
        time.sleep(0.05)
    assert statuses == []
    live.process.send_signal(by)
    while accepts(live.port):  # until it has begun to stop
        time.sleep(0.05)
    assert statuses == [] and live.process.poll() is None
    barrier.unlink()
    status, said = live.stop()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 4
    assert status == 0 and "Traceback" not in said, said


def test_overload_refuses_what_it_cannot_hold_and_answers_the_rest(
    served: Path, launch: Callable[..., Any], good: bytes, bundle: Bundle
) -> None:
    code = SLOW_MODEL.format(seconds=0.05)
    options = ("--runtime", "onnxruntime-cpu", "--max-batch", "1", "--max-queue", "4")
    live = launch(served, *options, python=code)
    right = bundle.manifest.labels[bundle.golden.logits[0].argmax()]
    answers: list[tuple[int, str]] = []

    def ask() -> None:
        for _ in range(4):
            try:
                with urllib.request.urlopen(f"{live.url}/classify", good, timeout=30) as answer:
                    found = json.loads(answer.read())["predictions"][0]["label"]
                    answers.append((answer.status, found))
            except urllib.error.HTTPError as error:
                answers.append((error.code, error.headers["Retry-After"]))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 64 and {status for status, _ in answers} == {200, 503}
    assert {said for status, said in answers if status == 200} == {right}
    assert {said for status, said in answers if status == 503} == {"1"}
    status, said = live.stop()
    assert status == 0 and "Traceback" not in said, said


def test_serving_loads_no_torch(served: Path, launch: Callable[..., Any], good: bytes) -> None:
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('TORCH', 'torch' in sys.modules, file=sys.stderr))\n"
        "from mldr_deploy.cli import main\n"
        "main()\n"
    )
    live = launch(served, python=code)
    urllib.request.urlopen(f"{live.url}/classify", good, timeout=30).close()
    status, said = live.stop()
    assert status == 0 and "TORCH False" in said
