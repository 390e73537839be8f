"""The real parser and builder of TensorRT-RTX: our graphs, our students, our progress bar."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import real
from onnx import TensorProto, helper, numpy_helper

from mldr_deploy.export.precision.emulated import emulated
from mldr_deploy.runtimes.model_file import ModelFile
from mldr_deploy.runtimes.onnxruntime_cpu import OnnxRuntimeCpu

BENCHMARKS = str(real.ROOT / "benchmarks")
PRECISIONS = ("fp32", "fp16", "bf16", "int8-symmetric", "fp8")
RNG = np.random.default_rng(0)
FP16, BF16 = TensorProto.FLOAT16, TensorProto.BFLOAT16


def saved(folder: Path, name: str, nodes: list[Any], tensors: dict[str, Any]) -> None:
    """``input`` [batch, 3, 8, 8] -> ``nodes`` -> ``logits`` as an ONNX file; in fp16: half."""
    graph = helper.make_graph(
        [helper.make_node(kind, i.split(), [o], o, **more) for kind, i, o, more in nodes],
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in tensors.items()],
    )
    graph.output[0].type.tensor_type.ClearField("shape")
    imports = [helper.make_opsetid("", 22)]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(proto), folder / f"{name}.onnx")


def convolving(folder: Path, name: str, kind: int) -> None:
    element = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [
        ("Cast", "input", "x", {"to": kind}),
        ("Conv", "x k", "c", {}),
        ("Relu", "c", "r", {}),
        ("GlobalAveragePool", "r", "p", {}),
        ("Flatten", "p", "f", {}),
        ("MatMul", "f h", "l", {}),
        ("Cast", "l", "logits", {"to": TensorProto.FLOAT}),
    ]
    kernel, head = RNG.standard_normal((4, 3, 3, 3)), RNG.standard_normal((4, 5))
    saved(folder, name, nodes, {"k": kernel.astype(element), "h": head.astype(element)})


def attending(folder: Path) -> None:
    """softmax(q k^T) v over 64 places of 3 channels, and a product."""
    nodes = [
        ("Reshape", "input s", "t", {}),
        ("Transpose", "t", "q", {"perm": [0, 2, 1]}),
        ("MatMul", "q t", "scores", {}),
        ("Softmax", "scores", "weights", {"axis": -1}),
        ("MatMul", "weights q", "mixed", {}),
        ("MatMul", "mixed w", "logits", {}),
    ]
    weight = RNG.standard_normal((3, 5)).astype(np.float32)
    saved(folder, "attention", nodes, {"s": np.array([0, 3, 64]), "w": weight})


def quantised(folder: Path) -> None:
    """A convolution between dequantisations, and a product in fp32."""
    nodes = [
        ("QuantizeLinear", "input sx z", "qx", {}),
        ("DequantizeLinear", "qx sx z", "x", {}),
        ("DequantizeLinear", "qk sk z", "k", {}),
        ("Conv", "x k", "c", {}),
        ("GlobalAveragePool", "c", "p", {}),
        ("Flatten", "p", "f", {}),
        ("MatMul", "f h", "logits", {}),
    ]
    tensors = {
        "sx": np.float32(0.02),
        "sk": np.float32(0.01),
        "z": np.int8(0),
        "qk": RNG.integers(-127, 127, (4, 3, 3, 3)).astype(np.int8),
        "h": RNG.standard_normal((4, 5)).astype(np.float32),
    }
    saved(folder, "quantised.int8", nodes, tensors)


def test_small_graphs_build_and_tell_what_was_asked(tmp_path: Path) -> None:
    convolving(tmp_path, "conv", TensorProto.FLOAT)
    convolving(tmp_path, "conv.fp16", FP16)
    convolving(tmp_path, "conv.bf16", BF16)
    convolving(tmp_path, "lie.fp16", TensorProto.FLOAT)  # called fp16, and all of it is fp32
    attending(tmp_path)
    quantised(tmp_path)
    answers = real.ask("build", tmp_path)
    assert {name: answer.get("asked") for name, answer in answers.items()} == {
        "attention": {"fp32": 3},
        "conv": {"fp32": 2},
        "conv.bf16": {"bf16": 2},
        "conv.fp16": {"fp16": 2},
        "lie.fp16": None,
        "quantised.int8": {"int8": 1, "fp32": 1},
    }
    assert answers["lie.fp16"]["refusal"].startswith("no product of the network is in fp16 (asked")
    assert all(answer["bytes"] > 1000 for answer in answers.values() if "bytes" in answer)


@pytest.mark.parametrize("call", ["start", "inner", "advance", "finish"])
def test_ctrl_c_in_each_call_of_the_bar_stops_the_build(tmp_path: Path, call: str) -> None:
    """The bindings swallow what phase_start and phase_finish raise, and would give a plan."""
    convolving(tmp_path, "conv", TensorProto.FLOAT)
    assert real.ask("interrupt", tmp_path / "conv.onnx", "nowhere") == "built"
    assert real.ask("interrupt", tmp_path / "conv.onnx", call) == "stopped"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("mobilenetv3_small_050", "build"),
        ("deit_tiny_patch16_224", "build"),
        ("mixer_s32_224", "build"),
        ("vim_pico_patch4_32", "parse"),  # its builds take a minute each
    ],
)
def test_a_student_of_each_family_in_every_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import rtx_builds

    job = rtx_builds.untrained(name, 32, tmp_path)
    for precision in PRECISIONS:
        rtx_builds.KINDS["onnx", precision].write(job)
    answers = real.ask(command, tmp_path)
    assert len(answers) == len(PRECISIONS)
    for precision in PRECISIONS:
        answer = answers[Path(job.onnx(precision)).stem]
        claimed = precision.removesuffix("-symmetric")
        assert not answer.get("refusal") and not answer.get("refusals"), answer
        share = answer["asked"].get(claimed, 0) / sum(answer["asked"].values())
        assert share >= (1.0 if claimed == "fp32" else 0.5), answer


@pytest.mark.slow
def test_bf16_of_mobilenetv3_holds_by_emulation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HardSwish, which TensorRT does not take in bf16, computes in fp32; the logits stay."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import rtx_builds

    job = rtx_builds.untrained("mobilenetv3_small_050", 32, tmp_path)
    rtx_builds.KINDS["onnx", "fp32"].write(job)
    written = rtx_builds.KINDS["onnx", "bf16"].write(job)
    hard = [island for island in written.islands if "HardSwish has no bf16 form" in island.reason]
    proto = onnx.load(job.onnx())
    assert len(hard) == sum(node.op_type == "HardSwish" for node in proto.graph.node) > 10
    images = next(job.calibration.batches(8))
    with OnnxRuntimeCpu(ModelFile(job.onnx())) as exact, emulated(job.onnx("bf16")) as rounded:
        expected, logits = exact(images), rounded(images)
    np.testing.assert_array_equal(logits.argmax(1), expected.argmax(1))
    assert 0 < np.abs(logits - expected).max() < 0.1 * expected.std()


def test_the_script_that_asks_is_not_imported_here() -> None:
    """A crash of the library must be an answer, not the end of the test run."""
    assert "ask_rtx" not in sys.modules
