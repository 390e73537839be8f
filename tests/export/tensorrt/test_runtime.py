"""The TensorRT runtime on doubles: right logits, few allocations, graphs per batch, no leak."""

from __future__ import annotations

import gc
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mldr_deploy.bundle.engine import EngineRecord, Machine, PrecisionProof, Profile
from mldr_deploy.bundle.manifest import Runnable
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.errors import Unavailable
from mldr_deploy.export.tensorrt.builder import build_plan
from mldr_deploy.export.tensorrt.engine_config import EngineConfig
from mldr_deploy.runtimes.model_file import ModelFile
from mldr_deploy.runtimes.runtime import RunError, RuntimeOptions
from mldr_deploy.runtimes.tensorrt import TensorRt
from mldr_deploy.runtimes.tensorrt_machine import this_machine

WEIGHT = np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logits = flattened [B, 3, 2, 2] @ WEIGHT."""
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "w"], ["logits"], "product"),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = tmp_path_factory.mktemp("onnx") / "linear.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture
def engine(trt: Any, linear: Path, tmp_path: Path) -> Path:
    profile = Profile(min=1, opt=2, max=4)
    plan = build_plan(linear, "fp32", profile, this_machine(), EngineConfig(), Silent())
    (tmp_path / "e.plan").write_bytes(plan.content)
    return tmp_path / "e.plan"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def loadable(
    plan: Path, sha256: str, *, cuda_graphs: bool = True, version_compatible: bool = False
) -> TensorRt:
    """The runtime of an engine that a manifest lists with ``sha256``, built for this machine."""
    record = EngineRecord(
        machine=this_machine(),
        hardware="none",
        version_compatible=version_compatible,
        profile=Profile(min=1, opt=2, max=4),
        source="linear.onnx",
        source_sha256="0" * 64,
        proof=PrecisionProof(claimed="fp32", layers={}, compute={}, expected=1),
    )
    listed = Runnable(file=plan.name, bytes=1, sha256=sha256, engine=record)
    return TensorRt(ModelFile(plan, listed), RuntimeOptions(cuda_graphs=cuda_graphs))


def images(count: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal((count, 3, 2, 2)).astype(np.float32)


def expected(inputs: Any) -> Any:
    return inputs.reshape(len(inputs), -1) @ WEIGHT


@pytest.mark.parametrize("graphs", [True, False])
def test_logits_of_every_batch_and_replays(engine: Path, cuda: Any, graphs: bool) -> None:
    with loadable(engine, digest(engine), cuda_graphs=graphs) as runner:
        for seed, count in enumerate((1, 4, 1, 2, 4, 4)):
            inputs = images(count, seed)
            np.testing.assert_allclose(runner(inputs), expected(inputs), rtol=1e-5, atol=1e-6)
        assert len(cuda.graphs) == (3 if graphs else 0)  # one per batch size met
        assert cuda.launches == (6 if graphs else 0)


def test_layers_are_timed_in_contexts_before_and_after(engine: Path) -> None:
    times: list[tuple[str, float]] = []
    layers = [("flatten", 0.25), ("product", 0.5)]

    def report(layer: str, milliseconds: float) -> None:
        times.append((layer, milliseconds))

    with loadable(engine, digest(engine), cuda_graphs=False) as runner:
        runner(images(1))  # its context is there already
        runner.attach_profiler(report)
        gc.collect()  # TensorRT does not keep the profiler
        runner(images(1))
        runner(images(3))
        runner(images(1))
        assert times == 3 * layers
    assert runner._profiler is None
    recorded = pytest.raises(RunError, match="recorded CUDA graphs tell no time per layer")
    with loadable(engine, digest(engine)) as runner, recorded:
        runner.attach_profiler(report)


def test_buffers_are_allocated_once(engine: Path, cuda: Any) -> None:
    with loadable(engine, digest(engine)) as runner:
        held = len(cuda.device), len(cuda.pinned)
        for count in (3, 1, 4):
            runner(images(count))
        assert (len(cuda.device), len(cuda.pinned)) == held == (3, 2)


def test_the_steps_apart_give_the_same(engine: Path) -> None:
    inputs = images(3)
    with loadable(engine, digest(engine)) as runner:
        runner.feed(inputs)
        runner.compute()
        np.testing.assert_allclose(runner.fetch(), expected(inputs), rtol=1e-5, atol=1e-6)


def test_results_are_the_callers_own(engine: Path) -> None:
    with loadable(engine, digest(engine)) as runner:
        first = runner(images(2, 1))
        kept = first.copy()
        runner(images(2, 2))
        assert np.array_equal(first, kept)


def test_more_images_than_the_profile_go_in_parts(engine: Path) -> None:
    inputs = images(11)
    with loadable(engine, digest(engine)) as runner:
        np.testing.assert_allclose(runner(inputs), expected(inputs), rtol=1e-5, atol=1e-6)
        with pytest.raises(RunError, match=r"takes \[1 to 4, 3, 2, 2\], not \[5, 3, 2, 2\]"):
            runner.feed(images(5))


def test_where_work_cannot_be_recorded_it_is_enqueued(engine: Path, cuda: Any) -> None:
    cuda.records = False
    inputs = images(2)
    with loadable(engine, digest(engine)) as runner:
        np.testing.assert_allclose(runner(inputs), expected(inputs), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(runner(-inputs), -expected(inputs), rtol=1e-5, atol=1e-6)
    assert cuda.launches == 0


def test_old_graphs_make_room(engine: Path, cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mldr_deploy.runtimes.tensorrt._MOST_PREPARED", 2)
    with loadable(engine, digest(engine)) as runner:
        for count in (1, 2, 3, 4, 1):
            inputs = images(count)
            np.testing.assert_allclose(runner(inputs), expected(inputs), rtol=1e-5, atol=1e-6)
            assert len(cuda.graphs) <= 2


def test_other_shapes_are_refused(engine: Path) -> None:
    with (
        loadable(engine, digest(engine)) as runner,
        pytest.raises(RunError, match=r"not \[2, 3, 4, 4\]"),
    ):
        runner(np.zeros((2, 3, 4, 4), np.float32))


def test_another_file_is_never_given_to_tensorrt(engine: Path, trt: Any) -> None:
    right, before = digest(engine), trt.loaded
    content = bytearray(engine.read_bytes())
    content[-1] ^= 1
    engine.write_bytes(content)
    with pytest.raises(RunError, match="is not the engine that the manifest lists"):
        loadable(engine, right).load()
    engine.unlink()
    with pytest.raises(RunError, match="is not the engine that the manifest lists"):
        loadable(engine, right).load()
    assert trt.loaded == before


def test_tensorrt_refuses_the_file(engine: Path, trt: Any, cuda: Any) -> None:
    trt.__version__ = "11.4.0.106"
    with pytest.raises(RunError, match="does not load: the engine was built by another"):
        loadable(engine, digest(engine)).load()


def test_host_code_is_allowed_only_where_it_is_recorded(
    trt: Any, linear: Path, tmp_path: Path
) -> None:
    config = EngineConfig(version_compatible=True)
    plan = build_plan(
        linear, "fp32", Profile(min=1, opt=1, max=2), this_machine(), config, Silent()
    )
    path = tmp_path / "e.plan"
    path.write_bytes(plan.content)
    with pytest.raises(RunError, match="host code, which is not allowed"):
        loadable(path, digest(path)).load()
    with loadable(path, digest(path), version_compatible=True) as runner:
        assert runner(images(1)).shape == (1, 5)


def test_outside_of_with(engine: Path) -> None:
    with pytest.raises(RuntimeError, match="with statement"):
        loadable(engine, digest(engine))(images(1))


def test_no_gpu_is_one_sentence(engine: Path, cuda: Any) -> None:
    runtime = loadable(engine, digest(engine))
    cuda.gpu = None
    with pytest.raises(Unavailable) as caught:
        runtime.load()
    assert str(caught.value) == (
        "TensorRT needs an NVIDIA GPU with its driver, and none can be used here "
        "(CUDA: cudaErrorNoDevice)"
    )


def test_this_machine(trt: Any) -> None:
    assert this_machine() == Machine(
        gpu="Double GPU", compute_capability="8.9", tensorrt="10.16.1.11", driver="13.0"
    )
