"""What the routes ask of the service, with a runtime that only counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mldr_deploy.bundle.preprocess import preprocess
from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.serve.app import create_app
from mldr_deploy.serve.service import Service
from mldr_deploy.serve.service_config import ServeConfig


class Counting:
    """Logits are zero; ``decoded`` and ``computed`` are numbers of images."""

    name = "counting"

    def __init__(self, bundle: Bundle) -> None:
        self._classes = len(bundle.manifest.labels)
        self._spec = bundle.manifest.preprocessing
        self.model = SimpleNamespace(preprocessing=self._spec)
        self.decoded = self.computed = 0

    def preprocess(self, images: Any) -> Any:
        self.decoded += len(images)
        return preprocess(images, self._spec)

    def feed(self, inputs: Any) -> None:
        self._images = len(inputs)

    def compute(self) -> None:
        self.computed += self._images

    def fetch(self) -> Any:
        return np.zeros((self._images, self._classes), np.float32)


@pytest.fixture
def runtime(bundle: Bundle) -> Counting:
    return Counting(bundle)


@pytest.fixture
def service(bundle: Bundle, runtime: Counting) -> Service:
    return Service(bundle.manifest, runtime, ServeConfig())  # type: ignore[arg-type]


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(create_app(service)) as client:
        yield client


def test_an_upload_that_would_be_late_is_not_even_decoded(
    client: TestClient, service: Service, runtime: Counting, good: bytes
) -> None:
    assert client.post("/classify", content=good).status_code == 200
    queue = service.batcher._queue
    queue._computed_at = time.perf_counter() + 1000  # as if a long batch were computed
    answer = client.post("/classify", content=good)
    assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"
    assert "too many for an answer in time" in answer.json()["error"]
    assert (runtime.decoded, runtime.computed) == (1, 1)
    queue.rest(time.perf_counter())
    assert client.post("/classify", content=good).status_code == 200
    assert service.statistics.inference_stats.fail.count == 1


def test_a_thin_upload_that_would_fill_the_memory_is_refused(
    client: TestClient, encode: Callable[..., bytes]
) -> None:
    upload = encode(Image.new("L", (10_000_000, 1)))
    answer = client.post("/classify", content=upload)
    assert answer.status_code == 413
    assert answer.json()["error"].startswith("10000000 x 1 pixels would become 360000000 x 36")
    assert 'mldr_rejections_total{reason="pixels"} 1.0' in client.get("/metrics").text


class Upload(bytes):
    """Bytes that say when nobody holds them any more."""

    gone = threading.Event()

    def __del__(self) -> None:
        self.gone.set()


def test_an_upload_is_not_held_while_its_picture_waits_and_is_computed(
    client: TestClient, runtime: Counting, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are out of the budget by then."""

    async def read_body(*_: Any) -> bytes:
        return Upload(good)

    released: list[bool] = []
    monkeypatch.setattr("mldr_deploy.serve.classify.read_body", read_body)
    monkeypatch.setattr(runtime, "compute", lambda: released.append(Upload.gone.wait(3)))
    assert client.post("/classify", content=good).status_code == 200
    assert released == [True]
