"""The artifact computes something else than the student."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper

from . import injure
from .fault import GRAPH, LOADING, PARITY, Fault
from .harness import Case, Inject, Verdict, in_artifact, in_file
from .subjects import Subject, Tensors


def artifact_of(choose: Callable[[Subject], Tensors]) -> Inject:
    """The exporter writes other weights than the student's."""

    def inject(case: Case) -> Verdict:
        return in_artifact(injure.weights(choose(case.subject)))(case)

    return inject


def softmax_at_the_end(proto: Any) -> None:
    injure.after(
        "logits", lambda x, y: [helper.make_node("Softmax", [x], [y], "node_Softmax", axis=-1)]
    )(proto)


def reversed_inputs(node: Any) -> None:
    names = list(node.input)[::-1]
    del node.input[:]
    node.input.extend(names)


def average_instead_of_maximum(node: Any) -> None:
    node.op_type = "AveragePool"
    for old in [a for a in node.attribute if a.name == "storage_order"]:
        node.attribute.remove(old)


def shifted_padding(node: Any) -> None:
    (pads,) = [a for a in node.attribute if a.name == "pads"]
    del pads.ints[:]
    pads.ints.extend([0, 0, 2, 2])


def passed_by(node: Any) -> None:
    """The node hands its first input on."""
    node.op_type = "Identity"
    del node.input[1:], node.attribute[:]


def token_first(node: Any) -> None:
    before, token, behind = node.input
    del node.input[:]
    node.input.extend([token, before, behind])


SCAN_FAULTS = [
    Fault(
        "flipped scan direction",
        "vim",
        PARITY,
        (r"module layers\.0\.mixer",),
        in_artifact(injure.producer("flip", passed_by), injure.producer("flip_1", passed_by)),
    ),
    Fault(
        "class token misplaced (Vim)",
        "vim",
        PARITY,
        (r"Concat \S*cat\S*",),
        in_artifact(injure.producer("cat", token_first)),
    ),
]


