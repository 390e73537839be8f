"""The precision's proof, in the inspector's words of 10.x and of 11.x; a lie is found."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mldr_deploy.errors import MldrError
from mldr_deploy.export.tensorrt.graph_view import GraphView
from mldr_deploy.export.tensorrt.proof import (
    graph_precisions,
    input_precision,
    multiplies,
    prove_precision,
)


def graph(kind: int, numpy_kind: Any) -> GraphView:
    """Two products in ``kind`` and one in fp32."""
    weights = {"w": np.eye(4).astype(numpy_kind), "v": np.eye(4, dtype=np.float32)}
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], "in", to=kind),
        helper.make_node("MatMul", ["a", "w"], ["b"], "first"),
        helper.make_node("MatMul", ["b", "w"], ["c"], "second"),
        helper.make_node("Cast", ["c"], ["d"], "out", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["d", "v"], ["y"], "third"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 4]) for n in ("x", "y")]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    opset = [helper.make_opsetid("", 20)]
    return GraphView(helper.make_model(made, opset_imports=opset, ir_version=10))


FP16 = graph(TensorProto.FLOAT16, np.float16)
FP32 = graph(TensorProto.FLOAT, np.float32)


def layers(*kinds: str, key: str = "Format/Datatype", layer: str = "gemm") -> str:
    listed = [
        {"Name": f"n{k}", "LayerType": layer, "Inputs": [{"Name": "t", key: kind}]}
        for k, kind in enumerate(kinds)
    ]
    return json.dumps({"Layers": [*listed, {"Name": "r", "LayerType": "Reformat", "Inputs": []}]})


def test_the_graph_is_counted_by_type() -> None:
    assert graph_precisions(FP16) == {"fp16": 2, "fp32": 1}
    assert graph_precisions(FP32) == {"fp32": 3}


def test_fp16_in_both_dialects() -> None:
    ten = layers(*["Row major linear FP16 format"] * 2, "Row major linear FP32 format")
    eleven = layers("Half", "Half", "Float", key="DataType")
    for told in (ten, eleven):
        proof = prove_precision("fp16", told, FP16)
        assert proof and proof.compute == {"fp16": 2, "fp32": 1}
        assert proof.expected == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("claimed", "told", "view", "reason"),
    [
        ("fp16", ["Float"] * 3, FP16, "0 of 3 layers that multiply take fp16, and 67 % of"),
        ("fp16", ["Half", "Float", "Float", "Float"], FP16, "1 of 4 layers"),
        ("fp16", ["Half"], FP32, "no multiplying node of the ONNX graph takes fp16"),
        ("fp32", ["Float", "Half"], FP32, "1 of 2 layers that multiply are narrower"),
        ("int8", ["Int8"], FP16, "no multiplying node of the ONNX graph takes int8"),
        ("fp32", [], FP32, "the inspector shows no layer that multiplies"),
    ],
)
def test_a_wrong_claim_is_refuted(
    claimed: str, told: list[str], view: GraphView, reason: str
) -> None:
    proof = prove_precision(claimed, layers(*told), view)
    assert not proof
    assert reason in str(proof.reason)


def test_quantised_products_are_those_between_dequantisers() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["a"], "dq"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"], "dqw"),
        helper.make_node("MatMul", ["a", "v"], ["b"], "first"),
        helper.make_node("MatMul", ["b", "f"], ["y"], "second"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 4]) for n in ("x", "y")]
    tensors = {
        "s": np.float32(0.1),
        "z": np.int8(0),
        "w": np.eye(4, dtype=np.int8),
        "f": np.eye(4, dtype=np.float32),
    }
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    opset = [helper.make_opsetid("", 20)]
    view = GraphView(helper.make_model(made, opset_imports=opset, ir_version=10))
    assert graph_precisions(view) == {"int8": 1, "fp32": 1}
    assert prove_precision("int8", layers("Int8", "Float"), view)
    assert not prove_precision("int8", layers("Half", "Float"), view)


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ("Row major linear FP32 format", "fp32"),
        ("Float", "fp32"),
        ("Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("Half", "fp16"),
        ("BFloat16", "bf16"),
        ("Row major linear BF16 format", "bf16"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
        ("Row major linear FP8 format", "fp8"),
        ("Int64", None),
        ("Row major Int32 format", None),
        ("Bool", None),
    ],
)
def test_types_as_the_inspector_writes_them(told: str, kind: str | None) -> None:
    for key in ("Format/Datatype", "DataType"):
        assert input_precision({"Inputs": [{"Name": "t", key: told}]}) == kind


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ({"LayerType": "CaskConvolution"}, True),
        ({"LayerType": "gemm"}, True),
        ({"LayerType": "MatrixMultiply"}, True),
        ({"LayerType": "kgen", "Name": "__myl_MatMulAdd_myl3_1"}, True),
        (
            {"LayerType": "kgen", "Name": "__myl_ReluCast", "TacticName": "__myl_ReluCast_0x1"},
            False,
        ),
        ({"LayerType": "fusion", "TacticName": "sm80_xmma_gemm_i8f32_i8i32"}, True),
        ({"LayerType": "Reformat", "Name": "Reformatting CopyNode for conv1"}, False),
        ({"LayerType": "PoolingV2", "ParameterType": "Pooling"}, False),
        ({"LayerType": "Constant"}, False),
    ],
)
def test_which_layers_multiply(layer: dict[str, Any], expected: bool) -> None:
    assert multiplies(layer) == expected


@pytest.mark.parametrize("told", ["no json", "{}", '{"Layers": ["conv1", "relu"]}'])
def test_nothing_is_proven_without_details(told: str) -> None:
    with pytest.raises(MldrError, match="TensorRT's inspector gave"):
        prove_precision("fp32", told, FP32)
