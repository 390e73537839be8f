"""A finished bundle is changed, often with its hashes made right again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from safetensors.numpy import save_file

from mldr_deploy.bundle.golden import Golden, load_golden, probe_pictures, save_golden
from mldr_deploy.bundle.preprocess import normalise, preprocess

from . import injure
from .fault import GOLDEN, GRAPH, READER, Fault
from .harness import Inject, edit, in_bundle, rehash
from .subjects import Subject

BRIGHT = {"mean": (0.5, 0.5, 0.5)}


def manifest(change: Callable[[dict[str, Any]], None], *, data: bool = False) -> Inject:
    """Somebody edits manifest.json."""
    return in_bundle(lambda folder, _: edit(folder, change), data=data)


def preprocessing(**changes: Any) -> Inject:
    return manifest(lambda content: content["preprocessing"].update(changes))


def rehashed(change: Callable[[Path, Subject], None], *, data: bool = True) -> Inject:
    """Somebody changes a file and makes the hashes right again."""

    def both(folder: Path, subject: Subject) -> None:
        change(folder, subject)
        rehash(folder)

    return in_bundle(both, data=data)


def other_weights(folder: Path, subject: Subject) -> None:
    save_file(subject.unaveraged, folder / "weights.safetensors")


def other_artifact(folder: Path, subject: Subject) -> None:
    proto = onnx.load(folder / "student.onnx")
    injure.weights(subject.earlier)(proto)
    onnx.save(proto, folder / "student.onnx")


def outside(**damage: bool) -> Callable[[Path, Subject], None]:
    return lambda folder, _: injure.move_outside(folder / "student.onnx", **damage)


def regolden(change: Callable[[Golden, Subject], Golden], **spec: Any) -> Inject:
    """The golden file is made again under another preprocessing, as the manifest then says."""

    def both(folder: Path, subject: Subject) -> None:
        save_golden(folder / "golden.npz", change(load_golden(folder / "golden.npz"), subject))
        edit(folder, lambda content: content["preprocessing"].update(spec))

    return rehashed(both)


def fed_otherwise(golden: Golden, subject: Subject) -> Golden:
    spec = subject.record.preprocessing.model_copy(update=BRIGHT)
    return dataclasses.replace(
        golden,
        inputs=normalise(golden.pixels, spec),
        probes=preprocess(probe_pictures(golden.pixels), spec),
    )


def flipped_byte(folder: Path, _: Subject) -> None:
    data = bytearray((folder / "student.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "student.onnx").write_bytes(data)


def lost(folder: Path, _: Subject) -> None:
    (folder / "weights.safetensors").unlink()


BUNDLE_FAULTS = [
    Fault(
        "wrong mean in a finished bundle",
        "cnn",
        READER,
        ("golden inputs do not follow from the manifest's mean",),
        preprocessing(**BRIGHT),
    ),
    Fault(
        "wrong std in a finished bundle",
        "cnn",
        READER,
        ("golden inputs do not follow from the manifest's mean, std",),
        preprocessing(std=[1.0, 1.0, 1.0]),
    ),
    Fault(
        "BGR in a finished bundle (of grey images)",
        "cnn",
        READER,
        ("is fed differently than at export", "channel order"),
        preprocessing(channel_order="bgr"),
    ),
    Fault(
        "wrong resize in a finished bundle",
        "cnn",
        READER,
        ("is fed differently than at export", "filter"),
        preprocessing(interpolation="nearest"),
    ),
    Fault(
        "wrong crop in a finished bundle",
        "cnn",
        READER,
        ("resized or cropped differently",),
        preprocessing(crop_fraction=0.875),
    ),
    Fault(
        "wrong mean, golden inputs made to match",
        "cnn",
        GOLDEN,
        ("student.onnx golden logits", "trained function: preprocessing.mean"),
        regolden(fed_otherwise, **BRIGHT),
    ),
    Fault(
        "permuted labels in a finished bundle",
        "cnn",
        READER,
        ("label 0 is '9' where the data set had '0'",),
        manifest(lambda c: c["labels"].reverse()),
    ),
    Fault(
        "changed file after the manifest",
        "cnn",
        READER,
        (r"student\.onnx was changed after export",),
        in_bundle(flipped_byte),
    ),
    Fault(
        "older schema",
        "cnn",
        READER,
        ("has schema version 1",),
        manifest(lambda c: c.update(schema_version=1)),
    ),
    Fault(
        "newer schema",
        "cnn",
        READER,
        ("has schema version 99",),
        manifest(lambda c: c.update(schema_version=99)),
    ),
    Fault(
        "artifact of another epoch, hashes made right",
        "vit",
        GOLDEN,
        (r"student\.onnx golden logits", r"module patch_embed\.proj"),
        rehashed(other_artifact),
    ),
    Fault(
        "non-EMA weights beside the artifact, hashes made right",
        "cnn",
        GOLDEN,
        ("weights: ", "trained function: validation loss"),
        rehashed(other_weights),
    ),
    Fault(
        "external data, hashes made right",
        "cnn",
        GRAPH,
        (r"lie outside of the artifact in student\.onnx\.data",),
        rehashed(outside()),
    ),
    Fault(
        "truncated external data, hashes made right",
        "cnn",
        GRAPH,
        (r"student\.onnx\.data", "does not load"),
        rehashed(outside(truncate=True)),
    ),
    Fault(
        "swapped external data, hashes made right",
        "cnn",
        GRAPH,
        (r"student\.onnx\.data", "golden logits"),
        rehashed(outside(swap=True)),
    ),
]
