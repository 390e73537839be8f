"""The lint: what TensorRT's parser documents as unsupported is found by node name, and no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mldr_deploy.bundle.engine import Profile
from mldr_deploy.export.config import ExportConfig
from mldr_deploy.export.onnx_export import export_onnx
from mldr_deploy.export.tensorrt.lint import Lint, lint
from mldr_deploy.export.tensorrt.operators import TYPES

PROFILE = Profile(min=1, opt=1, max=8)


def model(
    *nodes: Any,
    tensors: dict[str, Any] | None = None,
    opset: int = 20,
    shape: tuple[Any, ...] = ("batch", 3, 8, 8),
    out: tuple[Any, ...] = ("batch", 3, 8, 8),
    kind: int = TensorProto.FLOAT,
    domains: tuple[str, ...] = (),
) -> Any:
    """``input`` -> nodes -> ``logits``, unnamed nodes get names of their operators."""
    for node in nodes:
        node.name = node.name or f"the_{node.op_type.lower()}"
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("input", kind, shape)],
        [helper.make_tensor_value_info("logits", kind, out)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (tensors or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def node(kind: str, inputs: str = "input", outputs: str = "logits", **more: Any) -> Any:
    return helper.make_node(kind, inputs.split(), outputs.split(), **more)


def linted(proto: Any) -> Lint:
    return lint(proto, PROFILE, "m.onnx")


def told(proto: Any) -> list[str]:
    return [str(finding) for finding in linted(proto).findings]


ONE = np.float32(0.5)
BAD = [
    (model(node("Bernoulli")), "error: Bernoulli the_bernoulli: the operator is not supported"),
    (
        model(node("BiasGelu", domain="com.microsoft"), domains=("com.microsoft",)),
        "error: BiasGelu the_biasgelu: domain com.microsoft is not ONNX's own",
    ),
    (model(node("Relu"), opset=25), "opset 25, TensorRT takes 9 to 24"),
    (
        model(node("Relu"), shape=(4, 3, 8, 8)),
        "error: Graph input: the batch is fixed at 4, the profile asks for 1 to 8",
    ),
    (
        model(node("Relu"), shape=("batch", 3, "height", 8)),
        "error: Graph input: axis 2 (height) is dynamic and in no profile",
    ),
    (
        model(node("Relu"), kind=TensorProto.FLOAT16),
        "error: Graph input: is FLOAT16, the runtime feeds and fetches FLOAT",
    ),
    (
        model(
            node("Cast", outputs="wide", to=TensorProto.DOUBLE),
            node("Sqrt", "wide", "root"),
            node("Cast", "root", name="back", to=TensorProto.FLOAT),
        ),
        "error: Sqrt the_sqrt: wide is DOUBLE, which TensorRT computes as FLOAT",
    ),
    (
        model(
            node("Cast", outputs="half", to=TensorProto.BFLOAT16),
            node("Mish", "half", "curve"),
            node("Cast", "curve", name="back", to=TensorProto.FLOAT),
        ),
        "error: Mish the_mish: half is BFLOAT16, supported are FLOAT, FLOAT16",
    ),
    (
        model(
            node("Cast", outputs="whole", to=TensorProto.INT64),
            node("BitwiseNot", "whole", "flipped"),
            node("Cast", "flipped", name="back", to=TensorProto.FLOAT),
        ),
        "error: BitwiseNot the_bitwisenot: the operator is not supported",
    ),
    (
        model(node("MaxPool", kernel_shape=[3, 3], dilations=[2, 2], pads=[2] * 4)),
        "error: MaxPool the_maxpool: dilated pooling is not supported",
    ),
    (
        model(node("MaxPool", outputs="logits places", kernel_shape=[1, 1])),
        "error: MaxPool the_maxpool: the indices of a maximum are not supported",
    ),
    (
        model(node("Resize", "input  s", mode="cubic"), tensors={"s": np.ones(4, np.float32)}),
        "error: Resize the_resize: mode cubic is not supported",
    ),
    (
        model(
            node("LayerNormalization", "input w", "logits mean"),
            tensors={"w": np.ones(8, np.float32)},
        ),
        "error: LayerNormalization the_layernormalization: only its first output",
    ),
    (
        model(
            node("Dropout", "input r t"),
            tensors={"r": ONE, "t": np.array(True)},
        ),
        "error: Dropout the_dropout: it is in training mode",
    ),
    (
        model(
            node("Shape", outputs="shape"),
            node("ReduceSum", "shape", "axis", keepdims=1),
            node("ReduceMean", "input axis", keepdims=1),
        ),
        "error: ReduceMean the_reducemean: its input axis must be a constant",
    ),
    (
        model(
            node("QuantizeLinear", "input s z", "q"),
            node("DequantizeLinear", "q s z"),
            tensors={"s": ONE, "z": np.int8(3)},
        ),
        "error: QuantizeLinear the_quantizelinear: its zero point is not zero",
    ),
    (
        model(
            node("QuantizeLinear", "input s z", "q"),
            node("DequantizeLinear", "q s z"),
            tensors={"s": ONE, "z": np.uint8(0)},
        ),
        "error: QuantizeLinear the_quantizelinear: it quantises to UINT8",
    ),
    (
        model(
            node("QuantizeLinear", "input s z", "q"),
            node("DequantizeLinear", "q s z"),
            tensors={"s": np.float32(np.nan), "z": np.int8(0)},
        ),
        "error: DequantizeLinear the_dequantizelinear: its scale is not positive and finite",
    ),
    (
        model(
            node("QuantizeLinear", "input s z", "q"),
            node("Cast", "q", to=TensorProto.FLOAT),
            tensors={"s": ONE, "z": np.int8(0)},
        ),
        "error: QuantizeLinear the_quantizelinear: a QuantizeLinear must feed DequantizeLinear",
    ),
    (
        model(
            node("DequantizeLinear", "b s", "bias"),
            node("Add", "input bias"),
            tensors={"b": np.int32(4), "s": ONE},
        ),
        "error: DequantizeLinear the_dequantizelinear: it quantises to INT32",
    ),
    (
        model(node("TopK", "input k", "logits i", sorted=0), tensors={"k": np.array([3])}),
        "error: TopK the_topk: sorted = 0 is not supported",
    ),
    (
        model(
            node("ScatterND", "input i u", reduction="add"),
            tensors={"i": np.zeros((1, 1), np.int64), "u": np.zeros((1, 3, 8, 8), np.float32)},
        ),
        "error: ScatterND the_scatternd: reduction add is not supported",
    ),
    (
        model(node("RandomNormalLike")),
        "warning: RandomNormalLike the_randomnormallike: it draws random numbers",
    ),
]


@pytest.mark.parametrize(("proto", "message"), BAD, ids=[m.split(": ")[-1][:30] for _, m in BAD])
def test_what_is_found(proto: Any, message: str) -> None:
    assert any(message in text for text in told(proto)), told(proto)
    assert bool(linted(proto)) == message.startswith("warning")


def test_branches_are_looked_into() -> None:
    inner = helper.make_graph(
        [helper.make_node("Bernoulli", ["input"], ["drawn"], "deep")],
        "branch",
        [],
        [helper.make_tensor_value_info("drawn", TensorProto.FLOAT, ["batch", 3, 8, 8])],
    )
    proto = model(
        node("If", "c", then_branch=inner, else_branch=inner), tensors={"c": np.array(True)}
    )
    assert any("Bernoulli deep" in text for text in told(proto))


def test_a_refusal_is_one_line_with_the_first_nodes() -> None:
    nodes = [node("Bernoulli", outputs=f"v{k}", name=f"n{k}") for k in range(7)]
    refusal = linted(model(*nodes, node("Relu"))).refusal
    assert refusal.startswith("TensorRT cannot take m.onnx: Bernoulli n0: the operator")
    assert "Bernoulli n4" in refusal and "Bernoulli n5" not in refusal
    assert refusal.endswith("; 2 more") and "\n" not in refusal


def test_symmetric_pairs_are_fine() -> None:
    proto = model(
        node("QuantizeLinear", "input s z", "q"),
        node("DequantizeLinear", "q s z"),
        tensors={"s": ONE, "z": np.int8(0)},
    )
    assert told(proto) == []


def test_fp8_pairs_are_fine() -> None:
    zero = helper.make_tensor("z", TensorProto.FLOAT8E4M3FN, [], [0.0])
    proto = model(
        node("QuantizeLinear", "input s z", "q"),
        node("DequantizeLinear", "q s z"),
        tensors={"s": ONE},
    )
    proto.graph.initializer.append(zero)
    assert told(proto) == []


class Attending(nn.Module):
    """Normalisation, attention and convolution in one small model."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(self.stem(x).flatten(2).transpose(1, 2))
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.head(nn.functional.gelu(mixed).mean(1))


class HandMade(nn.Module):
    """A LayerNorm written out, as some model code has it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-6)


def exported(module: nn.Module, path: Any) -> Any:
    export_onnx(module.eval(), 16, path, ExportConfig(max_batch=8))
    return onnx.load(path)


def test_our_exports_pass(tmp_path: Any) -> None:
    proto = exported(Attending(), tmp_path / "m.onnx")
    kinds = [found.op_type for found in proto.graph.node]
    assert kinds.count("LayerNormalization") == 1  # one node, not in pieces
    result = linted(proto)
    assert (
        result
        and str(result) == f"lint m.onnx for TensorRT: {len(kinds)} nodes, 0 errors, 0 warnings"
    )


def test_a_normalisation_in_pieces_is_told(tmp_path: Any) -> None:
    result = linted(exported(HandMade(), tmp_path / "m.onnx"))
    assert result
    (finding,) = result.findings
    assert (finding.severity, finding.operator) == ("warning", "Div")
    assert "a LayerNormalization in pieces" in finding.message


def test_the_table_knows_onnx_operators_only() -> None:
    """A typing error in the table would let an operator be refused for nothing."""
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    assert set(TYPES) - known == set()
