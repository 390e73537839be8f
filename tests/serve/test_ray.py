"""The service on Ray Serve: replicas that are refused in words, overloaded, killed."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import re
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mldr_deploy.bundle import ray_cluster
from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.cli import main
from mldr_deploy.errors import MldrError
from mldr_deploy.serve.ray import ray_service
from mldr_deploy.serve.ray.proxy import RetryAfter
from mldr_deploy.serve.ray.ray_config import RayConfig
from mldr_deploy.serve.service_config import ServeConfig
from mldr_deploy.serve.service_metrics import Metrics

ON_RAY = ("--engine", "ray", "--port", "0", "--runtime", "onnxruntime-cpu")


def refused(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["serve", *words])
    assert result.stdout == "" and result.exit_code != 0, result.output
    return result.exit_code, result.stderr


def test_without_ray_it_is_one_line(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    assert refused(str(served), *ON_RAY) == (
        2,
        'Error: --engine ray needs Ray Serve: pip install "mldr-deploy[serve,ray]"\n',
    )


def test_rays_options_need_ray_and_must_fit(served: Path) -> None:
    code, said = refused(str(served), "--replicas", "2")
    assert code == 2 and "--replicas needs --engine ray." in said
    code, said = refused(str(served), *ON_RAY, "--replicas", "3", "--max-replicas", "2")
    assert code == 1 and "max_replicas 2 is below replicas 3" in said and said.count("\n") == 1


def test_what_one_process_refuses_ray_refuses(
    failed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_service, "require_ray", lambda *_: None)
    code, said = refused(str(failed), *ON_RAY)
    assert code == 1 and "failed its parity gate" in said and said.count("\n") == 1


def test_replicas_that_the_cluster_cannot_hold_are_refused() -> None:
    held = {"CPU": 4.0, "memory": 1e9}
    few = RayConfig(replicas=2)
    assert ray_service._require_room(held, few, 2) == "2 replicas of 2 threads"
    with pytest.raises(MldrError, match="2 replicas: 6 CPUs needed, Ray has 4: take fewer"):
        ray_service._require_room(held, few, 3)
    with pytest.raises(MldrError, match="2 replicas: 1 GPU needed, Ray has 0"):
        ray_service._require_room(held, RayConfig(replicas=2, gpus=0.5), 1)


def test_options_become_rays(bundle: Bundle) -> None:
    config = ServeConfig(threads=2, grace=7)
    fixed = ray_service.deployment_options(RayConfig(replicas=3, max_queued_requests=9), config, 16)
    assert fixed["num_replicas"] == 3 and "autoscaling_config" not in fixed
    assert (fixed["max_ongoing_requests"], fixed["max_queued_requests"]) == (32, 9)
    assert fixed["ray_actor_options"]["num_cpus"] == 2
    grows = ray_service.deployment_options(RayConfig(replicas=1, max_replicas=5), config, 16)
    assert grows["autoscaling_config"] == {
        "min_replicas": 1,
        "max_replicas": 5,
        "target_ongoing_requests": 16,
    }


@pytest.mark.slow
@pytest.mark.parametrize("most", [0, 5])
def test_rays_own_schema_takes_the_options(most: int) -> None:
    serve = pytest.importorskip("ray.serve")
    options = ray_service.deployment_options(
        RayConfig(max_replicas=most), ServeConfig(threads=1), 16
    )
    assert serve.deployment(lambda: None, **options).name == "mldr-deploy"
    with pytest.raises((TypeError, ValueError)):
        serve.deployment(lambda: None, **options, max_queued="x")


def answered(app: Callable[..., Any]) -> tuple[int, dict[bytes, bytes], bytes]:
    """What a client of the proxy gets from ``app``."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(RetryAfter(app)({"type": "http"}, None, send))  # type: ignore[arg-type]
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_a_request_that_the_proxy_gives_up_may_be_repeated() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        pass

    status, headers, body = answered(silent)
    assert status == 503 and headers[b"retry-after"] == b"1"
    assert "try again" in json.loads(body)["error"]

    def answering(status: int, *headers: tuple[bytes, bytes]) -> Callable[..., Any]:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": status, "headers": [*headers]})
            await send({"type": "http.response.body", "body": b"x"})

        return app

    assert answered(answering(503)) == (503, {b"retry-after": b"1"}, b"x")
    ours = answering(503, (b"Retry-After", b"7"))
    assert answered(ours) == (503, {b"Retry-After": b"7"}, b"x")
    assert answered(answering(500)) == (500, {}, b"x")


def test_metrics_name_their_replica() -> None:
    metrics = Metrics("abc")
    metrics.answered("/classify", 200)
    metrics.took("decode", 0.1)
    lines = [line for line in metrics.text().decode().splitlines() if line[0] != "#"]
    assert all('replica="abc"' in line for line in lines)
    assert 'mldr_requests_total{endpoint="/classify",replica="abc",status="200"} 1.0' in lines
    assert "replica" not in Metrics().text().decode()


