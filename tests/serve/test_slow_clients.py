"""Clients that are slow, silent or endless: they are cut, and nobody else is refused for them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from uvicorn.config import Config
from uvicorn.server import ServerState

from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.serve.body import read_body
from mldr_deploy.serve.byte_budget import PACE, ByteBudget
from mldr_deploy.serve.connection_guard import ConnectionGuard
from mldr_deploy.serve.guarded_protocol import GuardedH11, guarded_httptools
from mldr_deploy.serve.request_refusal import RequestRefusal
from mldr_deploy.serve.service_config import ServeConfig

MIB = 1 << 20
LIMITS = ("--runtime", "onnxruntime-cpu", "--body-pace", "2", "--head-timeout", "2")
LONG = "Content-Length: 16777216\r\n\r\n"
INFER = "/v2/models/test_resnet/infer"
# What has come of a request when its client turns slow, and what it goes on with, again and again.
SLOW = {
    "body": (f"POST /classify HTTP/1.1\r\nHost: x\r\n{LONG}", b"x"),
    "chunks": ("POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
               b"1\r\nx\r\n"),
    "tensors": (f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n"
                "Inference-Header-Content-Length: 9\r\n\r\n", b"x"),
    "JSON": (f"POST {INFER} HTTP/1.1\r\nHost: x\r\n{LONG}", b" "),
    "index": ("POST /v2/repository/index HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n",
              b" "),
    "answered": (f"GET /health HTTP/1.1\r\nHost: x\r\n{LONG}", b"x"),
    "head": ("POST /classify HTTP/1.1\r\nHost: x\r\n", b"X-More: 1\r\n"),
    "second head": ("GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"G"),
    "silence": ("", b""),
    "half-closed": (f"POST /classify HTTP/1.1\r\nHost: x\r\n{LONG}", b""),
}  # fmt: skip


def slow_client(port: int, kind: str) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port), timeout=60)
    line.sendall(SLOW[kind][0].encode())
    if kind == "half-closed":
        line.shutdown(socket.SHUT_WR)
    return line


def trickle(lines: list[tuple[str, socket.socket]], ended: threading.Event) -> None:
    """A little of each request, five times a second."""
    while not ended.wait(0.2):
        for kind, line in lines:
            with contextlib.suppress(OSError):
                line.send(SLOW[kind][1])


def all_said(line: socket.socket) -> bytes:
    """What the server said until it closed the connection."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while piece := line.recv(1 << 16):
            said += piece
    return said


@pytest.mark.slow
def test_200_slow_connections_cost_nobody_an_answer(
    served: Path, launch: Callable[..., Any], ask: Callable[..., Any], good: bytes, bundle: Bundle
) -> None:
    live = launch(served, *LIMITS)
    label = bundle.manifest.labels[bundle.golden.logits[0].argmax()]
    assert ask(live, "POST", "/classify", good).status == 200
    before = live.memory()
    kinds = [*SLOW, *["body"] * 10] * 10
    lines = [(kind, slow_client(live.port, kind)) for kind in kinds]
    ended = threading.Event()
    sender = threading.Thread(target=trickle, args=(lines, ended))
    sender.start()
    try:
        answers = [ask(live, "POST", "/classify", good) for _ in range(20)]
        assert [answer.status for answer in answers] == [200] * 20
        assert {answer.json["predictions"][0]["label"] for answer in answers} == {label}
        said = [(kind, all_said(line)) for kind, line in lines]  # each is closed by the server
    finally:
        ended.set()
        sender.join()
    assert live.memory("VmHWM") - before < 100 * MIB
    firsts = {(kind, text[9:12].decode()) for kind, text in said}
    late = {"body", "chunks", "tensors", "JSON", "index", "head"}
    assert {kind for kind, status in firsts if status == "408"} == late
    assert {kind for kind, status in firsts if status == "200"} == {"answered", "second head"}
    assert {status for kind, status in firsts} == {"200", "408", ""}
    code, log = live.stop()
    assert code == 0 and log == "", log


