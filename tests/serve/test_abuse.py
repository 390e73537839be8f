"""Hostile clients against a live server: never a 5xx, never a hang, memory bounded."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

MODEL = "test_resnet"
MIB = 1 << 20
LIMITS = ("--runtime", "onnxruntime-cpu", "--max-megapixels", "8", "--body-timeout", "1.5")


@pytest.fixture(scope="module")
def hostile(beside: Callable[[str], ModuleType]) -> ModuleType:
    """The generator of attacks."""
    return beside("hostile")


class Client:
    """One connection that is kept while it lasts."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = self._fresh()

    def _fresh(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)

    def send(self, attack: Any) -> int | None:
        """The status; None when the client hung up itself."""
        if attack.cut is not None:
            return self._hang_up(attack)
        for attempt in range(2):
            try:
                self._connection.request("POST", attack.path, attack.body, attack.headers)
                answer = self._connection.getresponse()
                content = answer.read()
            except (http.client.HTTPException, ConnectionError):
                if attempt:
                    raise
                self._connection.close()  # the server had closed it; a fresh one must do
                self._connection = self._fresh()
                continue
            if answer.status != 200:
                assert json.loads(content)["error"], attack.kind
            return answer.status
        raise AssertionError("unreachable")

    def _hang_up(self, attack: Any) -> None:
        head = "".join(f"{name}: {value}\r\n" for name, value in attack.headers.items())
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as line:
            line.sendall(
                f"POST {attack.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(attack.body)}\r\n"
                f"{head}\r\n".encode()
                + attack.body[: attack.cut]
            )


def fuzz(live: Any, hostile: ModuleType, good: bytes, label: str, count: int) -> Counter[str]:
    """Send ``count`` attacks over two connections at a time; every 50th request is honest."""
    seen: Counter[str] = Counter()
    problems: list[str] = []
    honest = hostile.Attack("honest", "/classify", good, good=True)

    def sender(part: int) -> None:
        rng = np.random.default_rng(part)
        client = Client(live.port)
        for k in range(count // 2):
            attack = honest if k % 50 == 49 else hostile.attack(rng, MODEL)
            try:
                status = client.send(attack)
            except Exception as error:
                problems.append(f"{attack.kind}: {error!r}")
                return
            seen[f"{attack.kind} {status}"] += 1
            if status is not None and (status >= 500 or (attack.good and status != 200)):
                problems.append(f"{attack.kind} was answered {status}: {attack.body[:60]!r}")

    threads = [threading.Thread(target=sender, args=(part,)) for part in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert classified(live, good) == label
    return seen


def classified(live: Any, good: bytes) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=30)
    connection.request("POST", "/classify", good)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return str(answer["predictions"][0]["label"])


@pytest.fixture
def label(bundle: Any) -> str:
    return str(bundle.manifest.labels[bundle.golden.logits[0].argmax()])


def whole(live: Any, hostile: ModuleType, good: bytes, label: str, count: int) -> Counter[str]:
    seen = fuzz(live, hostile, good, label, count // 2)  # every code path has its memory now
    before = live.memory()
    seen += fuzz(live, hostile, good, label, count // 2)  # a leak would go on
    grown = live.memory() - before
    assert grown < 200 * MIB, f"memory grew by {grown / MIB:.0f} MiB"
    code, said = live.stop()
    assert code == 0 and "Traceback" not in said, said[-3000:]
    return seen


def test_300_hostile_requests(
    served: Path, launch: Callable[..., Any], hostile: ModuleType, good: bytes, label: str
) -> None:
    seen = whole(launch(served, *LIMITS), hostile, good, label, 300)
    assert {"valid 200", "bomb 413", "stranger 415", "damaged 400", "wrong tensor 400"} <= set(seen)
    assert {"valid, compressed 200", "damaged and compressed 400"} <= set(seen)


@pytest.mark.slow
def test_5000_hostile_requests(
    served: Path, launch: Callable[..., Any], hostile: ModuleType, good: bytes, label: str
) -> None:
    seen = whole(launch(served, *LIMITS), hostile, good, label, 5000)
    assert seen.total() == 5000 and sum("None" in key for key in seen) >= 1


def line(live: Any, text: str) -> socket.socket:
    connected = socket.create_connection(("127.0.0.1", live.port), timeout=20)
    connected.sendall(text.encode())
    return connected


def test_slow_and_endless_bodies(
    served: Path, launch: Callable[..., Any], good: bytes, label: str
) -> None:
    live = launch(served, *LIMITS, "--max-upload-mib", "1")
    head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(good)}\r\n\r\n"
    waiting = [line(live, head) for _ in range(20)]  # says nothing more
    assert classified(live, good) == label  # others are served meanwhile
    for connected in waiting:
        assert b"408" in connected.recv(4096).split(b"\r\n")[0]
        connected.close()
    slow = line(live, head)
    for k in range(0, len(good), len(good) // 4 + 1):  # slow, but in time
        slow.sendall(good[k : k + len(good) // 4 + 1])
        time.sleep(0.1)
    assert b"200 OK" in slow.recv(4096)
    endless = line(live, "POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    before = live.memory()
    endless.settimeout(20)
    with contextlib.suppress(ConnectionError, TimeoutError):
        for _ in range(4000):  # 250 MiB, where one is taken
            endless.sendall(piece)
    with contextlib.suppress(ConnectionError):
        assert b"413" in endless.recv(4096).split(b"\r\n")[0]
    assert live.memory() - before < 60 * MIB
    assert classified(live, good) == label
    code, said = live.stop()
    assert code == 0 and "Traceback" not in said, said[-3000:]


def test_the_openapi_document_holds(live: Any) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    schema = schemathesis.openapi.from_url(f"{live.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 9
    for operation in operations:

        @settings(
            max_examples=6,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def holds(case: Any) -> None:
            # No schema says which bytes are an image: what it allows may still be refused.
            case.call_and_validate(timeout=30, excluded_checks=[positive_data_acceptance])

        holds()
