"""Graphs made by hand say what they are; a claim that they do not bear out is told."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.errors import MldrError
from mldr_deploy.export.claims import Claims, Port, broken, read_graph

INPUT, OUTPUT = Port("x", "FLOAT", (None, 4)), Port("y", "FLOAT", (None, 2))
FP32 = Claims("fp32", 20, INPUT, OUTPUT)


def constant(name: str, value: Any) -> Any:
    return numpy_helper.from_array(np.asarray(value), name)


def save(path: Path, nodes: list[Any], constants: list[Any], *, stale: Sequence[Any] = ()) -> Path:
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2]),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants, value_info=stale)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(proto, path)
    return path


def gemm(path: Path) -> Path:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "head")
    return save(path, [node], [constant("w", np.ones((4, 2), np.float32))])


def in_half(path: Path) -> Path:
    """As a converter writes it, with a note of types that is out of date."""
    nodes = [
        helper.make_node("Cast", ["x"], ["low"], "down", to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["low", "w"], ["z"], "head"),
        helper.make_node("Cast", ["z"], ["y"], "up", to=TensorProto.FLOAT),
    ]
    stale = [helper.make_tensor_value_info("low", TensorProto.FLOAT, ["batch", 4])]
    return save(path, nodes, [constant("w", np.ones((4, 2), np.float16))], stale=stale)


def quantised(path: Path, *, activations: bool) -> Path:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wide"], "dq_w"),
        helper.make_node("Transpose", ["wide"], ["turned"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["seen", "turned"], ["y"], "head"),
    ]
    around = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q_x"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["seen"], "dq_x"),
    ]
    plain = [helper.make_node("Identity", ["x"], ["seen"], "same")]
    constants = [
        constant("w", np.ones((2, 4), np.int8)),
        constant("s", np.float32(0.1)),
        constant("z", np.int8(0)),
    ]
    return save(path, [*(around if activations else plain), *nodes], constants)


def test_a_healthy_graph_bears_its_claims_out(tmp_path: Path) -> None:
    graph = read_graph(gemm(tmp_path / "m.onnx"))
    assert graph.computes == {"head": "fp32"}
    assert broken(graph, FP32) == []


def test_the_precision_is_read_from_the_operands(tmp_path: Path) -> None:
    assert read_graph(in_half(tmp_path / "h.onnx")).computes == {"head": "fp16"}
    both = read_graph(quantised(tmp_path / "q.onnx", activations=True))
    assert both.computes == {"head": "int8"}
    weights_only = read_graph(quantised(tmp_path / "w.onnx", activations=False))
    assert weights_only.computes == {"head": "fp32"}


def test_the_exporters_graph(exported: Bundle) -> None:
    graph = read_graph(exported.file(exported.artifact()))
    assert graph.tally() == exported.artifact().computes == {"fp32": 16}
    assert (graph.opset, graph.outside) == (20, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp16"}, r"called fp16, but none of its .* computes in it \(1 in fp32\)"),
        ({"opset": 18}, "the file has opset 20, the manifest says 18"),
        (
            {"input": Port("image", "FLOAT", (None, 4))},
            r"input is x float \[\?, 4\], the manifest says image float",
        ),
        ({"output": Port("y", "FLOAT", (None, 3))}, r"says y float \[\?, 3\]"),
    ],
)
def test_a_claim_that_does_not_hold(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (told,) = broken(read_graph(gemm(tmp_path / "m.onnx")), dataclasses.replace(FP32, **changes))
    assert re.search(message, told)


def test_nodes_in_another_precision_must_be_listed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["low"], "down", to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["low", "a"], ["z"], "first"),
        helper.make_node("Cast", ["z"], ["wide"], "up", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["wide", "b"], ["y"], "second"),
    ]
    halves = [constant("a", np.ones((4, 4), np.float16)), constant("b", np.ones((4, 2), "f4"))]
    graph = read_graph(save(tmp_path / "m.onnx", nodes, halves))
    claims = dataclasses.replace(FP32, precision="fp16")
    (told,) = broken(graph, claims)
    assert told.endswith("1 nodes compute otherwise than the manifest says: second in fp32")
    assert broken(graph, dataclasses.replace(claims, elsewhere=frozenset({"second"}))) == []
    assert broken(graph, dataclasses.replace(claims, exactly=frozenset({"first"}))) == []
    assert broken(graph, dataclasses.replace(claims, exactly=frozenset({"first", "second"})))


def test_tensors_outside_of_the_file(tmp_path: Path) -> None:
    path = gemm(tmp_path / "m.onnx")
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0
    )
    (told,) = broken(read_graph(path), FP32)
    assert told.startswith("1 tensors (w, ...) lie outside of the artifact in m.data, which no")


@pytest.mark.parametrize("content", [b"hello", b""])
def test_a_file_that_is_no_graph(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(MldrError, match=r"m\.onnx is not a readable ONNX file") as caught:
        read_graph(tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MldrError, match="is not a readable ONNX file"):
        read_graph(tmp_path / "nowhere.onnx")
