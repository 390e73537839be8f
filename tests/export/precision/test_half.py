"""fp16 and bf16 graphs against numpy in the same types, and what overflows against float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from mldr_deploy.bundle.progress import Silent
from mldr_deploy.errors import MldrError
from mldr_deploy.export.precision.bf16 import BF16
from mldr_deploy.export.precision.emulated import emulated
from mldr_deploy.export.precision.fp16 import FP16
from mldr_deploy.export.precision.graph import element_types, load_graph, save_graph
from mldr_deploy.export.precision.half import rounded, to_half
from mldr_deploy.export.precision.islands import ElementType, IslandConfig, islands
from mldr_deploy.export.precision.ranges import largest_magnitudes
from mldr_deploy.runtimes.model_file import ModelFile
from mldr_deploy.runtimes.onnxruntime_cpu import OnnxRuntimeCpu

RNG = np.random.default_rng(0)
NORMALISING = """
    scaled = Mul(input, gain)
    squared = Pow(scaled, two)
    mean = ReduceMean<keepdims = 1>(squared, axes)
    safe = Add(mean, eps)
    root = Sqrt(safe)
    normal = Div(scaled, root)
    logits = MatMul(normal, weight)
"""


def graph(body: str, constants: dict[str, NDArray[Any]], opset: int = 22) -> Any:
    """A model input [batch, 8] -> logits [batch, 4] with named nodes and inferred types."""
    text = (
        f'<ir_version: 10, opset_import: ["" : {opset}]>\n'
        f"g (float[batch, 8] input) => (float[batch, 4] logits) {{{body}}}"
    )
    proto = onnx.parser.parse_model(text)
    for node in proto.graph.node:
        node.name = f"make {node.output[0]}"
    proto.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    return onnx.shape_inference.infer_shapes(proto)


def normalising(gain: float = 300.0) -> Any:
    return graph(
        NORMALISING,
        {
            "gain": np.array(gain, np.float32),
            "two": np.array(2, np.float32),
            "axes": np.array([1]),
            "eps": np.array(1e-3, np.float32),
            "weight": RNG.standard_normal((8, 4)).astype(np.float32),
        },
    )


def inputs(count: int = 6) -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((count, 8)).astype(np.float32)


def run(proto: Any, values: NDArray[np.float32]) -> NDArray[Any]:
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    return np.asarray(session.run(None, {"input": values})[0])


def chosen(proto: Any, kind: ElementType, **config: float) -> dict[str, str]:
    batches = [inputs()[:4], inputs()[4:]]
    largest = largest_magnitudes(proto, batches, 6, Silent())
    return islands(proto, largest, kind, IslandConfig(**config))


def expected(proto: Any, values: NDArray[np.float32]) -> NDArray[np.float64]:
    weight = numpy_helper.to_array(proto.graph.initializer[-1]).astype(np.float64)
    scaled = values.astype(np.float64) * 300
    root = np.sqrt((scaled**2).mean(axis=1, keepdims=True) + 1e-3)
    result: NDArray[np.float64] = (scaled / root) @ weight
    return result


def test_ranges_are_the_largest_magnitudes_of_every_value() -> None:
    proto = normalising()
    found = largest_magnitudes(proto, [inputs()[:4], inputs()[4:]], 6, Silent())
    scaled = np.abs(inputs()) * 300
    assert found["input"] == pytest.approx(np.abs(inputs()).max())
    assert found["scaled"] == pytest.approx(scaled.max())
    assert found["squared"] == pytest.approx((scaled**2).max())
    assert found["root"] == pytest.approx(np.sqrt((scaled**2).mean(1) + 1e-3).max())
    assert (found["gain"], found["eps"]) == (300, pytest.approx(1e-3))


def emulate(proto: Any, folder: Path, values: NDArray[np.float32]) -> NDArray[np.float32]:
    save_graph(proto, folder / "half.onnx")
    with emulated(folder / "half.onnx") as runner:
        return runner(values)


def test_without_islands_it_overflows_and_with_those_chosen_it_does_not(tmp_path: Path) -> None:
    proto, values = normalising(), inputs()
    broken = emulate(to_half(proto, TensorProto.FLOAT16, set()), tmp_path, values)
    overflows = ((values.astype(np.float64) * 300) ** 2 > 65520).any(axis=1)
    assert overflows.sum() == 5
    assert np.array_equal((broken == 0).all(axis=1), overflows)  # x / inf
    kept = chosen(proto, FP16)
    assert set(kept) == {"make squared", "make mean", "make safe", "make root"}
    assert "does not fit fp16" in kept["make squared"]
    half = to_half(proto, TensorProto.FLOAT16, set(kept))
    healthy = emulate(half, tmp_path, values)
    np.testing.assert_allclose(run(half, values), expected(proto, values), atol=2e-2)
    np.testing.assert_allclose(healthy, expected(proto, values), atol=2e-2)


def test_outside_of_islands_everything_is_half_and_the_ends_are_float() -> None:
    proto = normalising()
    kept = set(chosen(proto, FP16))
    half = to_half(proto, TensorProto.FLOAT16, kept)
    types = element_types(half)
    for node in half.graph.node:
        floats = {types[n] for n in [*node.input, *node.output]} - {TensorProto.INT64}
        if node.op_type != "Cast":
            island = node.name in kept
            assert floats == {TensorProto.FLOAT if island else TensorProto.FLOAT16}, node.name
    stored = {t.name: t.data_type for t in half.graph.initializer}
    assert stored["weight"] == stored["gain"] == TensorProto.FLOAT16
    assert stored["two"] == stored["eps"] == TensorProto.FLOAT
    ends = [half.graph.input[0], half.graph.output[0]]
    assert [(v.name, v.type.tensor_type.elem_type) for v in ends] == [
        ("input", TensorProto.FLOAT),
        ("logits", TensorProto.FLOAT),
    ]
    casts = [(n.input[0], n.attribute[0].i) for n in half.graph.node if n.op_type == "Cast"]
    assert len(casts) == len(set(casts)) == 4  # input, scaled, root and logits: one Cast each


def test_a_constant_read_in_both_types_is_there_twice() -> None:
    body = "a = Mul(input, c) b = Mul(a, c) logits = MatMul(b, weight)"
    weight = RNG.standard_normal((8, 4)).astype(np.float32)
    proto = graph(body, {"c": np.array([1.1], np.float32), "weight": weight})
    half = to_half(proto, TensorProto.FLOAT16, {"make b"})
    stored = sorted((t.name, t.data_type) for t in half.graph.initializer if t.name != "weight")
    assert stored == [("c/fp32", TensorProto.FLOAT), ("c/half", TensorProto.FLOAT16)]
    a = (inputs().astype(np.float16) * np.float16(1.1)).astype(np.float32)
    ours = (a * np.float32(1.1)).astype(np.float16).astype(np.float32)
    theirs = ours @ weight.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(run(half, inputs()), theirs, atol=2e-2, rtol=1e-3)


def test_types_that_stand_in_nodes_are_converted_too() -> None:
    body = """
        half = Constant<value_float = 0.5>()
        table = Constant<value = float[8] {1, 2, 3, 4, 5, 6, 7, 8}>()
        whole = Cast<to = 7>(input)
        again = Cast<to = 1>(whole)
        a = Mul(again, half)
        b = Mul(a, table)
        logits = MatMul(b, weight)
    """
    proto = graph(body, {"weight": np.ones((8, 4), np.float32)})
    half = to_half(proto, TensorProto.FLOAT16, set())
    types = element_types(half)
    assert {types[name] for name in ("half", "table", "again", "a", "b")} == {TensorProto.FLOAT16}
    wide = np.trunc(inputs() * 3)
    expected = (wide * 0.5 * np.arange(1, 9)).sum(axis=1, keepdims=True).repeat(4, axis=1)
    np.testing.assert_allclose(run(half, inputs() * 3), expected, atol=1e-2)


@pytest.mark.parametrize(
    ("body", "constants", "kind", "node", "reason"),
    [
        ("n = LayerNormalization(input, s)", {}, FP16, "make n", None),
        ("b = Mul(input, big) n = LayerNormalization(b, s)", {}, FP16, "make n", "the square of"),
        ("n = Add(input, tiny)", {}, FP16, "make n", "the constant 1e-12 is below the normal"),
        ("n = Add(input, tiny)", {}, BF16, "make n", None),
        ("n = Mul(input, small)", {}, FP16, "make n", "is below the normal numbers of fp16"),
        ("n = Mul(input, big)", {}, FP16, "make n", None),
        ("n = Mul(input, huge)", {}, FP16, "make n", "does not fit fp16"),
        ("n = Exp(input)", {}, FP16, "make n", None),
        ("n = Exp(input)", {}, BF16, "make n", "Exp needs more than 8 bits"),
    ],
)
def test_each_rule(
    body: str, constants: dict[str, Any], kind: ElementType, node: str, reason: str | None
) -> None:
    values = {
        "s": np.ones(8),
        "big": np.array([1e3]),
        "huge": np.array([1e4]),
        "tiny": np.array([1e-12]),
        "small": np.full(8, 1e-6),
        "weight": np.ones((8, 4)),
    }
    used = {k: v.astype(np.float32) for k, v in values.items() if f" {k})" in body or k == "weight"}
    used |= {k: v.astype(np.float32) for k, v in values.items() if f"{k})" in body}
    kept = chosen(graph(f"{body} logits = MatMul(n, weight)", used), kind)
    assert (node in kept) is (reason is not None), kept
    assert reason is None or reason in kept[node]


def test_the_margin_is_for_images_that_calibration_did_not_show() -> None:
    proto = graph(
        "n = Mul(input, c) logits = MatMul(n, weight)",
        {"c": np.array([1e4], np.float32), "weight": np.ones((8, 4), np.float32) / 100},
    )
    peak = np.abs(inputs()).max() * 1e4
    assert 65504 / 4 < peak < 65504
    assert "make n" in chosen(proto, FP16)
    assert "make n" not in chosen(proto, FP16, margin=1)


def test_a_mean_of_many_values_adds_them_up_first() -> None:
    body = "n = ReduceMean<keepdims = 1>(input, axes) m = Add(input, n) logits = MatMul(m, weight)"
    constants = {"axes": np.array([1]), "weight": np.ones((8, 4), np.float32) / 1e4}
    proto = graph(body, constants)
    largest = {"input": 5e3, "n": 4e3, "m": 9e3, "weight": 1e-4, "logits": 1.0}
    kept = islands(proto, largest, FP16, IslandConfig())
    assert kept == {"make n": "a sum of 8 values of 5e+03 does not fit fp16"}


def test_nan_in_the_fp32_graph_is_refused() -> None:
    proto = graph("n = Log(input) logits = MatMul(n, weight)", {"weight": np.ones((8, 4), "f")})
    with pytest.raises(MldrError, match="of the fp32 graph is NaN or infinite"):
        largest_magnitudes(proto, [inputs()], 6, Silent())


@pytest.mark.parametrize(
    ("element", "kind"),
    [(TensorProto.FLOAT16, np.float16), (TensorProto.BFLOAT16, ml_dtypes.bfloat16)],
)
def test_constants_are_rounded_to_nearest(element: int, kind: Any) -> None:
    values = np.array([1 / 3, -7.77, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8], np.float32)
    low = numpy_helper.to_array(rounded(numpy_helper.from_array(values, "v"), element))
    assert low.dtype == kind
    wide = low.astype(np.float32)
    step = np.spacing(values.astype(kind)).astype(np.float32)
    assert (np.abs(wide - values) <= np.abs(step) / 2).all()
    ties = [1.0, 1 + 2.0**-9] if kind is np.float16 else [1.0, 1.0]
    assert wide[2:4].tolist() == ties  # to even


def test_a_constant_that_does_not_fit_is_refused() -> None:
    tensor = numpy_helper.from_array(np.array([1e6], np.float32), "weight")
    with pytest.raises(MldrError, match=r"weight holds 1e\+06, too large for 16 bits"):
        rounded(tensor, TensorProto.FLOAT16)


def test_bf16_is_emulated_with_a_rounding_after_each_node(tmp_path: Path) -> None:
    body = "a = MatMul(input, w) b = Sigmoid(a) c = Mul(b, s) logits = Add(c, d)"
    shapes = {"w": (8, 4), "s": (4,), "d": (4,)}
    constants = {k: RNG.standard_normal(v).astype(np.float32) for k, v in shapes.items()}
    half = to_half(graph(body, constants), TensorProto.BFLOAT16, set())
    save_graph(half, tmp_path / "bf16.onnx")
    with pytest.raises(MldrError, match="Could not find an implementation"):
        OnnxRuntimeCpu(ModelFile(tmp_path / "bf16.onnx")).__enter__()

    def low(values: Any) -> Any:
        return np.asarray(values, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)

    a = low(low(inputs()) @ low(constants["w"]))
    b = low(1 / (1 + np.exp(-a)))
    theirs = low(low(b * low(constants["s"])) + low(constants["d"]))
    with emulated(tmp_path / "bf16.onnx") as runner:
        ours = runner(inputs())
    assert np.array_equal(ours, low(ours))
    assert (np.abs(ours - theirs) <= 2.0**-7 * np.abs(theirs)).all()  # one step of bf16 at most
    assert np.mean(ours == theirs) > 0.9


def test_islands_of_bf16_stay_exact(tmp_path: Path) -> None:
    proto, values = normalising(), inputs()
    kept = chosen(proto, BF16)
    assert set(kept) == {"make squared", "make mean", "make root"}
    save_graph(to_half(proto, TensorProto.BFLOAT16, set(kept)), tmp_path / "bf16.onnx")
    with emulated(tmp_path / "bf16.onnx") as runner:
        np.testing.assert_allclose(runner(values), expected(proto, values), atol=0.1)


def test_what_is_no_onnx_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "student.onnx").write_bytes(b"\xff\xfe not a model")
    with pytest.raises(MldrError, match="is not a readable ONNX file"):
        load_graph(tmp_path / "student.onnx")
