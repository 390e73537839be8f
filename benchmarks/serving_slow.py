"""What 200 slow connections cost everybody else, and a soak.

    python benchmarks/serving_slow.py BUNDLE [--seconds 5] [--rounds 5] [--soak 0]

Uploads in a closed loop of 4 clients, in rounds: without and with 200 connections that send a
16 MiB body at a byte a second, a head at a line a second, or nothing. A connection that the server
cuts is opened again. Ratios are of a round's two p99, medians over rounds. ``--soak`` goes on with
the slow ones for so many seconds and tells memory and p99 of every part. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving import Result, Server, load, ours

SLOW = {
    "body": (b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 16777216\r\n\r\n", b"x"),
    "head": (b"POST /classify HTTP/1.1\r\nHost: x\r\n", b"X-More: 1\r\n"),
    "silence": (b"", b""),
}
CLIENTS = 4
SOAK_PARTS = 6


def opened(port: int, kind: str) -> socket.socket:
    """A connection that has begun to be slow."""
    line = socket.create_connection(("127.0.0.1", port), timeout=30)
    line.sendall(SLOW[kind][0])
    line.setblocking(False)
    return line


def cut(line: socket.socket) -> bool:
    """Whether the server has closed the connection; what it said is thrown away."""
    try:
        while line.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


@contextlib.contextmanager
def slow_connections(port: int, count: int) -> Iterator[list[int]]:
    """``count`` of them while it lasts; yields a list of one number, those that were cut."""
    kinds = ["body", "body", *SLOW]
    lines = [(kinds[k % len(kinds)], opened(port, kinds[k % len(kinds)])) for k in range(count)]
    ended, cuts = threading.Event(), [0]

    def trickle() -> None:
        while not ended.wait(1.0):
            for k, (kind, line) in enumerate(lines):
                if cut(line):
                    cuts[0] += 1
                    line.close()
                    lines[k] = (kind, opened(port, kind))
                with contextlib.suppress(OSError):
                    lines[k][1].send(SLOW[kind][1])

    sender = threading.Thread(target=trickle)
    sender.start()
    try:
        yield cuts
    finally:
        ended.set()
        sender.join()
        for _, line in lines:
            line.close()


def measured(server: Server, bundle: Path, seconds: float) -> Result:
    """Load, and the server's memory after it."""
    result = load(server, bundle, "upload", seconds, clients=CLIENTS)
    return result | {"memory_mib": server.memory()}


def main() -> None:
    """Measure, print for people, end with the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--soak", type=float, default=0)
    options = parser.parse_args()
    rounds: list[tuple[Result, Result]] = []
    soak: list[Result] = []
    with ours(options.bundle, 8) as server:
        measured(server, options.bundle, 1)  # warm-up
        for _ in range(options.rounds):
            without = measured(server, options.bundle, options.seconds)
            with slow_connections(server.port, options.connections) as cuts:
                beside = measured(server, options.bundle, options.seconds)
            rounds.append((without, beside | {"cut": cuts[0]}))
            print(f"p99 ms without {without['p99_ms']:.1f}  beside {beside['p99_ms']:.1f}"
                  f"  statuses {beside['statuses']}  cut {cuts[0]}", flush=True)  # fmt: skip
        if options.soak:
            with slow_connections(server.port, options.connections) as cuts:
                for _ in range(SOAK_PARTS):
                    soak.append(measured(server, options.bundle, options.soak / SOAK_PARTS))
                    told = {key: soak[-1][key] for key in ("p99_ms", "memory_mib", "statuses")}
                    print(f"soak {told}  cut {cuts[0]}", flush=True)
    whole: dict[str, Any] = {"load_average": os.getloadavg(), "connections": options.connections}
    for key in ("p50_ms", "p99_ms", "throughput"):
        ratios = [after[key] / before[key] for before, after in rounds]
        whole[f"{key} beside over without"] = round(statistics.median(ratios), 3)
    print(json.dumps(whole | {"rounds": rounds, "soak": soak}))


if __name__ == "__main__":
    main()
