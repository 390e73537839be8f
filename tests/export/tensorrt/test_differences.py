"""Operator by type: what NVIDIA's library does with a probe, beside the rules that remain of ours.

The library is the real TensorRT-RTX; classic TensorRT is its published support matrix
(``classic_matrix.py``). Each difference was looked at; a new one fails the test.
"""

from __future__ import annotations

from typing import Any

import classic_matrix
import onnx
import probes
import pytest
import real

from mldr_deploy.export.precision.bf16 import BF16
from mldr_deploy.export.precision.islands import _NEVER
from mldr_deploy.export.tensorrt.differences import LACKS
from mldr_deploy.export.tensorrt.graph_view import GraphView
from mldr_deploy.export.tensorrt.rules import silent

# The matrix lists them and RTX refuses them. Nothing is to be done: its parser says so itself.
STRICTER = {
    "DeformConv": "FLOAT FLOAT16",  # a plugin that RTX does not bring
    "NonZero": "FLOAT FLOAT16",  # the same
    "Mod": "FLOAT FLOAT16 BFLOAT16",  # the probe has fmod 0, which ONNX itself keeps to integers
    "GlobalLpPool": "BFLOAT16",
    "HardSwish": "BFLOAT16",
    "LpNormalization": "BFLOAT16",
    "LpPool": "BFLOAT16",
    "RandomNormalLike": "BFLOAT16",
    "RandomUniformLike": "BFLOAT16",
    "Cast": "UINT8",  # to it; the matrix speaks of the input
    "CastLike": "UINT8",
    "ReduceL2": "INT32 INT64",
    "ReduceLogSum": "INT32 INT64",
    "ReduceLogSumExp": "INT32 INT64",
    "Relu": "INT32",
    "TensorScatter": "INT32",
}
INT8_AS_NUMBERS = """
    Add Concat Div Einsum Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mul Pad
    ScatterElements ScatterND Sub
"""
# Its parser takes them and its builder does not.
UNBUILT = {
    "Attention": "FLOAT FLOAT16 BFLOAT16 DOUBLE",  # of this probe's shapes: no kernel
    "TensorScatter": "FLOAT FLOAT16 BFLOAT16 DOUBLE",  # wants its cache to be an input
    "ConvTranspose": "BFLOAT16",  # stays in fp32 in our bf16 graphs
    **dict.fromkeys(INT8_AS_NUMBERS.split(), "INT8"),
}


def pairs(table: dict[str, str]) -> set[tuple[str, str]]:
    return {(operator, kind) for operator, kinds in table.items() for kind in kinds.split()}


@pytest.fixture(scope="module")
def verdicts() -> dict[tuple[str, str], str]:
    answers = real.ask("verdicts")
    return {tuple(key.split()): verdict for key, verdict in answers.items()}  # type: ignore[misc]


def of(verdicts: dict[tuple[str, str], str], verdict: str) -> set[tuple[str, str]]:
    return {probe for probe, answer in verdicts.items() if answer == verdict}


def listed(probe: tuple[str, str]) -> bool:
    return probe[1] in classic_matrix.TYPES.get(probe[0], ())


@pytest.mark.slow
def test_every_difference_is_a_reviewed_one(verdicts: dict[tuple[str, str], str]) -> None:
    assert len(verdicts) > 800
    taken, refused = of(verdicts, "taken"), of(verdicts, "refused")
    more = {probe for probe in taken if not listed(probe)}
    assert {probe for probe in more if probe[1] != "DOUBLE"} == {
        (operator, kind) for kind, operators in LACKS.items() for operator in operators
    }
    assert {probe for probe in refused if listed(probe)} == pairs(STRICTER)
    assert of(verdicts, "unbuilt") == pairs(UNBUILT)


@pytest.mark.slow
def test_what_no_library_takes_in_bf16_stays_in_fp32(
    verdicts: dict[tuple[str, str], str],
) -> None:
    """Otherwise a bf16 artifact of ours would be refused, as MobileNetV3's was."""
    kinds = {kind: {op for op, k in of(verdicts, "taken") if k == kind} for kind in probes.TYPES}
    classic = {
        operator
        for operator, types in classic_matrix.TYPES.items()
        if "FLOAT" in types and "BFLOAT16" not in types
    }
    unlisted = {"NonZero", "NonMaxSuppression", "BlackmanWindow", "HammingWindow", "HannWindow"}
    assert ((kinds["FLOAT"] - kinds["BFLOAT16"]) | (classic - unlisted)) - _NEVER == BF16.lacks
    assert kinds["FLOAT"] - kinds["FLOAT16"] <= _NEVER


def test_what_would_be_computed_as_something_else_is_refused() -> None:
    """DOUBLE, which the library takes everywhere and computes as FLOAT."""
    doubles = {op: proto for (op, kind), proto in probes.probes().items() if kind == "DOUBLE"}
    assert len(doubles) > 90
    for operator, proto in doubles.items():
        assert any("is DOUBLE" in text for _, _, text in silent(GraphView(proto))), operator


def test_the_tables_know_onnx_operators_only() -> None:
    """A typing error would let an operator pass, or be refused, for nothing."""
    known: set[Any] = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    named = set(classic_matrix.TYPES).union(*LACKS.values())
    assert named - known == set()
