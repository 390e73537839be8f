"""The lint: broken graphs are refused by NVIDIA's own parser, or by a rule for what it lets pass.

The parser is the real one of TensorRT-RTX, in a process of its own (``real.py``).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import real
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mldr_deploy.bundle.engine import Profile
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.onnx_export import export_onnx
from mldr_deploy.export.tensorrt.graph_view import GraphView
from mldr_deploy.export.tensorrt.lint import lint
from mldr_deploy.export.tensorrt.rules import decomposed_normalisation

SCOPES = "['', 'blocks', 'blocks.0', 'here']"  # as the exporter notes them: module and operation
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
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=SCOPES)
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


ONE = np.float32(0.5)
M = " (module blocks.0): "  # what the lint adds to each node of these graphs


def cast(kind: int, *nodes: Any, **more: Any) -> Any:
    """The input in ``kind``, called x, through ``nodes`` to y, and back to fp32."""
    into = node("Cast", outputs="x", name="into", to=kind)
    back = node("Cast", "y", name="back", to=TensorProto.FLOAT)
    return model(into, *nodes, back, **more)


def resized(**attributes: Any) -> Any:
    """A Resize by given scales."""
    one = np.ones(4, np.float32)
    return model(node("Resize", "input  s", **attributes), tensors={"s": one})


def quantised(zero: Any, scale: Any = ONE, last: str = "DequantizeLinear") -> Any:
    """QuantizeLinear and what follows it."""
    after = node(last, "q s z") if last == "DequantizeLinear" else node(last, "q", to=1)
    return model(node("QuantizeLinear", "input s z", "q"), after, tensors={"s": scale, "z": zero})


BF16, INT32, INT64 = TensorProto.BFLOAT16, TensorProto.INT32, TensorProto.INT64
THREE = np.ones(3, np.float32)
# By the parser: (model, what it says, node and module included).
REFUSED = [
    (model(node("Bernoulli")), f"Bernoulli the_bernoulli{M}the operator is not supported"),
    (
        model(node("BiasGelu", domain="com.microsoft"), domains=("com.microsoft",)),
        f"BiasGelu the_biasgelu{M}Plugin not found",
    ),
    (cast(BF16, node("Mish", "x", "y")), f"Mish the_mish{M}Only FLOAT32 or FLOAT16 input"),
    (
        cast(INT64, node("BitwiseNot", "x", "y")),
        f"BitwiseNot the_bitwisenot{M}the operator is not supported",
    ),
    (
        model(node("MaxPool", kernel_shape=[3, 3], dilations=[2, 2], pads=[2] * 4)),
        f"MaxPool the_maxpool{M}This version of TensorRT does not support dilations other than 1.",
    ),
    (
        model(node("MaxPool", outputs="logits places", kernel_shape=[1, 1])),
        f"MaxPool the_maxpool{M}This version of TensorRT doesn't support mode than 1 outputs",
    ),
    (resized(mode="cubic"), f"Resize the_resize{M}the parser takes it in no such form"),
    (
        model(
            node("LayerNormalization", "input w", "logits mean"),
            tensors={"w": np.ones(8, np.float32)},
        ),
        f"LayerNormalization the_layernormalization{M}This version of TensorRT doesn't support",
    ),
    (
        model(node("Dropout", "input r t"), tensors={"r": ONE, "t": np.array(True)}),
        f"Dropout the_dropout{M}TensorRT does not support the Dropout operator in training mode.",
    ),
    (
        model(
            node("Shape", outputs="shape"),
            node("ReduceSum", "shape", "axis", keepdims=1),
            node("ReduceMean", "input axis", keepdims=1),
        ),
        f"ReduceMean the_reducemean{M}Axis input must resolve to a build-time constant",
    ),
    (
        quantised(np.int8(3)),
        f"QuantizeLinear the_quantizelinear{M}Non-zero zero point is not supported",
    ),
    (
        quantised(np.int8(0), np.float32(np.nan)),
        f"QuantizeLinear the_quantizelinear{M}Scale coefficients must all be positive",
    ),
    (
        model(
            node("DequantizeLinear", "b s", "bias"),
            node("Add", "input bias"),
            tensors={"b": np.int32(4), "s": ONE},
        ),
        f"DequantizeLinear the_dequantizelinear{M}the_dequantizelinear: input has type Int32",
    ),
    (
        model(
            node("ScatterND", "input i u", reduction="add"),
            tensors={"i": np.zeros((1, 1), np.int64), "u": np.zeros((1, 3, 8, 8), np.float32)},
        ),
        f"ScatterND the_scatternd{M}ScatterND with reduction is not supported.",
    ),
    (cast(BF16, node("HardSwish", "x", "y")), f"HardSwish the_hardswish{M}Only FLOAT, HALF or"),
    (
        cast(BF16, node("GlobalLpPool", "x", "y"), out=("batch", 3, 1, 1)),
        f"GlobalLpPool the_globallppool{M}Only FLOAT and HALF are supported",
    ),
    (
        cast(BF16, node("LpNormalization", "x", "y")),
        f"LpNormalization the_lpnormalization{M}Only float inputs/outputs supported",
    ),
    (
        cast(TensorProto.UINT8, node("Identity", "x", "y")),
        f"Cast into{M}TensorRT does not support UINT8 types for intermediate tensors.",
    ),
    (cast(INT32, node("Relu", "x", "y")), f"Relu the_relu{M}Found unsupported input type of INT32"),
    (
        cast(INT64, node("ReduceL2", "x", "y", keepdims=1), out=(1, 1, 1, 1)),
        f"ReduceL2 the_reducel2{M}This version of TensorRT does not support the given operator",
    ),
    (
        model(
            node("BatchNormalization", "input a a a a", "logits m v", training_mode=1),
            tensors={"a": THREE},
        ),
        f"BatchNormalization the_batchnormalization{M}This version of TensorRT does not support "
        "training_mode == 1",
    ),
    (
        resized(mode="linear", antialias=1),
        f"Resize the_resize{M}Antialiasing is not supported currently.",
    ),
    (
        resized(mode="linear", keep_aspect_ratio_policy="not_larger"),
        f"Resize the_resize{M}Only `stretch` is supported currently",
    ),
    (model(node("Det"), out=("batch", 3)), f"Det the_det{M}the operator is not supported"),
    (
        model(node("NonZero", outputs="w"), node("Cast", "w", to=TensorProto.FLOAT), out=(4, "n")),
        f"NonZero the_nonzero{M}NonZero plugin creator version 1 was not found",
    ),
    (
        model(node("Mod", "input t"), tensors={"t": np.float32(2)}),
        f"Mod the_mod{M}The fmod attribute is set to 0.",
    ),
]
# What the parser takes, and our rules refuse: (model, what they say).
RULED = [
    (model(node("Relu"), opset=25), "Graph (the model): opset 25, classic TensorRT takes up to 24"),
    (
        model(node("Relu"), shape=(4, 3, 8, 8)),
        "Graph input: the batch is fixed at 4, the profile asks for 1 to 8",
    ),
    (
        model(node("Relu"), shape=("batch", 3, "height", 8)),
        "Graph input: axis 2 (height) is dynamic and in no profile",
    ),
    (
        model(node("Relu"), kind=TensorProto.FLOAT16),
        "Graph input: is FLOAT16, the runtime feeds and fetches FLOAT",
    ),
    (
        cast(TensorProto.DOUBLE, node("Sqrt", "x", "y")),
        f"Sqrt the_sqrt{M}x is DOUBLE, which TensorRT computes as FLOAT",
    ),
    (
        quantised(np.uint8(0)),
        f"QuantizeLinear the_quantizelinear{M}it quantises to UINT8, which TensorRT computes as",
    ),
    (
        quantised(np.int8(0), last="Cast"),
        f"QuantizeLinear the_quantizelinear{M}a QuantizeLinear must feed DequantizeLinear",
    ),
    (
        model(node("TopK", "input k", "logits i", sorted=0), tensors={"k": np.array([3])}),
        f"TopK the_topk{M}sorted = 0 is not supported",
    ),
    (
        cast(BF16, node("Swish", "x", "y"), opset=24),
        f"Swish the_swish{M}classic TensorRT's support",
    ),
]
WARNED = [
    (
        model(node("RandomNormalLike")),
        f"warning: RandomNormalLike the_randomnormallike{M}it draws random numbers",
    ),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the lint says of every model of this file, by its key."""
    folder = tmp_path_factory.mktemp("lint")
    for key, proto in MODELS.items():
        onnx.save(proto, folder / f"{key}.onnx")
    export(Attending(), folder / "attending.onnx")
    export(HandMade(), folder / "handmade.onnx")
    export(Drawing(), folder / "drawing.onnx")
    return real.ask("lint", folder)