@pytest.mark.slow
def test_a_new_connection_takes_the_place_of_a_silent_one(
    served: Path, launch: Callable[..., Any], ask: Callable[..., Any], good: bytes
) -> None:
    live = launch(served, "--runtime", "onnxruntime-cpu", "--max-connections", "8")
    silent = [slow_client(live.port, "silence") for _ in range(8)]
    for _ in range(3):
        assert ask(live, "POST", "/classify", good).status == 200
    assert all_said(silent[0]) == b""  # the oldest was closed
    for line in silent:
        line.close()


# The guard of a connection, on a transport that only writes down what happens.


class Wire(asyncio.Transport):
    """A client of ``address``; ``full`` where it reads nothing."""

    def __init__(self, address: str = "10.0.0.1") -> None:
        super().__init__({"peername": (address, 1)})
        self.said, self.closed, self.aborted = b"", False, False
        self.unread = 0

    def write(self, data: Any) -> None:
        assert not self.closed
        self.said += data

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return self.unread

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with its size when the body has come."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine, got %d" % size})


@pytest.fixture(params=["h11", "httptools"])
def kind(request: pytest.FixtureRequest) -> type[ConnectionGuard]:
    """Each protocol of uvicorn's that is installed, guarded."""
    if request.param == "h11":
        return GuardedH11
    pytest.importorskip(
        "httptools", reason='httptools is not here: pip install "mldr-deploy[serve]"'
    )
    return guarded_httptools()


class Connections:
    """Guarded connections of one server."""

    def __init__(self, kind: type[ConnectionGuard], **limits: Any) -> None:
        self.kind = kind
        self.limits = ServeConfig(**limits)
        self.config = Config(echo, log_config=None)
        self.state = ServerState()

    def open(self, address: str = "10.0.0.1") -> tuple[ConnectionGuard, Wire]:
        connection = self.kind(self.limits, self.config, self.state, {})
        wire = Wire(address)
        wire.set_protocol(connection)
        connection.connection_made(wire)
        return connection, wire