@dataclass
class Load:
    """Clients that send one image after another and repeat what they are told to repeat."""

    port: int
    image: bytes
    label: str
    repeat: bool
    seen: Counter[str] = field(default_factory=Counter)
    stopped: bool = False
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, clients: int, most: int = 1 << 30) -> None:
        self.threads = [threading.Thread(target=self._ask, args=(most,)) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def stop(self) -> Counter[str]:
        self.stopped = True
        for thread in self.threads:
            thread.join()
        return self.seen

    def _ask(self, most: int) -> None:
        for _ in range(most):
            while not self._once() and self.repeat:
                time.sleep(0.1)
            if self.stopped:
                return

    def _once(self) -> bool:
        """Whether the request is done with."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", "/classify", self.image)
            answer = connection.getresponse()
            body = answer.read()
        except Exception as error:
            self.seen[repr(error)] += 1
            return True
        finally:
            connection.close()
        if answer.status == 200:
            right = json.loads(body)["predictions"][0]["label"] == self.label
            self.seen["right" if right else "wrong"] += 1
            return True
        self.seen[f"{answer.status}, Retry-After {answer.getheader('Retry-After')}"] += 1
        return answer.status != 503


@pytest.fixture
def label(bundle: Bundle) -> str:
    return bundle.manifest.labels[bundle.golden.logits[0].argmax()]


def replicas(live: Any) -> list[Any]:
    import psutil

    found = []
    for process in psutil.Process(live.process.pid).children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::ServeReplica"):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_both_replicas_answer_and_say_who_they_are(on_ray: Any, good: bytes, label: str) -> None:
    assert len(replicas(on_ray)) == 2
    names: set[str] = set()
    for _ in range(60):
        with urllib.request.urlopen(f"{on_ray.url}/classify", good, timeout=60) as answer:
            assert json.loads(answer.read())["predictions"][0]["label"] == label
        with urllib.request.urlopen(f"{on_ray.url}/metrics", timeout=60) as answer:
            names |= set(re.findall(r'mldr_images_total{replica="(\w+)"}', answer.read().decode()))
        if len(names) == 2:
            break
    assert len(names) == 2
    with urllib.request.urlopen(f"{on_ray.url}/openapi.json", timeout=60) as answer:
        assert "/classify" in json.loads(answer.read())["paths"]


@pytest.mark.slow
def test_what_one_process_answers_or_refuses_replicas_do(
    on_ray: Any, ask: Callable[..., Any], good: bytes, label: str
) -> None:
    packed = {"Content-Encoding": "gzip"}
    answer = ask(on_ray, "POST", "/classify?top_k=1", gzip.compress(good), packed)
    assert answer.json["predictions"][0]["label"] == label
    bomb = gzip.compress(bytes(32 << 20))
    assert ask(on_ray, "POST", "/classify", bomb, packed).status == 413
    assert ask(on_ray, "POST", "/classify", good, {"Content-Encoding": "br"}).status == 415
    assert "query.foo" in ask(on_ray, "POST", "/classify?foo=1", good).error
    two = b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n' + good + b"\r\n"
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    assert "2 files" in ask(on_ray, "POST", "/classify", two * 2 + b"--b--\r\n", form).error
    for path in ("/docs", "/openapi.json", "/health", "/healthz", "/v2/health/ready", "/metrics"):
        head = ask(on_ray, "HEAD", path)
        assert (head.status, head.body) == (200, b""), path
    assert ask(on_ray, "GET", "/").headers["Location"] == "./docs"
    assert ask(on_ray, "DELETE", "/docs").headers["Allow"] == "GET, HEAD"
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    allowed = ask(on_ray, "OPTIONS", "/classify", None, asked)
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert "statistics" not in ask(on_ray, "GET", "/v2").json["extensions"]
    counts = ask(on_ray, "GET", "/v2/models/stats")  # of one of them would be taken for all
    assert counts.status == 404 and "/metrics over label replica" in counts.error


@pytest.mark.slow
def test_more_than_replicas_and_queue_hold_is_refused(on_ray: Any, good: bytes, label: str) -> None:
    load = Load(on_ray.port, good, label, repeat=False)
    load.start(clients=64, most=4)
    for thread in load.threads:
        thread.join()
    assert set(load.seen) == {"right", "503, Retry-After 1"}, load.seen
    assert load.seen.total() == 256


@pytest.mark.slow
def test_a_killed_replica_loses_nothing_that_cannot_be_repeated(
    on_ray: Any, good: bytes, label: str
) -> None:
    load = Load(on_ray.port, good, label, repeat=True)
    load.start(clients=8)
    while load.seen["right"] < 50:
        time.sleep(0.1)
    victim, other = replicas(on_ray)
    victim.suspend()  # so that requests are surely in it when it dies
    time.sleep(2)
    victim.kill()
    before = load.seen["right"]
    until = time.monotonic() + 180
    while time.monotonic() < until:
        left = replicas(on_ray)
        if len(left) == 2 and victim not in left and load.seen["right"] > before + 50:
            break
        time.sleep(0.5)
    seen = load.stop()
    assert set(seen) == {"right", "503, Retry-After 1"}, seen
    assert other in replicas(on_ray) and len(replicas(on_ray)) == 2  # it was replaced
