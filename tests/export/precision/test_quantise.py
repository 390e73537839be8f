"""int8 and fp8 graphs against numpy; the search against accuracies that are given to it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from mldr_deploy.bundle.progress import Silent
from mldr_deploy.errors import MldrError
from mldr_deploy.export.artifact_kind import ExportContext
from mldr_deploy.export.calibration import Calibration
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.precision import search as searching
from mldr_deploy.export.precision.fp8 import to_fp8
from mldr_deploy.export.precision.graph import load_graph
from mldr_deploy.export.precision.precision_config import QuantizeConfig
from mldr_deploy.export.precision.qdq import (
    AFFINE,
    SYMMETRIC,
    Scheme,
    calibrate,
    integer_products,
    layers,
    nodes_to_quantise,
    qdq,
)
from mldr_deploy.export.precision.search import Search, search
from mldr_deploy.export.trained_student import Student

RNG = np.random.default_rng(0)
CONFIG = QuantizeConfig()
BODY = """
    c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(input, w1, b1)
    r = Relu(c)
    d = Conv<kernel_shape = [1, 1]>(r, w2, b2)
    e = Add(d, r)
    p = GlobalAveragePool(e)
    f = Flatten(p)
    logits = Gemm<transB = 1>(f, w3, b3)
"""
SHAPES = {
    "w1": (6, 3, 3, 3),
    "b1": (6,),
    "w2": (6, 6, 1, 1),
    "b2": (6,),
    "w3": (4, 6),
    "b3": (4,),
}
WEIGHTS = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
IMAGES = RNG.standard_normal((24, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]>\n'
        f"g (float[batch, 3, 8, 8] input) => (float[batch, 4] logits) {{{BODY}}}"
    )
    for node in proto.graph.node:
        node.name = f"make {node.output[0]}"
    proto.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in WEIGHTS.items())
    path = tmp_path_factory.mktemp("graph") / "student.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(proto), path)
    return path


def quantised(path: Path, scheme: Scheme, method: str = "minmax") -> Any:
    ranges = calibrate(path, [IMAGES[:16], IMAGES[16:]], method, scheme, CONFIG, Silent())
    proto = load_graph(path)
    nodes = nodes_to_quantise(proto, set(layers(proto, "cnn")), "cnn", scheme)
    graph = qdq(path, ranges, nodes, scheme, CONFIG)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def constants(graph: Any) -> dict[str, NDArray[Any]]:
    return {t.name: numpy_helper.to_array(t) for t in graph.graph.initializer}


def nodes_of(graph: Any, op: str) -> list[Any]:
    return [node for node in graph.graph.node if node.op_type == op]


def scale_of(weight: NDArray[np.float32], largest: float) -> NDArray[np.float32]:
    """One scale for each output channel, shaped to divide by."""
    peaks = np.abs(weight.reshape(len(weight), -1)).max(axis=1) / largest
    return peaks.reshape(-1, *[1] * (weight.ndim - 1)).astype(np.float32)


@pytest.mark.parametrize("scheme", [AFFINE, SYMMETRIC])
def test_weights_are_rounded_symmetrically_per_channel(path: Path, scheme: Scheme) -> None:
    stored = constants(quantised(path, scheme))
    for name in ("w1", "w2", "w3"):
        scale = scale_of(WEIGHTS[name], 127)
        np.testing.assert_allclose(stored[f"{name}_scale"], scale.ravel(), rtol=1e-6)
        assert not stored[f"{name}_zero_point"].any()
        assert stored[f"{name}_quantized"].dtype == np.int8
        expected = np.clip(np.rint(WEIGHTS[name] / scale), -127, 127)
        assert np.array_equal(stored[f"{name}_quantized"], expected)


def test_activations_of_the_affine_form_use_the_whole_range(path: Path) -> None:
    graph = quantised(path, AFFINE)
    stored = constants(graph)
    lowest, highest = IMAGES.min(), IMAGES.max()
    scale = (highest - lowest) / 255
    assert stored["input_scale"] == pytest.approx(scale, rel=1e-5)
    assert stored["input_zero_point"].dtype == np.uint8
    assert stored["input_zero_point"] == np.rint(-lowest / scale)
    assert not nodes_of(graph, "Relu")  # the range of what it gives begins at 0
    assert stored["r_zero_point"] == 0
    assert {node.input[0] for node in nodes_of(graph, "QuantizeLinear")} >= {"r", "d", "e", "p"}
    assert {"b1", "b2", "b3"} <= stored.keys()  # biases stay float


def test_the_symmetric_form_is_what_tensorrt_takes(path: Path) -> None:
    graph = quantised(path, SYMMETRIC)
    stored = constants(graph)
    pairs = [*nodes_of(graph, "QuantizeLinear"), *nodes_of(graph, "DequantizeLinear")]
    zero_points = [stored[node.input[2]] for node in pairs]
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zero_points)
    assert stored["input_scale"] == pytest.approx(np.abs(IMAGES).max() / 127, rel=1e-5)
    assert {node.input[0] for node in nodes_of(graph, "QuantizeLinear")} == {"input", "r", "f"}
    assert len(nodes_of(graph, "Relu")) == len(nodes_of(graph, "Add")) == 1
    assert {"b1", "b2", "b3"} <= stored.keys()


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_other_methods_clip_what_is_rare(path: Path, method: str) -> None:
    tailed = IMAGES**5
    config = QuantizeConfig(percentile=99.0)
    largest = {}
    for name in ("minmax", method):
        ranges = calibrate(path, [tailed[:16], tailed[16:]], name, SYMMETRIC, config, Silent())
        largest[name] = float(np.max(ranges["input"].range_value[1]))
    assert largest["minmax"] == np.abs(tailed).max()
    assert largest[method] < 0.95 * largest["minmax"]
    if method == "percentile":
        assert largest[method] == pytest.approx(np.quantile(np.abs(tailed), 0.99), rel=0.02)


def test_fp8_has_the_same_places_and_its_own_rounding(path: Path) -> None:
    graph = to_fp8(quantised(path, SYMMETRIC), load_graph(path))
    onnx.checker.check_model(graph, full_check=True)
    stored = constants(graph)
    for name in ("w1", "w2", "w3"):
        scale = scale_of(WEIGHTS[name], 448)
        np.testing.assert_allclose(stored[f"{name}_scale"], scale.ravel(), rtol=1e-6)
        low = stored[f"{name}_quantized"]
        assert low.dtype == ml_dtypes.float8_e4m3fn
        error = np.abs(low.astype(np.float32) * scale - WEIGHTS[name])
        assert (error <= np.maximum(np.abs(WEIGHTS[name]) / 16, scale * 2**-10)).all()
        assert np.abs(low.astype(np.float32)).max() == 448
    assert stored["input_scale"] == pytest.approx(np.abs(IMAGES).max() / 448, rel=1e-5)
    kinds = {t.data_type for t in graph.graph.initializer if "zero_point" in t.name}
    assert kinds == {TensorProto.FLOAT8E4M3FN}


def test_what_follows_a_layer_left_out_is_left_in_float_too(path: Path) -> None:
    proto = load_graph(path)
    assert layers(proto, "cnn") == ["make c", "make d", "make logits"]
    assert layers(proto, "mamba") == ["make logits"]
    every = set(layers(proto, "cnn"))
    between = {"make r", "make e", "make p", "make f"}
    assert set(nodes_to_quantise(proto, every, "cnn", AFFINE)) == every | between
    left = nodes_to_quantise(proto, every - {"make c"}, "cnn", AFFINE)
    assert set(left) == (every | between) - {"make c", "make r"}
    assert set(nodes_to_quantise(proto, every, "transformer", AFFINE)) == every


def test_what_a_product_of_two_activations_reads_is_left_in_float() -> None:
    """Attention inside a CNN: its scaled query, and its key behind a transposition."""
    names = {
        "conv": ("Conv", ["input", "w"], "c"),
        "relu": ("Relu", ["c"], "r"),
        "query": ("Mul", ["r", "half"], "q"),
        "key": ("Mul", ["r", "half"], "k"),
        "turn": ("Transpose", ["k"], "t"),
        "product": ("MatMul", ["q", "t"], "logits"),
    }
    nodes = [onnx.helper.make_node(o, i, [out], name) for name, (o, i, out) in names.items()]
    constants = [
        numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "w"),
        numpy_helper.from_array(np.float32(0.5), "half"),
    ]
    graph = onnx.helper.make_graph(nodes, "attention", [], [], constants)
    found = nodes_to_quantise(onnx.helper.make_model(graph), {"conv"}, "cnn", AFFINE)
    assert found == ["conv", "relu"]


def test_products_that_read_integers_on_both_sides_are_on_record() -> None:
    """Attention by convolutions: their results are quantised, and so is the product of two."""
    names = {
        "turned": ("Transpose", ["q out"], "t"),
        "product": ("MatMul", ["t", "k out"], "p"),
        "half": ("MatMul", ["t", "soft"], "h"),
        "layer": ("MatMul", ["t", "k out"], "logits"),
    }
    scale = ["s", "z"]
    nodes = [
        onnx.helper.make_node("DequantizeLinear", [f"{side} in", *scale], [f"{side} out"], side)
        for side in "qk"
    ]
    nodes += [onnx.helper.make_node(o, i, [out], name) for name, (o, i, out) in names.items()]
    proto = onnx.helper.make_model(onnx.helper.make_graph(nodes, "attention", [], [], []))
    assert integer_products(proto, ["layer"]) == ["product"]


def export_context(run: Any, folder: Path, **changes: Any) -> ExportContext:
    config = ExportConfig(
        max_batch=32,
        calibration={"images": 32},
        quantize={"methods": ("minmax", "percentile"), "effect_images": 32, **changes},
    )
    calibration = Calibration(run.dataset.train, run.record.preprocessing, config.calibration)
    student = Student(run.model, run.record)
    return ExportContext(student, folder, config, calibration, run.dataset.val, Silent())


@pytest.fixture
def making(run: Any, exported: Any, tmp_path: Path) -> Any:
    """A bundle being written, with its fp32 file."""
    (tmp_path / "student.onnx").write_bytes((exported.path / "student.onnx").read_bytes())
    return lambda **changes: export_context(run, tmp_path, **changes)


def test_the_best_method_on_validation_is_kept_and_all_are_recorded(
    making: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = iter([80.0, 90.0])
    monkeypatch.setattr(Search, "_top1", lambda *_: next(given))
    _, record = search(making(target_drop=100), "int8", AFFINE)
    assert record.method == "percentile" and record.top1 == 90
    assert [(trial.method, trial.top1) for trial in record.trials] == [
        ("minmax", 80),
        ("percentile", 90),
    ]
    assert record.calibration_images == 32 and record.excluded == []


def test_the_most_sensitive_layers_are_left_out_until_the_target_is_met(
    making: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def effects(self: Search, ranges: Any) -> dict[str, float]:
        return {name: float(k) for k, name in enumerate(self.layers)}  # the last one most

    def graph(self: Search, ranges: Any, chosen: set[str], *, alone: bool = False) -> set[str]:
        return chosen

    def top1(self: Search, chosen: Any) -> float:
        left = len(self.layers) - len(chosen)
        tried.append(left)
        return self.reference - {0: 9.0, 1: 6.0, 2: 3.0, 4: 0.1}[left]

    monkeypatch.setattr(Search, "_effects", effects)
    monkeypatch.setattr(Search, "_graph", graph)
    monkeypatch.setattr(Search, "_top1", top1)
    graph_made, record = search(making(methods=("minmax",), max_excluded=0.3), "int8", AFFINE)
    assert tried == [0, 1, 2, 4]
    every = [*record.quantised, *record.excluded]
    assert len(every) == 16 and len(record.excluded) == 4
    assert record.excluded[0] == "node_linear" and "node_linear" not in record.quantised
    assert set(graph_made) == set(record.quantised)
    assert record.reference_top1 - record.top1 == pytest.approx(0.1)
    tried.clear()
    _, record = search(making(methods=("minmax",), max_excluded=0.15), "int8", AFFINE)
    assert tried == [0, 1, 2] and len(record.excluded) == 2  # the budget is spent
    tried.clear()
    _, record = search(making(methods=("minmax",), max_excluded=0.0), "int8", AFFINE)
    assert tried == [0] and record.excluded == []


def test_effects_are_those_of_the_layers(making: Any, tmp_path: Path) -> None:
    """A layer whose weights hold one giant is the one that 8 bits destroy."""
    target = "layer3.0.conv2.weight"
    proto = onnx.load(tmp_path / "student.onnx")
    made = making(reduce_range=True)  # else products saturate where the CPU has no VNNI
    (tensor,) = [t for t in proto.graph.initializer if t.name == target]
    value = numpy_helper.to_array(tensor).copy()
    value[:, 0, 0, 0] = 200 * np.abs(value).max()
    tensor.CopyFrom(numpy_helper.from_array(value, target))
    onnx.save(proto, tmp_path / "student.onnx")
    (tmp_path / "work").mkdir()
    found = Search(made, "int8", AFFINE, tmp_path / "work", None)
    config = made.config.quantize
    ranges = calibrate(found.path, made.calibration.batches(16), "minmax", AFFINE, config, Silent())
    effects = found._effects(ranges)
    (node,) = [n.name for n in found.source.graph.node if target in n.input]
    assert max(effects, key=lambda name: effects[name]) == node


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_without_images_to_calibrate_or_to_judge(
    making: Any, run: Any, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = making()
    monkeypatch.setattr(searching, "Search", None)  # refused before anything is computed
    nothing = run.dataset.train.subset(np.arange(0))
    spec, config = run.record.preprocessing, whole.config.calibration
    for change, message in [
        ({"validation": nothing}, "has no validation split \\(data.val_fraction is 0\\)"),
        ({"calibration": Calibration(nothing, spec, config)}, "the training split is empty"),
    ]:
        with pytest.raises(MldrError, match=f"{precision} .*{message}"):
            search(dataclasses.replace(whole, **change), precision, SYMMETRIC)


def test_impossible_configurations() -> None:
    for change, message in [
        ({"methods": ()}, "at least 1 item"),
        ({"methods": ("minmax", "minmax")}, "each once"),
        ({"methods": ("magic",)}, "'minmax', 'entropy' or 'percentile'"),
        ({"percentile": 101}, "less than or equal to 100"),
        ({"max_excluded": 2}, "less than or equal to 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            QuantizeConfig(**change)  # type: ignore[arg-type]
