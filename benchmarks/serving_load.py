"""Load for benchmarks/serving.py: BUNDLE SERVER FORM PORT --seconds S (--clients N | --rate R).

With --clients, so many connections each ask again as soon as they are answered; with --rate,
requests arrive as a Poisson stream and nobody waits for anybody. Every answer is compared with the
golden logits. Prints one JSON object; times in milliseconds, percentiles by nearest rank.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import math
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".src"))

from mldr_deploy.bundle.reader import Bundle, open_bundle

MOST_CONNECTIONS = 400


def form(kind: str, data: bytes) -> tuple[bytes, str]:
    """A multipart form as LitServe's API here takes it."""
    part = b'--b\r\nContent-Disposition: form-data; name="'
    body = part + b'kind"\r\n\r\n' + kind.encode() + b"\r\n"
    body += part + b'file"; filename="x"\r\n\r\n' + data + b"\r\n--b--\r\n"
    return body, "Content-Type: multipart/form-data; boundary=b\r\n"


def requests(bundle: Bundle, server: str, kind: str) -> list[bytes]:
    """One whole HTTP request for each golden image."""
    made = []
    for source, one in zip(bundle.golden.sources, bundle.golden.inputs, strict=True):
        if kind == "upload":
            buffer = io.BytesIO()
            Image.fromarray(source).save(buffer, "PNG")
            data = buffer.getvalue()
        else:
            data = one.astype("<f4").tobytes()
        if server == "litserve":
            path, (body, headers) = "/predict", form(kind, data)
        elif kind == "upload":
            path, body, headers = f"/classify?top_k={len(bundle.manifest.labels)}", data, ""
        else:
            path, body, headers = tensor(bundle, data)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        made.append(head.encode() + body)
    return made


def tensor(bundle: Bundle, data: bytes) -> tuple[str, bytes, str]:
    """(path, body, headers) in the protocol's binary form."""
    manifest = bundle.manifest
    one = {
        "name": manifest.input.name,
        "shape": [1, *manifest.input.shape[1:]],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [one], "parameters": {"binary_data_output": True}}).encode()
    model = manifest.model["name"]
    header = f"Inference-Header-Content-Length: {len(head)}\r\n"
    return f"/v2/models/{model}/infer", head + data, header


class Load:
    """Connections to one server and what came back."""

    def __init__(self, bundle: Bundle, server: str, kind: str, port: int) -> None:
        self.requests = requests(bundle, server, kind)
        self.top = bundle.golden.logits.argmax(1)
        self.server, self.kind, self.port = server, kind, port
        self.statuses: Counter[str] = Counter()
        self.times: list[float] = []
        self.wrong = 0
        self.free: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        self.open = 0

    async def ask(self, k: int, arrived: float | None = None) -> None:
        """Send request ``k``; its time counts from ``arrived``."""
        k %= len(self.requests)
        began = time.perf_counter() if arrived is None else arrived
        line = self.free.popleft() if self.free else None
        if line is None:
            if self.open >= MOST_CONNECTIONS:
                self.statuses["not sent"] += 1
                return
            self.open += 1
            try:
                line = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                self.open -= 1
                self.statuses["no connection"] += 1
                return
        reader, writer = line
        try:
            writer.write(self.requests[k])
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            self.open -= 1
            writer.close()
            self.statuses["reset"] += 1
            return
        status = head[9:12].decode()
        self.statuses[status] += 1
        if status == "200":
            self.times.append(time.perf_counter() - began)
            self.wrong += int(self.found(head, body) != self.top[k])
        self.free.append(line)

    def found(self, head: bytes, body: bytes) -> int:
        """The class that the answer names first."""
        if self.server == "litserve":
            return int(np.argmax(json.loads(body)["logits"]))
        if self.kind == "upload":
            return int(json.loads(body)["predictions"][0]["index"])
        at = int(head.partition(b"inference-header-content-length: ")[2].partition(b"\r\n")[0])
        return int(np.frombuffer(body, "<f4", offset=at).argmax())

    async def closed(self, clients: int, seconds: float) -> float:
        """``clients`` in a closed loop; the seconds that it took."""
        began = time.perf_counter()

        async def one(k: int) -> None:
            while time.perf_counter() - began < seconds:
                await self.ask(k)
                k += clients

        await asyncio.gather(*(one(k) for k in range(clients)))
        return time.perf_counter() - began

    async def stream(self, rate: float, seconds: float) -> tuple[float, int]:
        """A Poisson stream; (seconds until the last answer, requests offered)."""
        rng = np.random.default_rng(0)
        arrivals = np.cumsum(rng.exponential(1 / rate, math.ceil(rate * seconds)))
        began = time.perf_counter()
        tasks = []
        for k, at in enumerate(arrivals):
            wait = began + at - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            elif k % 8 == 0:
                await asyncio.sleep(0)
            tasks.append(asyncio.create_task(self.ask(k, began + at)))
        await asyncio.gather(*tasks)
        return time.perf_counter() - began, len(arrivals)


def percentile(times: list[float], percent: float) -> float:
    """Nearest rank, milliseconds; -1 without times."""
    if not times:
        return -1.0
    return 1000 * sorted(times)[max(0, math.ceil(percent / 100 * len(times)) - 1)]


async def main() -> None:
    """Put the load on and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("server")
    parser.add_argument("form")
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--clients", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0)
    asked = parser.parse_args()
    load = Load(open_bundle(asked.bundle, verify=False), asked.server, asked.form, asked.port)
    result: dict[str, Any] = {}
    if asked.clients:
        wall = await load.closed(asked.clients, asked.seconds)
    else:
        wall, offered = await load.stream(asked.rate, asked.seconds)
        result["offered"] = offered / wall
    result |= {
        "throughput": len(load.times) / wall,
        "answered": len(load.times),
        "statuses": dict(load.statuses),
        "wrong": load.wrong,
        "p50_ms": percentile(load.times, 50),
        "p99_ms": percentile(load.times, 99),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    uvloop.run(main())  # what the load costs is taken from the server beside it