def looped(test: Callable[..., Any]) -> Callable[..., None]:
    """``test`` in an event loop."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


Kind = type[ConnectionGuard]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@looped
async def test_a_head_is_bounded_in_time_and_bytes(kind: Kind) -> None:
    now = asyncio.get_running_loop().time()
    connection, wire = Connections(kind, head_timeout=3).open()
    connection.data_received(b"GET / HT")
    connection.cut_late(now + 2)
    assert not wire.closed
    connection.cut_late(now + 4)
    head, _, body = wire.said.partition(b"\r\n\r\n")
    assert wire.closed and head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert json.loads(body) == {"error": "the request's head took more than 3 seconds"}


@looped
async def test_a_connection_of_a_load_balancers_pool_is_kept_for_the_next_request(
    kind: Kind,
) -> None:
    loop = asyncio.get_running_loop()
    connection, wire = Connections(kind, head_timeout=3).open()
    connection.data_received(GET)
    while b"fine" not in wire.said:
        await asyncio.sleep(0)
    connection.cut_late(loop.time() + 60)
    assert not wire.closed
    timer: Any = connection.timeout_keep_alive_task
    assert 60 < timer.when() - loop.time() <= 75
    connection.data_received(b"G")
    connection.cut_late(loop.time() + 2)
    assert not wire.closed
    connection.cut_late(loop.time() + 4)
    assert wire.closed and b"HTTP/1.1 408" in wire.said


@looped
async def test_endless_headers_and_an_endless_header_are_cut(kind: Kind) -> None:
    for piece in (b"X-More: 1\r\n" * 1000, b"x" * 10_000):
        connection, wire = Connections(kind).open()
        connection.data_received(b"GET / HTTP/1.1\r\nX: ")
        pieces = 0
        while not wire.closed and pieces < 100:
            connection.data_received(piece)
            pieces += 1
        assert pieces < 20 and b"has more than 65536 bytes" in wire.said


@looped
async def test_what_is_no_http_is_told_as_json(kind: Kind) -> None:
    connection, wire = Connections(kind).open()
    connection.data_received(b"\x16\x03\x01\x02\x00")
    assert wire.closed and b'{"error": "this is not HTTP/1.1, or' in wire.said


@looped
async def test_endless_trailers_and_framing_are_cut_and_small_chunks_are_not(kind: Kind) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection, wire = Connections(kind).open()
    connection.data_received(head)
    for _ in range(20):
        connection.data_received(b"1\r\nx\r\n" * 1000)
    assert not wire.closed
    connection.data_received(b"0\r\n")
    for _ in range(5):
        connection.data_received(b"X-More: 1\r\n" * 2000) if not wire.closed else None
    assert wire.aborted and wire.said == b""


@looped
async def test_many_pipelined_requests_are_answered_and_a_flood_is_cut(kind: Kind) -> None:
    connection, wire = Connections(kind).open()
    connection.data_received(GET * 10)
    while wire.said.count(b"fine") < 10:
        await asyncio.sleep(0)
    connection, wire = Connections(kind).open()
    connection.data_received(GET * 10_000)
    assert wire.aborted or connection.flow.read_paused
    assert len(getattr(connection, "pipeline", ())) <= 16  # h11 reads them one by one


@looped
async def test_a_damaged_request_behind_another_is_no_answer_to_that_one(kind: Kind) -> None:
    connection, wire = Connections(kind).open()
    connection.data_received(GET + b"\0\0\0\0\r\n\r\n")
    assert wire.said == b""
    for _ in range(20):
        await asyncio.sleep(0)
    assert wire.closed and b"HTTP/1.1 400" not in wire.said.partition(b"fine")[0]


@looped
async def test_a_request_that_offers_http2_keeps_its_body(kind: Kind) -> None:
    offer = b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\nUpgrade: h2c"
    framings = {
        b"Content-Length: 5": b"hello",
        b"Transfer-Encoding: chunked": b"5\r\nhello\r\n0\r\n\r\n",
        b"X: 1": b"",
    }
    for framing, body in framings.items():
        request = b"\r\n".join([b"POST /a?b=%20 HTTP/1.1", offer, framing, b"", body])
        for size in (1, 7, len(request)):
            connection, wire = Connections(kind).open()
            for data in (request, GET, request):  # and those behind it are read too
                for k in range(0, len(data), size):
                    connection.data_received(data[k : k + size])
                    await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)
            length = 5 if body else 0
            sizes = re.findall(rb"got (\d)", wire.said)
            assert [int(digit) for digit in sizes] == [length, 0, length], wire.said


@looped
async def test_an_answer_that_nobody_reads_is_given_up(kind: Kind) -> None:
    now = asyncio.get_running_loop().time()
    connection, wire = Connections(kind, head_timeout=3).open()
    connection.data_received(GET)
    wire.unread = PACE - 1
    connection.cut_late(now + 2)
    assert not wire.closed
    connection.cut_late(now + 4)
    assert wire.aborted
    connection, wire = Connections(kind, head_timeout=3).open()
    wire.close()
    wire.unread = PACE - 1
    connection.cut_late(now + 2)
    assert not wire.aborted
    connection.cut_late(now + 4)
    assert wire.aborted


@looped
async def test_an_answer_that_is_read_slowly_but_steadily_is_read_to_its_end(kind: Kind) -> None:
    now = asyncio.get_running_loop().time()
    connection, wire = Connections(kind, head_timeout=3).open()
    connection.data_received(GET)
    connection.pause_writing()
    for second in range(2, 22, 2):
        wire.unread = 11 * PACE - second // 2 * PACE
        connection.cut_late(now + second)
    assert wire.unread == PACE and not wire.closed
    wire.unread -= 1  # not PACE bytes
    connection.cut_late(now + 22)
    assert not wire.closed
    connection.cut_late(now + 24)
    assert wire.aborted


@looped
async def test_whom_a_new_connection_displaces(kind: Kind) -> None:
    connections = Connections(kind, max_connections=4)
    working, one_address = connections.open("10.0.0.1")
    working.data_received(GET)  # is being answered
    body, second = connections.open("10.0.0.1")
    body.data_received(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
    _, third = connections.open("10.0.0.1")
    _, stranger = connections.open("10.0.0.2")
    connections.open("10.0.0.3")  # the idle one of the crowd goes first
    assert [w.aborted for w in (one_address, second, third, stranger)] == [
        False,
        False,
        True,
        False,
    ]
    connections.open("10.0.0.4")  # then the one that still sends
    assert [w.aborted for w in (one_address, second, stranger)] == [False, True, False]
    assert len(connections.state.connections) == 4
    for connection in [*connections.state.connections]:
        assert isinstance(connection, ConnectionGuard)
        if connection.awaits_head:
            connection.data_received(GET)
    _, fourth = connections.open("10.0.0.5")  # all others are being answered
    assert fourth.aborted and not one_address.aborted


# How slow a body may be, by a clock that jumps to the next event.


def skip_waiting() -> None:
    loop: Any = asyncio.get_running_loop()
    seconds, select = loop.time(), loop._selector.select

    def select_at_once(timeout: float | None) -> Any:
        nonlocal seconds
        seconds += timeout or 0
        return select(0)

    loop.time, loop._selector.select = lambda: seconds, select_at_once


async def body_of(size: int, bytes_a_second: int) -> bytes:
    """What the service reads of a body that comes at this pace."""
    pieces = [bytes(bytes_a_second)] * (size // bytes_a_second)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(1)
        return {"type": "http.request", "body": pieces.pop(), "more_body": bool(pieces)}

    config = ServeConfig()
    request = Request({"type": "http", "headers": []}, receive)
    with ByteBudget(config.max_in_flight).share("a") as share:
        return await read_body(request, config.max_upload, config, share)


@looped
async def test_a_photo_from_a_phone_with_a_weak_signal_is_taken() -> None:
    skip_waiting()
    assert len(await body_of(3_000_000, 20_000)) == 3_000_000
    with pytest.raises(RequestRefusal, match="the body is too slow") as refusal:
        await body_of(3_000_000, 5_000)
    assert refusal.value.status == 408


# Who gives way when bytes are short, by a clock that stands still.


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@contextlib.contextmanager
def shares(budget: ByteBudget, *clients: str) -> Iterator[list[Any]]:
    """A share for each of ``clients``, all being received."""
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(budget.share(client)) for client in clients]
        for share in opened:
            share.timer = asyncio.Timeout(None)
            await_timer(share.timer)
        yield opened
    assert budget.used == 0


def await_timer(timer: Any) -> None:
    timer.reschedule = lambda when: None


@looped
async def test_a_stalled_body_gives_way_and_a_brisk_one_does_not() -> None:
    clock = Clock()
    budget = ByteBudget(10 * PACE, clock)
    with shares(budget, "a", "a", "a") as (stalled, brisk, newcomer):
        stalled.grow(6 * PACE)
        clock.seconds = 5.0
        brisk.grow(3 * PACE)
        newcomer.grow(2 * PACE)  # 11 in all
        assert stalled.gave_way and not brisk.gave_way and budget.used == 5 * PACE
        with pytest.raises(RequestRefusal, match="bytes of other requests") as refusal:
            stalled.grow(6 * PACE + 1)
        assert refusal.value.status == 503
        with pytest.raises(RequestRefusal):
            newcomer.grow(8 * PACE)  # the brisk one of the same client stays
        assert not brisk.gave_way


@looped
async def test_one_client_does_not_take_the_bytes_of_all() -> None:
    budget = ByteBudget(10 * PACE, Clock())
    with shares(budget, "greedy", "greedy", "modest") as (first, second, modest):
        first.grow(6 * PACE)
        second.grow(4 * PACE)
        modest.grow(3 * PACE)
        assert first.gave_way and not second.gave_way
        with pytest.raises(RequestRefusal):  # it holds more than the other client by now
            modest.grow(7 * PACE)
        assert not second.gave_way


@looped
async def test_what_is_being_computed_stays() -> None:
    clock = Clock()
    budget = ByteBudget(10 * PACE, clock)
    with shares(budget, "greedy", "modest") as (computed, modest):
        computed.grow(9 * PACE)
        computed.timer = None
        clock.seconds = 60.0
        with pytest.raises(RequestRefusal):
            modest.grow(2 * PACE)
        assert not computed.gave_way and budget.used == 9 * PACE


@looped
async def test_a_request_alone_may_be_larger_than_the_budget() -> None:
    budget = ByteBudget(10 * PACE, Clock())
    with shares(budget, "a") as (alone,):
        alone.grow(11 * PACE)
        assert budget.used == 11 * PACE
