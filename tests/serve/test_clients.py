"""Triton's own client against everything that serves a bundle: our server, Ray Serve, Triton."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.serve.triton.config import TritonConfig
from mldr_deploy.serve.triton.repository import write_repository

triton = pytest.importorskip("tritonclient.http")


@dataclass(frozen=True)
class Endpoint:
    """A server of the golden bundle's model."""

    port: int
    model: str

    def client(self, **options: Any) -> Any:
        return triton.InferenceServerClient(
            f"127.0.0.1:{self.port}", network_timeout=60, connection_timeout=60, **options
        )


@pytest.fixture(scope="session")
def mldr_deploy(live: Any) -> Endpoint:
    return Endpoint(live.port, "test_resnet")


Triton = Callable[[TritonConfig], AbstractContextManager[Endpoint]]


@pytest.fixture(scope="session")
def start_triton(bundle: Bundle, beside: Any, tmp_path_factory: pytest.TempPathFactory) -> Triton:
    """``with start_triton(config) as endpoint``: the Python model of the bundle's repository."""
    server: ModuleType = beside("tritonserver")
    parts = server.installed()
    if isinstance(parts, str):
        pytest.skip(parts)

    @contextmanager
    def start(config: TritonConfig) -> Iterator[Endpoint]:
        work = tmp_path_factory.mktemp("triton")
        write_repository(bundle, work / "repository", config)
        model = "test_resnet_python"
        with server.serving(parts, work / "repository", model, work) as port:
            yield Endpoint(port, model)

    return start


@pytest.fixture(scope="session")
def tritonserver(start_triton: Triton) -> Iterator[Endpoint]:
    with start_triton(TritonConfig(max_delay_us=20_000)) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def ray_serve(on_ray: Any) -> Endpoint:
    return Endpoint(on_ray.port, "test_resnet")


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("tritonserver", "ray_serve")]


@pytest.fixture(params=["mldr_deploy", *SLOW])
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Endpoint)
    return found


def asked(inputs: Any, binary: bool = True) -> list[Any]:
    tensor = triton.InferInput("input", list(inputs.shape), "FP32")
    tensor.set_data_from_numpy(inputs, binary_data=binary)
    return [tensor]


def test_server_and_model_are_found(endpoint: Endpoint) -> None:
    with endpoint.client() as client:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready(endpoint.model) and client.is_model_ready(endpoint.model, "1")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        told = client.get_model_metadata(endpoint.model)
        assert told["name"] == endpoint.model and told["versions"] == ["1"]
        assert told["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 3, 32, 32]}]
        assert told["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}]
        assert not client.is_model_ready("another") and not client.is_model_ready(
            endpoint.model, "2"
        )
        with pytest.raises(triton.InferenceServerException, match="model"):
            client.get_model_metadata("another")


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_the_students_logits(
    endpoint: Endpoint, bundle: Bundle, binary_in: bool, binary_out: bool | None
) -> None:
    outputs = (
        None
        if binary_out is None
        else [triton.InferRequestedOutput("logits", binary_data=binary_out)]
    )
    with endpoint.client() as client:
        result = client.infer(
            endpoint.model,
            asked(bundle.golden.inputs[2:5], binary_in),
            outputs=outputs,
            request_id="mine",
            model_version="1",
        )
        logits = result.as_numpy("logits")
    np.testing.assert_allclose(logits, bundle.golden.logits[2:5], atol=1e-4)
    answer = result.get_response()
    assert answer["id"] == "mine" and answer["model_name"] == endpoint.model
    raw = "binary_data_size" in answer["outputs"][0].get("parameters", {})
    assert raw == (binary_out is not False)


def test_many_at_once(endpoint: Endpoint, bundle: Bundle) -> None:
    """Batches are made of requests of other sizes, and everyone gets his own rows."""
    inputs, logits = bundle.golden.inputs, bundle.golden.logits
    with endpoint.client(concurrency=16) as client:
        pending = []
        for k in range(64):
            rows = np.arange(k, k + 1 + k % 3) % len(inputs)
            pending.append((rows, client.async_infer(endpoint.model, asked(inputs[rows]))))
        for rows, request in pending:
            got = request.get_result().as_numpy("logits")
            np.testing.assert_allclose(got, logits[rows], atol=1e-4)


def test_wrong_tensors_are_the_clients_error(endpoint: Endpoint, bundle: Bundle) -> None:
    image = bundle.golden.inputs[:1]
    with endpoint.client() as client:
        for wrong in (image[:, :, :16], np.repeat(image, 17, 0), image[0]):
            with pytest.raises(triton.InferenceServerException) as error:
                client.infer(endpoint.model, asked(wrong))
            assert error.value.status() == "400", error.value
        other = triton.InferInput("pixels", [1, 3, 32, 32], "FP32")
        other.set_data_from_numpy(image)
        with pytest.raises(triton.InferenceServerException):
            client.infer(endpoint.model, [other])
        good = client.infer(endpoint.model, asked(image)).as_numpy("logits")
    np.testing.assert_allclose(good, bundle.golden.logits[:1], atol=1e-4)


@pytest.mark.slow
def test_triton_knows_the_labels(tritonserver: Endpoint, bundle: Bundle) -> None:
    """What only Triton does: its classification extension reads our labels.txt."""
    with tritonserver.client(concurrency=8) as client:
        top = [triton.InferRequestedOutput("logits", class_count=2)]
        found = client.infer(tritonserver.model, asked(bundle.golden.inputs), outputs=top)
        for row, logits in zip(found.as_numpy("logits"), bundle.golden.logits, strict=True):
            value, index, label = row[0].decode().split(":")
            assert int(index) == logits.argmax() and label == bundle.manifest.labels[int(index)]
            assert float(value) == pytest.approx(logits.max(), abs=1e-3)


@pytest.mark.slow
def test_tritons_full_queue_is_refused_and_nothing_is_lost(
    start_triton: Triton, bundle: Bundle
) -> None:
    """Three may wait, and a batch that is not full waits for a second."""
    config = TritonConfig(max_queue=3, max_delay_us=1_000_000)
    with start_triton(config) as endpoint, endpoint.client(concurrency=16) as client:
        images = bundle.golden.inputs
        pending = [client.async_infer(endpoint.model, asked(images[k : k + 1])) for k in range(8)]
        refused = 0
        for k, request in enumerate(pending):
            try:
                got = request.get_result().as_numpy("logits")
            except triton.InferenceServerException as error:
                assert "maximum queue size" in str(error), error
                refused += 1
                continue
            np.testing.assert_allclose(got[0], bundle.golden.logits[k], atol=1e-4)
        told = statistics_of(client, endpoint.model, 8 - refused)
    assert 0 < refused < 8
    assert told["execution_count"] < told["inference_count"]  # those that waited were one batch


def statistics_of(client: Any, model: str, requests: int) -> dict[str, int]:
    """Triton's counters once they hold ``requests``; they follow the answers."""
    for _ in range(300):
        told = client.get_inference_statistics(model)["model_stats"][0]
        if told["inference_count"] >= requests:
            break
        time.sleep(0.1)
    return {name: told.get(name, 0) for name in ("execution_count", "inference_count")}