@pytest.mark.parametrize("k", range(len(REFUSED)), ids=lambda k: REFUSED[k][1].split(" (")[0])
def test_the_real_parser_refuses_with_node_and_module(answers: Any, k: int) -> None:
    answer, message = answers[f"refused{k}"], REFUSED[k][1]
    assert any(text.startswith(f"error: {message}") for text in answer["rtx"]), answer
    assert any(text.startswith(f"error: {message}") for text in answer["classic"]), answer
    assert answer["refused"]


@pytest.mark.parametrize("k", range(len(RULED)), ids=lambda k: RULED[k][1][-30:])
def test_a_rule_refuses_what_the_parser_takes(answers: Any, k: int) -> None:
    answer, message = answers[f"ruled{k}"], RULED[k][1]
    assert any(text.startswith(f"error: {message}") for text in answer["classic"]), answer
    assert answer["refused"]


@pytest.mark.parametrize("k", range(len(WARNED)))
def test_a_warning_lets_it_pass(answers: Any, k: int) -> None:
    answer, message = answers[f"warned{k}"], WARNED[k][1]
    assert any(text.startswith(message) for text in answer["classic"]), answer
    assert not answer["refused"]


def test_branches_are_looked_into(answers: Any) -> None:
    assert any("Bernoulli deep" in text for text in answers["branches"]["rtx"]), answers["branches"]


