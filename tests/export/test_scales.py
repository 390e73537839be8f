"""Graphs that onnxruntime's own quantizer made of real ranges hold; one wrong scale does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from mldr_deploy.export.scales import activation_ranges, wrong_scales


def batches(scale: float = 1.0, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [(scale * rng.standard_normal((16, 3, 8, 8))).astype(np.float32) for _ in range(8)]


class Images:
    def __init__(self, waiting: list[Any]) -> None:
        self.waiting = list(waiting)

    def get_next(self) -> dict[str, Any] | None:
        return {"input": self.waiting.pop()} if self.waiting else None


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    weights = {"w": (5, 3, 3, 3), "v": (4, 5, 3, 3)}
    constants = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) / 4, name)
        for name, shape in weights.items()
    ]
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "bend"),
        helper.make_node("Conv", ["b", "v"], ["logits"], "second"),
    ]
    ends = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4, 4, 4]),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    path = tmp_path_factory.mktemp("plain") / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


@pytest.fixture
def quantised(plain: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(images: list[Any], method: str = "MinMax", *, symmetric: bool = True) -> Path:
        path = tmp_path / f"{method}-{symmetric}.onnx"
        quantize_static(
            str(plain),
            str(path),
            Images(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            calibrate_method=CalibrationMethod[method],
            extra_options={"ActivationSymmetric": symmetric, "QuantizeBias": False},
        )
        return path

    return make


def rescaled(path: Path, name: str, factor: float) -> Path:
    proto = onnx.load(path)
    (scale,) = [t for t in proto.graph.initializer if t.name == name]
    value = numpy_helper.to_array(scale).copy()
    value.flat[0] *= factor
    scale.CopyFrom(numpy_helper.from_array(value, name))
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("method", ["MinMax", "Entropy", "Percentile"])
def test_scales_of_the_images_hold(
    plain: Path, quantised: Callable[..., Path], method: str, symmetric: bool
) -> None:
    path = quantised(batches(), method, symmetric=symmetric)
    assert len(activation_ranges(onnx.load(path))) >= 2
    assert wrong_scales(path, plain, batches()) == []


def test_what_loses_less_than_a_step_is_not_cut_off(
    plain: Path, quantised: Callable[..., Path]
) -> None:
    """-1 and 1, as attention over a single position gives them; a histogram ends a little below."""
    ends = [np.sign(batch) for batch in batches()]
    path = quantised(ends, symmetric=False)
    (of_input,) = [r for r in activation_ranges(onnx.load(path)) if r.value == "input"]
    assert of_input.highest < 1 <= of_input.highest + of_input.step
    assert wrong_scales(path, plain, [np.float32(1.002) * batch for batch in ends]) == []


@pytest.mark.parametrize(
    ("name", "factor", "message"),
    [
        ("input_scale", 4, "the scale of input_QuantizeLinear is not of the calibration images"),
        ("input_scale", 0.25, r"the scale of input_QuantizeLinear cuts off \d+ % of input"),
        ("b_scale", 1.5, "b_QuantizeLinear is not of the calibration images"),
        ("w_scale", 1.3, "w_DequantizeLinear does not give back the weights"),
    ],
)
def test_one_wrong_scale_is_named(
    plain: Path, quantised: Callable[..., Path], name: str, factor: float, message: str
) -> None:
    (told,) = wrong_scales(rescaled(quantised(batches()), name, factor), plain, batches())
    assert re.search(message, told), told


@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_ranges_of_other_images_are_told(
    plain: Path, quantised: Callable[..., Path], scale: float
) -> None:
    told = wrong_scales(quantised(batches(scale, seed=3)), plain, batches())
    assert told and all("calibration images" in line for line in told)


def test_a_graph_without_scales_has_none_that_are_wrong(plain: Path) -> None:
    assert wrong_scales(plain, plain, batches()) == []


def test_many_complaints_are_counted(plain: Path, quantised: Callable[..., Path]) -> None:
    path = quantised(batches())
    for name in ("input_scale", "b_scale", "w_scale", "v_scale"):
        rescaled(path, name, 3)
    told = wrong_scales(path, plain, batches())
    assert len(told) == 4 and told[-1].endswith("more scales do not fit")
