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
from mldr_deploy.serve.triton.repository import write_repository
from mldr_deploy.serve.triton.triton_config import TritonConfig

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
def start_triton(
    bundle: Bundle, beside: Any, free_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Triton:
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
        with server.serving(parts, work / "repository", model, work, free_port):
            yield Endpoint(free_port, model)

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
    with endpoint.client(concurrency=8) as client:  # as many as Ray's proxy lets wait here
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


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("count", [1, 3, 10, 1000])
def test_the_best_classes(endpoint: Endpoint, bundle: Bundle, binary: bool, count: int) -> None:
    """Triton's classification extension: its own answers to the same are read here too."""
    labels = bundle.manifest.labels
    with endpoint.client() as client:
        plain = client.infer(endpoint.model, asked(bundle.golden.inputs[:4])).as_numpy("logits")
        output = triton.InferRequestedOutput("logits", binary_data=binary, class_count=count)
        found = client.infer(endpoint.model, asked(bundle.golden.inputs[:4]), outputs=[output])
    raw = found.as_numpy("logits").tolist()
    rows = [[text.decode() if binary else text for text in row] for row in raw]
    best = [sorted(range(10), key=lambda k: -row[k])[:count] for row in plain.tolist()]
    assert [[text.split(":", 2)[1:] for text in row] for row in rows] == [
        [[str(k), labels[k]] for k in row] for row in best
    ]
    values = [[float(text.split(":")[0]) for text in row] for row in rows]
    np.testing.assert_allclose(values, np.take_along_axis(plain, np.array(best), 1), atol=1e-5)
    assert all(text.split(":")[0][-7] == "." for row in rows for text in row)  # as C prints %f
    output = found.get_output("logits")
    assert output["datatype"] == "BYTES" and output["shape"] == [4, min(count, 10)]


@pytest.mark.parametrize("sent", ["gzip", "deflate", None])
@pytest.mark.parametrize("back", ["gzip", "deflate", None])
def test_compressed_both_ways(
    endpoint: Endpoint, bundle: Bundle, sent: str | None, back: str | None
) -> None:
    ways = {"request_compression_algorithm": sent, "response_compression_algorithm": back}
    right = bundle.golden.logits[:2]
    with endpoint.client() as client:
        for binary in (True, False):
            inputs = asked(bundle.golden.inputs[:2], binary)
            output = triton.InferRequestedOutput("logits", binary_data=binary)
            got = client.infer(endpoint.model, inputs, outputs=[output], **ways)
            np.testing.assert_allclose(got.as_numpy("logits"), right, atol=1e-4)
            output = triton.InferRequestedOutput("logits", binary_data=True, class_count=1)
            pending = client.async_infer(endpoint.model, inputs, outputs=[output], **ways)
            best = pending.get_result().as_numpy("logits")
            assert [int(row[0].split(b":")[1]) for row in best] == right.argmax(1).tolist()


def test_the_configuration_is_tritons(endpoint: Endpoint) -> None:
    """Read with the schema that Triton itself is built from, which refuses unknown fields."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import json_format

    with endpoint.client() as client:
        told = client.get_model_config(endpoint.model)
        assert client.get_model_config(endpoint.model, "1") == told
        with pytest.raises(triton.InferenceServerException, match="model"):
            client.get_model_config("another")
    config = json_format.ParseDict(told, schema.ModelConfig())
    assert (config.name, config.max_batch_size) == (endpoint.model, 16)
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [
        ("input", schema.TYPE_FP32, [3, 32, 32])
    ]
    assert [(o.name, o.data_type, list(o.dims)) for o in config.output] == [
        ("logits", schema.TYPE_FP32, [10])
    ]
    policy = config.dynamic_batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (256, 10_000_000)
    assert policy.timeout_action == schema.ModelQueuePolicy.REJECT
    assert config.instance_group[0].count == 1


def test_the_index_names_the_model(endpoint: Endpoint) -> None:
    with endpoint.client() as client:
        index = client.get_model_repository_index()
    ready = [entry for entry in index if entry.get("state") == "READY"]
    assert [(entry["name"], entry["version"]) for entry in ready] == [(endpoint.model, "1")]


COUNTING = ["mldr_deploy", pytest.param("tritonserver", marks=pytest.mark.slow)]


@pytest.mark.parametrize("server", COUNTING)
def test_statistics_count_what_was_asked(
    request: pytest.FixtureRequest, bundle: Bundle, server: str
) -> None:
    schema = pytest.importorskip("tritonclient.grpc.service_pb2")
    from google.protobuf import json_format

    endpoint: Endpoint = request.getfixturevalue(server)
    inputs = bundle.golden.inputs
    with endpoint.client() as client:
        before = counters(client.get_inference_statistics(endpoint.model))
        for count in (1, 3, 3, 8):
            client.infer(endpoint.model, asked(inputs[:count]))
        statistics_of(client, endpoint.model, before["inference_count"] + 15)
        told = client.get_inference_statistics(endpoint.model, "1")
        assert counters(client.get_inference_statistics()) == counters(told)
        with pytest.raises(triton.InferenceServerException, match="model"):
            client.get_inference_statistics("another")
    after = counters(told)
    json_format.ParseDict(told, schema.ModelStatisticsResponse())  # refuses unknown fields
    grown = {name: count - before.get(name, 0) for name, count in after.items()}
    images = {"inference_count": 15, "batch 1": 1, "batch 3": 2, "batch 8": 1}
    requests = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    right = images | dict.fromkeys((*requests, "execution_count"), 4)
    assert {name: count for name, count in grown.items() if count} == right
    stats = told["model_stats"][0]
    assert abs(stats["last_inference"] / 1000 - time.time()) < 60
    spent = stats["inference_stats"]
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert 0 < sum(spent[part]["ns"] for part in parts) <= spent["success"]["ns"]


def counters(told: Any) -> dict[str, int]:
    """Every count in the statistics of the one model; those of a batch size by its name."""
    (stats,) = told["model_stats"]
    assert stats["version"] == "1"
    counts = {name: stats[name] for name in ("inference_count", "execution_count")}
    counts |= {name: spent["count"] for name, spent in stats["inference_stats"].items()}
    for batch in stats["batch_stats"]:
        each = {batch[part]["count"] for part in batch if part != "batch_size"}
        assert len(batch) == 4 and len(each) == 1
        counts[f"batch {batch['batch_size']}"] = each.pop()
    return counts


Call = Callable[[Any], Any]
REFUSED: dict[str, Call] = {
    "loading models": lambda client: client.load_model("test_resnet"),
    "unloading models": lambda client: client.unload_model("test_resnet"),
    "tracing": lambda client: client.get_trace_settings(),
    "tracing of the model": lambda client: client.update_trace_settings("test_resnet", {}),
    "setting what is logged": lambda client: client.get_log_settings(),
    "setting what is logged, again": lambda client: client.update_log_settings({"log_info": True}),
    "shared memory": lambda client: client.get_system_shared_memory_status(),
    "shared memory region": lambda client: client.get_system_shared_memory_status("a"),
    "shared memory registered": lambda c: c.register_system_shared_memory("a", "/a", 8),
    "shared memory unregistered": lambda client: client.unregister_system_shared_memory(),
    "shared memory of CUDA": lambda client: client.get_cuda_shared_memory_status(),
    "shared memory of CUDA a": lambda c: c.register_cuda_shared_memory("a", b"x", 0, 8),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_here_is_refused_in_words(mldr_deploy: Endpoint, what: str) -> None:
    with mldr_deploy.client() as client:
        with pytest.raises(triton.InferenceServerException) as refusal:
            REFUSED[what](client)
        told = refusal.value
        assert told.status() == "404" and "is not supported here" in told.message(), told
        assert told.message().split(" is not")[0] in what
        assert client.get_server_metadata()["extensions"] == [
            "binary_tensor_data", "classification", "model_configuration", "statistics",
        ]  # fmt: skip


def test_parameters_of_the_client(mldr_deploy: Endpoint, bundle: Bundle) -> None:
    """Each is honoured or refused by name; those that mean "none" are taken."""
    inputs = asked(bundle.golden.inputs[:1])
    refused: list[tuple[str, dict[str, Any]]] = [
        ("sequence_id", {"sequence_id": 5, "sequence_start": True}),
        ("sequence_id", {"sequence_id": "mine", "sequence_end": True}),
        ("priority", {"priority": 1}),
        ("my_parameter", {"parameters": {"my_parameter": "x"}}),
        ("query.foo", {"query_params": {"foo": "1"}}),
    ]
    with mldr_deploy.client() as client:
        for name, words in refused:
            with pytest.raises(triton.InferenceServerException, match=name):
                client.infer(mldr_deploy.model, inputs, **words)
        for words in ({"timeout": 9_000_000}, {"sequence_id": 0, "priority": 0}):
            got = client.infer(mldr_deploy.model, inputs, **words, headers={"X-Mine": "y"})
            np.testing.assert_allclose(got.as_numpy("logits"), bundle.golden.logits[:1], atol=1e-4)
        inputs[0].set_shared_memory("region", 12288)
        with pytest.raises(triton.InferenceServerException, match="shared memory"):
            client.infer(mldr_deploy.model, inputs)


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