GRAPH_FAULTS = [
    Fault(
        "transposed head",
        "cnn",
        PARITY,
        ("Gemm node_linear", "module fc"),
        in_artifact(injure.weight("fc.weight", lambda w: w.T.reshape(w.shape))),
    ),
    Fault(
        "permuted head",
        "cnn",
        PARITY,
        ("Gemm node_linear", "module fc"),
        in_artifact(injure.weight("fc.weight", lambda w: w[::-1])),
    ),
    Fault(
        "dropped bias",
        "cnn",
        PARITY,
        ("Gemm node_linear", "module fc"),
        in_artifact(injure.weight("fc.bias", np.zeros_like)),
    ),
    Fault(
        "BGR in the first layer (of grey images)",
        "cnn",
        PARITY,
        ("false colours", r"module conv1\.1"),
        in_artifact(injure.weight("conv1.0.weight", lambda w: w[:, ::-1])),
    ),
    Fault(
        "train-mode BatchNorm",
        "cnn",
        PARITY,
        ("statistics of the batch", "bn_Div", r"module layer2\.0\.bn1"),
        in_artifact(injure.batch_statistics("getitem_15")),
    ),
    Fault(
        "dropout left on",
        "cnn",
        GRAPH,
        ("Dropout node_Dropout", "draw random numbers"),
        in_artifact(injure.dropout("mean")),
    ),
    Fault(
        "dropout left on, spelled out",
        "cnn",
        PARITY,
        ("two runs on the same images differ", "RandomUniformLike", "module global_pool"),
        in_artifact(injure.drawn_mask("mean")),
    ),
    Fault(
        "non-EMA weights in the artifact",
        "vit",
        PARITY,
        (r"module patch_embed\.proj",),
        artifact_of(lambda s: s.unaveraged),
    ),
    Fault(
        "swapped layers",
        "cnn",
        PARITY,
        (r"module layer1\.0\.bn1",),
        in_artifact(injure.swapped("layer1.0.conv1.weight", "layer1.0.conv2.weight")),
    ),
    Fault(
        "NaN weight",
        "cnn",
        PARITY,
        ("NaN or infinite", r"module layer3\.0\.bn1"),
        in_artifact(
            injure.weight(
                "layer3.0.conv1.weight",
                lambda w: np.where(np.arange(w.size).reshape(w.shape) == 5, np.nan, w).astype(
                    w.dtype
                ),
            )
        ),
    ),
    Fault(
        "TF32-sized drift", "cnn", PARITY, (r"module conv1\.1",), in_artifact(injure.rounded(10))
    ),
    Fault(
        "TF32-sized drift (transformer)",
        "vit",
        PARITY,
        ("of the largest logit", r"module blocks\.0\.norm1"),
        in_artifact(injure.rounded(10)),
    ),
    Fault(
        "average for maximum pooling",
        "cnn",
        PARITY,
        ("AveragePool node_max_pool2d", "module maxpool"),
        in_artifact(injure.node("node_max_pool2d", average_instead_of_maximum)),
    ),
    Fault(
        "shifted padding",
        "cnn",
        PARITY,
        (r"Conv node_Conv_232", r"module layer2\.0\.bn1"),
        in_artifact(injure.node("node_Conv_232", shifted_padding)),
    ),
    Fault(
        "probabilities for logits",
        "cnn",
        PARITY,
        ("node_Softmax", "module fc"),
        in_artifact(softmax_at_the_end),
    ),
    Fault(
        "wrong softmax axis",
        "vit",
        PARITY,
        (r"node_softmax", r"module blocks\.0\.attn"),
        in_artifact(injure.attribute("Softmax", "axis", -2)),
    ),
    Fault(
        "GELU by tanh",
        "vit",
        PARITY,
        ("Gelu node_gelu ", r"module blocks\.0\.mlp\.act"),
        in_artifact(injure.attribute("Gelu", "approximate", "tanh")),
    ),
    Fault(
        "wrong epsilon of a norm",
        "vit",
        PARITY,
        ("LayerNormalization node_layer_norm ", r"module blocks\.0\.norm1"),
        in_artifact(injure.attribute("LayerNormalization", "epsilon", 1e-2)),
    ),
    Fault(
        "class token misplaced",
        "vit",
        PARITY,
        ("Concat node_cat_1",),
        in_artifact(injure.node("node_cat_1", reversed_inputs)),
    ),
    Fault(
        "shuffled position embedding",
        "vit",
        PARITY,
        ("Add node_add_18",),
        in_artifact(injure.weight("cat", lambda w: w[:, ::-1])),
    ),
    Fault(
        "batch specialised to 1",
        "cnn",
        GRAPH,
        ("its batch is fixed at 1", "does not run on a batch of 2"),
        in_artifact(injure.fixed_batch(1)),
    ),
    Fault(
        "opset that is not the manifest's",
        "cnn",
        GRAPH,
        ("the file has opset 21, the manifest says 20",),
        in_artifact(injure.opset(21)),
    ),
    Fault(
        "wrong opset conversion",
        "cnn",
        LOADING,
        ("does not load in ONNX Runtime", "node_mean"),
        in_artifact(injure.opset(13)),
    ),
    Fault(
        "fp32 artifact that computes in fp16",
        "cnn",
        GRAPH,
        ("called fp32, but none of its", "in fp16"),
        in_artifact(injure.half),
    ),
    Fault(
        "swapped external data",
        "cnn",
        GRAPH,
        (r"lie outside of the artifact in student\.onnx\.data",),
        in_file(lambda p: injure.move_outside(p, swap=True)),
    ),
    Fault(
        "truncated external data",
        "cnn",
        LOADING,
        ("does not load in ONNX Runtime",),
        in_file(lambda p: injure.move_outside(p, truncate=True)),
    ),
]
