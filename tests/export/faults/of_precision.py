"""The conversion to fp16 or int8 went wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from mldr_deploy.bundle.preprocess import Floats, Preprocessing

from . import injure
from .fault import GRAPH, PARITY, SCALES, Fault
from .harness import in_artifact, in_calibration, in_file

# All are wrong at once; which layers keep fp32, and so have none, differs between CPUs.
ANY_SCALE = r"the scale of \w+_QuantizeLinear"


def scaled(factor: float) -> tuple[injure.Injury, ...]:
    """The same function in exact numbers, by way of values ``factor`` times as large."""
    first, then = "layer2.0.conv1.weight", "layer2.0.conv2.weight"
    return (
        injure.weight(first, lambda w: w * np.asarray(factor, w.dtype)),
        injure.weight(first + "_bias", lambda b: b * np.asarray(factor, b.dtype)),
        injure.weight(then, lambda w: w / np.asarray(factor, w.dtype)),
    )


def stayed_fp32(path: Path) -> None:
    """The conversion did nothing: the half-precision file is the fp32 one."""
    shutil.copyfile(path.with_name("student.onnx"), path)


def shifted(bias: Floats) -> Floats:
    """Each class by another amount; a new classifier's own biases may be too small to miss."""
    return (bias + np.linspace(-0.2, 0.2, len(bias))).astype(bias.dtype)


HALF_FAULTS = [
    Fault(
        "fp16 overflow",
        "half",
        PARITY,
        ("NaN or infinite", "Conv node_Conv_232", r"module layer2\.0\.bn1"),
        in_artifact(*scaled(2.0**15), precision="fp16"),
    ),
    Fault(
        "fp16 artifact that silently stayed fp32",
        "half",
        GRAPH,
        ("called fp16, but none of its", "in fp32"),
        in_file(stayed_fp32, precision="fp16"),
    ),
    Fault(
        "fp16 artifact with a shifted bias",
        "half",
        PARITY,
        ("node_linear", "module fc"),
        in_artifact(injure.weight("fc.bias", shifted), precision="fp16"),
    ),
]


def noise(spec: Preprocessing, count: int) -> Floats:
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 3, *spec.size)).astype(np.float32)


INT8_FAULTS = [
    Fault(
        "int8 without calibration",
        "int8",
        SCALES,
        (ANY_SCALE, "on the calibration images"),
        in_artifact(injure.activation_scales(lambda _: 1 / 128), precision="int8"),
    ),
    Fault(
        "int8 calibrated on random numbers",
        "int8",
        SCALES,
        (ANY_SCALE, "calibration images"),
        in_calibration(noise, "int8"),
    ),
    Fault(
        "one wrong scale, too large",
        "int8",
        SCALES,
        ("the scale of relu_3_QuantizeLinear is not of the calibration images",),
        in_artifact(injure.activation_scales(lambda s: 4 * s, only="relu_3"), precision="int8"),
    ),
    Fault(
        "one wrong scale, too small",
        "int8",
        SCALES,
        ("the scale of relu_3_QuantizeLinear cuts off",),
        in_artifact(injure.activation_scales(lambda s: s / 4, only="relu_3"), precision="int8"),
    ),
    Fault(
        "one wrong scale of a weight",
        "int8",
        SCALES,
        ("layer3.0.conv1.weight", "does not give back the weights"),
        in_artifact(
            injure.weight("layer3.0.conv1.weight_scale", lambda s: s * np.float32(1.5)),
            precision="int8",
        ),
    ),
    Fault(
        "int8 artifact that silently stayed fp32",
        "int8",
        GRAPH,
        ("called int8, but none of its", "in fp32"),
        in_file(stayed_fp32, precision="int8"),
    ),
]
