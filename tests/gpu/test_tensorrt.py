"""The real TensorRT on a real GPU: what the doubles stand for elsewhere. Run with -m gpu."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mldr_deploy.bundle.engine import EngineRecord, Profile
from mldr_deploy.bundle.manifest import Runnable
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.export.tensorrt.builder import build_plan
from mldr_deploy.export.tensorrt.engine_config import EngineConfig
from mldr_deploy.export.tensorrt.graph_view import GraphView
from mldr_deploy.export.tensorrt.proof import prove_precision
from mldr_deploy.export.tensorrt.timing_cache import cache_file
from mldr_deploy.runtimes import tensorrt_machine as machine
from mldr_deploy.runtimes.model_file import ModelFile
from mldr_deploy.runtimes.runtime import RuntimeOptions
from mldr_deploy.runtimes.tensorrt import TensorRt

pytestmark = pytest.mark.gpu
KERNEL = np.random.default_rng(0).standard_normal((16, 3, 3, 3)).astype(np.float32) / 5
HEAD = np.random.default_rng(1).standard_normal((16, 10)).astype(np.float32)


@pytest.fixture(autouse=True)
def tensorrt_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reason = machine.missing()
    if reason is not None:
        pytest.skip(reason)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def convolving(kind: int, path: Path) -> Any:
    """input -> (cast) -> Conv -> Relu -> mean -> MatMul -> (cast) -> logits."""
    numpy_kind = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    nodes = [
        helper.make_node("Cast", ["input"], ["x"], "in", to=kind),
        helper.make_node("Conv", ["x", "k"], ["c"], "conv", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "h"], ["l"], "head"),
        helper.make_node("Cast", ["l"], ["logits"], "out", to=TensorProto.FLOAT),
    ]
    tensors = {"k": KERNEL.astype(numpy_kind), "h": HEAD.astype(numpy_kind)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(proto, path)
    return proto


@pytest.mark.parametrize(
    ("kind", "name", "tolerance"),
    [(TensorProto.FLOAT, "fp32", 1e-4), (TensorProto.FLOAT16, "fp16", 2e-2)],
)
@pytest.mark.parametrize("graphs", [True, False])
def test_build_prove_and_run(
    tmp_path: Path, kind: int, name: str, tolerance: float, graphs: bool
) -> None:
    import hashlib

    import onnxruntime

    path = tmp_path / f"{name}.onnx"
    proto = convolving(kind, path)
    here = machine.this_machine()
    plan = build_plan(path, name, Profile(min=1, opt=4, max=8), here, EngineConfig(), Silent())
    proof = prove_precision(name, plan.layers, GraphView(proto))
    assert proof, f"{proof}\n{plan.layers}"
    assert cache_file(here).stat().st_size > 0
    file = tmp_path / "e.plan"
    file.write_bytes(plan.content)
    digest = hashlib.sha256(plan.content).hexdigest()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    record = EngineRecord(
        machine=here,
        hardware="none",
        version_compatible=False,
        profile=Profile(min=1, opt=4, max=8),
        source=path.name,
        source_sha256="0" * 64,
        proof=proof,
    )
    listed = Runnable(file=file.name, bytes=len(plan.content), sha256=digest, engine=record)
    with TensorRt(ModelFile(file, listed), RuntimeOptions(cuda_graphs=graphs)) as runner:
        for seed, count in enumerate((1, 8, 3, 8, 1)):
            inputs = np.random.default_rng(seed).standard_normal((count, 3, 32, 32))
            inputs = inputs.astype(np.float32)
            (expected,) = session.run(None, {"input": inputs})
            np.testing.assert_allclose(runner(inputs), expected, atol=tolerance)


def test_what_tensorrt_rtx_says_of_this_card(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Recorded, not judged: a card that RTX is not made for (an H100, 9.0) most likely refuses.

    Where it loads the engine, the card's capability must be one that it was built for.
    """
    from mldr_deploy.export.tensorrt.rtx import build_rtx_plan
    from mldr_deploy.runtimes.tensorrt_library import rtx
    from mldr_deploy.runtimes.tensorrt_logger import complaint, quiet_logger

    library = rtx()
    if library is None:
        pytest.skip("TensorRT-RTX is not installed")
    path = tmp_path / "fp32.onnx"
    convolving(TensorProto.FLOAT, path)
    profile, config = Profile(min=1, opt=4, max=8), EngineConfig()
    plan = build_rtx_plan(library, path, "fp32", profile, config, Silent())
    logger = quiet_logger(library.trt)
    runtime = library.trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan.content)
    here = machine.this_machine()
    said = f"{library} on {here.gpu} ({here.compute_capability}): " + (
        f"refused: {complaint(logger)}" if engine is None else "loaded"
    )
    print(said)
    record_property("tensorrt_rtx", said)
    assert engine is None or here.compute_capability in plan.capabilities, said


def test_a_bundle_gets_its_engine(bundle_here: Path) -> None:
    from mldr_deploy.bundle.reader import open_bundle
    from mldr_deploy.export.rebuild_engine import engine_here

    made = engine_here(bundle_here, "fp32")
    assert made.status == "passed", f"{made.parity}\n{made.engine}"
    bundle = open_bundle(bundle_here)
    with TensorRt(ModelFile.of(bundle, made)) as runner:
        np.testing.assert_allclose(runner(bundle.golden.inputs), bundle.golden.logits, atol=1e-3)


@pytest.fixture
def bundle_here(tmp_path: Path) -> Path:
    """A copy of the bundle that $MLDR_GPU_BUNDLE names."""
    import os

    named = os.environ.get("MLDR_GPU_BUNDLE")
    if not named:
        pytest.skip("set MLDR_GPU_BUNDLE to a bundle")
    return Path(shutil.copytree(named, tmp_path / "bundle"))