def test_a_refusal_is_one_line_with_the_first_nodes(answers: Any) -> None:
    refusal = answers["seven"]["refusal"]
    assert refusal.startswith(
        "TensorRT cannot take seven.onnx: Bernoulli n0 (module blocks.0): the"
    )
    assert "Bernoulli n4" in refusal and "Bernoulli n5" not in refusal
    assert refusal.endswith("; 2 more") and "\n" not in refusal


def test_symmetric_pairs_are_fine(answers: Any) -> None:
    assert answers["int8"]["classic"] == answers["int8"]["rtx"] == []
    assert answers["fp8"]["classic"] == answers["fp8"]["rtx"] == []


def inner_branches() -> Any:
    inner = helper.make_graph(
        [helper.make_node("Bernoulli", ["input"], ["drawn"], "deep")],
        "branch",
        [],
        [helper.make_tensor_value_info("drawn", TensorProto.FLOAT, ["batch", 3, 8, 8])],
    )
    return model(
        node("If", "c", then_branch=inner, else_branch=inner), tensors={"c": np.array(True)}
    )


def fp8_pair() -> Any:
    proto = quantised(np.int8(0))
    del proto.graph.initializer[1]
    proto.graph.initializer.append(helper.make_tensor("z", TensorProto.FLOAT8E4M3FN, [], [0.0]))
    return proto


SEVEN = [node("Bernoulli", outputs=f"v{k}", name=f"n{k}") for k in range(7)]
MODELS = {
    **{f"refused{k}": proto for k, (proto, _) in enumerate(REFUSED)},
    **{f"ruled{k}": proto for k, (proto, _) in enumerate(RULED)},
    **{f"warned{k}": proto for k, (proto, _) in enumerate(WARNED)},
    "branches": inner_branches(),
    "seven": model(*SEVEN, node("Relu")),
    "int8": quantised(np.int8(0)),
    "fp8": fp8_pair(),
}


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


class Drawing(nn.Module):
    """A layer deep inside that no parser takes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 4, 4)
        self.stage = nn.Sequential(nn.ReLU(), Signs())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stage(self.stem(x)).mean((2, 3))


class Signs(nn.Module):
    """Bits turned over."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.bitwise_not(x.to(torch.int32)).to(x.dtype)


def export(module: nn.Module, path: Path) -> None:
    export_onnx(module.eval(), 16, path, ExportConfig(max_batch=8))


def test_our_exports_pass(answers: Any) -> None:
    answer = answers["attending"]
    assert answer["classic"] == answer["rtx"] == []
    assert re.fullmatch(
        r"lint attending\.onnx by TensorRT-RTX [\d.]+'s parser: \d+ nodes, 0 errors, 0 warnings",
        answer["head"],
    )


def test_the_students_own_module_is_named(answers: Any) -> None:
    (finding,) = answers["drawing"]["rtx"]
    assert "BitwiseNot" in finding and "(module stage.1): the operator is not" in finding


def test_a_normalisation_in_pieces_is_told(answers: Any) -> None:
    assert not answers["handmade"]["refused"]
    (finding,) = answers["handmade"]["rtx"]
    assert finding.startswith("warning: Div ") and "a LayerNormalization in pieces" in finding


def normalising(kind: int) -> Any:
    """x / sqrt(mean(x * x) + eps), as RMSNorm is written out."""
    element = helper.tensor_dtype_to_np_dtype(kind)
    body = (
        node("Mul", "x x", "square"),
        node("ReduceMean", "square a", "mean", keepdims=1),
        node("Add", "mean e", "safe"),
        node("Sqrt", "safe", "root"),
        node("Reciprocal", "root", "over"),
        node("Mul", "x over", "y", name="scaled"),
    )
    return cast(kind, *body, tensors={"a": np.array([-1]), "e": np.array(1e-3).astype(element)})


@pytest.mark.parametrize(
    ("kind", "told"), [(TensorProto.FLOAT16, True), (TensorProto.FLOAT, False)]
)
def test_rms_in_pieces_is_told_in_fp16(kind: int, told: bool) -> None:
    view = GraphView(normalising(kind))
    found = [f"{op} {name}: {text}" for name, op, text in decomposed_normalisation(view)]
    assert bool(found) == told
    if told:
        assert found[0].startswith("Mul scaled: an RMSNormalization in pieces in fp16")


def test_without_a_library_our_rules_speak_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, module, None)
    result = lint(model(node("Bernoulli")), PROFILE, "m.onnx")
    assert result and result.parser is None
    told = str(result)
    assert told.startswith("lint m.onnx by our own rules only: 1 nodes, 0 errors, 0 warnings (not ")
    assert 'pip install "mldr-deploy[tensorrt-rtx]"' in told
    assert not lint(model(node("Relu"), shape=(4, 3, 8, 8)), PROFILE, "m.onnx")
