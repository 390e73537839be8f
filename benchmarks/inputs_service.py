"""Requests that ordinary clients send."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from inputs_situation import Situation, digit, digits_run


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(bundle: str, *words: str) -> Iterator[Callable[..., Any]]:
    """``ask(method, path, ...)`` of a server of ``bundle``."""
    import httpx

    port = free_port()
    with Path("serve.txt").open("wb") as log:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mldr_deploy",
                "serve",
                bundle,
                "--port",
                str(port),
                "--threads",
                "1",
                "--allow-failed",
                *words,
            ],
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30)
    try:
        for _ in range(240):
            try:
                if client.get("/v2/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if server.poll() is not None:
                raise RuntimeError(Path("serve.txt").read_text(errors="replace").strip()[-300:])
            time.sleep(0.25)

        def ask(method: str, path: str, file: bytes | None = None, **more: Any) -> Any:
            if file is not None:
                more["files"] = {"file": ("picture.png", file)}
            return client.request(method, path, **more)

        yield ask
    finally:
        client.close()
        server.terminate()
        server.wait(30)


_BUNDLE: list[Path] = []  # one run for all requests


def bundle() -> str:
    """A bundle of the digits, made once."""
    import shutil
    import tempfile

    if not _BUNDLE:
        folder = Path(tempfile.mkdtemp())
        home = Path.cwd()
        os.chdir(folder)
        done = digits_run()
        os.chdir(home)
        if not (folder / "run/bundle/manifest.json").is_file():
            raise RuntimeError(done)
        _BUNDLE.append(folder / "run/bundle")
    shutil.copytree(_BUNDLE[0], "b")
    return "b"


def png(label: int = 1) -> bytes:
    digit(label, 0).save("p.png")
    return Path("p.png").read_bytes()


def request(method: str, path: str, *words: str, **more: Any) -> Callable[[], str]:
    def probe() -> str:
        with serving(bundle(), *words) as ask:
            answer = ask(method, path, **more)
            allowed = answer.headers.get("access-control-allow-origin", "")
            return f"{answer.status_code} {allowed}{answer.text[:160]}"

    return probe


def two_files(second: bytes | None) -> Callable[[], str]:
    def probe() -> str:
        files = [
            ("file", ("a.png", png(1))),
            ("file", ("b.png", png(2) if second is None else second)),
        ]
        with serving(bundle()) as ask:
            answer = ask("POST", "/classify?top_k=1", files=files)
            labels = answer.text.count('"label"')
            return f"{answer.status_code}, {labels} answered: {answer.text[:160]}"

    return probe


def tensors() -> dict[str, Any]:
    manifest = json.loads(Path("b/manifest.json").read_text(encoding="utf-8"))
    side = manifest["preprocessing"]["size"]
    pixels = np.zeros((1, 3, *side), np.float32)
    name = manifest["input"]["name"]
    return {
        "inputs": [
            {
                "name": name,
                "shape": list(pixels.shape),
                "datatype": "FP32",
                "data": pixels.ravel().tolist(),
            }
        ]
    }


def compressed(coding: str, squeeze: Callable[[bytes], bytes]) -> Callable[[], str]:
    def probe() -> str:
        with serving(bundle()) as ask:
            name = model_name()
            body = squeeze(json.dumps(tensors()).encode())
            answer = ask(
                "POST",
                f"/v2/models/{name}/infer",
                content=body,
                headers={"Content-Encoding": coding, "Content-Type": "application/json"},
            )
            return f"{answer.status_code} {answer.text[:160]}"

    return probe


def model_name() -> str:
    """What the service calls the model of ./b."""
    manifest = json.loads(Path("b/manifest.json").read_text(encoding="utf-8"))
    return str(manifest["model"]["name"])


def of_model(method: str, tail: str, **more: Any) -> Callable[[], str]:
    def probe() -> str:
        with serving(bundle()) as ask:
            answer = ask(method, f"/v2/models/{model_name()}{tail}", **more)
            return f"{answer.status_code} {answer.text[:160]}"

    return probe


HEAD = ("/v2/health/ready", "/v2/health/live", "/metrics", "/docs", "/v2", "/openapi.json")
SITUATIONS = [
    Situation(
        "forms", "two pictures in one form", r"200, 2 answered|4\d\d, 0 answered", two_files(None)
    ),
    Situation(
        "forms",
        "a picture and a text in one form",
        r"4\d\d, 0 answered|200, 1 answered.*(refus|error)",
        two_files(b"hostname"),
    ),
    Situation(
        "requests",
        "unknown parameter /classify?topk=1",
        r"4\d\d.*topk",
        lambda: _classify("/classify?topk=1"),
    ),
    *(Situation("requests", f"HEAD {path}", r"^200", request("HEAD", path)) for path in HEAD),
    Situation("requests", "GET /", r"^(200|30\d)", request("GET", "/")),
    Situation("requests", "GET /healthz", r"^200", request("GET", "/healthz")),
    Situation("requests", "GET /health", r"^200", request("GET", "/health")),
    Situation(
        "requests",
        "--cors and an Origin",
        r"^200 https://a\.example",
        request(
            "GET", "/v2", "--cors", "https://a.example", headers={"Origin": "https://a.example"}
        ),
    ),
    Situation("requests", "a body in gzip", r"^200", compressed("gzip", gzip.compress)),
    Situation("requests", "a body in deflate", r"^200", compressed("deflate", zlib.compress)),
    Situation(
        "requests",
        "a gzip that inflates to 1 GB",
        r"^413",
        compressed("gzip", lambda body: gzip.compress(bytes(1 << 30), 1)),
    ),
    Situation(
        "requests",
        "configuration of the model",
        r"^200.*max_batch_size|^200",
        of_model("GET", "/config"),
    ),
    Situation(
        "requests", "statistics of the model", r"^200.*model_stats", of_model("GET", "/stats")
    ),
    Situation(
        "requests",
        "index of the repository",
        r"^200.*READY",
        request("POST", "/v2/repository/index"),
    ),
]


def _classify(path: str) -> str:
    with serving(bundle()) as ask:
        answer = ask("POST", path, file=png())
        return f"{answer.status_code} {answer.text[:160]}"
