"""A virtual clock, a runtime that takes known times on it, and reports of known samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mldr_deploy.bundle.manifest import Manifest
from mldr_deploy.bundle.preprocess import Floats
from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.profiler.profile_config import ProfileConfig
from mldr_deploy.profiler.recommend import recommendation
from mldr_deploy.profiler.report import (
    ArrivalRound,
    Closed,
    Entry,
    FileAccuracy,
    Layer,
    MachineFacts,
    Poisson,
    Report,
    Round,
    Subject,
)
from mldr_deploy.runtimes.model_file import ModelFile
from mldr_deploy.runtimes.runtime import Runtime

Kinds = Sequence[tuple[str, str, str, float, float]]  # file, runtime, precision, ms, top-1
KINDS: Kinds = (
    ("student.onnx", "onnxruntime-cpu", "fp32", 2.0, 88.86),
    ("student.int8.onnx", "onnxruntime-cpu", "int8", 1.1, 88.3),
    ("student.fp16.onnx", "onnxruntime-cpu", "fp16", 3.4, 88.84),
    ("student.onnx", "openvino", "fp32", 1.6, 88.86),
)


class VirtualClock:
    """Time that passes only when somebody spends it."""

    def __init__(self) -> None:
        self.time = 0

    def time_ns(self) -> int:
        return self.time

    def wait_until(self, moment: int) -> None:
        self.time = max(self.time, moment)

    def spend(self, nanoseconds: int) -> None:
        self.time += nanoseconds


class Scripted(Runtime):
    """Each verb lasts what ``costs`` says, by ``spend``; the logits are zeros."""

    name = "scripted"

    def __init__(self, bundle: Bundle, spend: Callable[[int], None], costs: dict[str, int]) -> None:
        super().__init__(ModelFile.of(bundle, bundle.manifest.artifacts[0]))
        self.spend, self.costs, self.batch = spend, costs, 0
        self.seen: list[bytes] = []

    def load(self) -> None:
        self.spend(0)

    def unload(self) -> None:
        self.spend(0)

    def preprocess(self, images: Sequence[Image.Image | Any]) -> Floats:
        self.spend(self.costs.get("preprocess", 0))
        self.seen += [image.tobytes() for image in images]
        return super().preprocess(images)

    def feed(self, inputs: Floats) -> None:
        self.batch = len(inputs)
        self.spend(self.costs.get("host_to_device", 0))

    def compute(self) -> None:
        self.spend(self.costs.get("compute", 0))

    def fetch(self) -> Floats:
        self.spend(self.costs.get("device_to_host", 0))
        return np.zeros((self.batch, int(self.model.output.shape[-1])), np.float32)


def entry_of(
    kind: tuple[str, str, str, float, float], rng: np.random.Generator, rounds: int
) -> Entry:
    file, runtime, precision, ms, top1 = kind
    closed = [
        Closed.of(
            batch,
            [
                Round(
                    warm_up_calls=20,
                    warm_up_seconds=0.1,
                    stable=True,
                    decode=draws(0.08 * batch, rng, scale),
                    preprocess=draws(0.05 * batch, rng, scale),
                    host_to_device=draws(0.004 * batch, rng, scale),
                    compute=draws(ms * (0.35 + 0.65 * batch), rng, scale),
                    device_to_host=draws(0.003, rng, scale),
                )
                for scale in np.exp(0.01 * rng.standard_normal(rounds))
            ],
        )
        for batch in (1, 2, 4, 8, 16, 32)
    ]
    service = closed[0].end_to_end.mean
    poisson = []
    for load in (0.5, 0.8):
        waits = [draws(service * load / (2 * (1 - load)), rng, 1.0) for _ in range(rounds)]
        latency = [[w + round(1e6 * service) for w in wait] for wait in waits]
        found = [
            ArrivalRound(latency=a, waiting=b, spent=sum(a))
            for a, b in zip(latency, waits, strict=True)
        ]
        poisson.append(Poisson.of(load, 1000 * load / service, found))
    layers = [
        Layer(
            name=f"node_conv2d_{k}",
            kind="Conv",
            module=f"stages.{k // 4}.blocks.{k % 4}.conv_dw",
            precision=precision,
            milliseconds=ms * 0.2 * 0.8**k,
            share=20 * 0.8**k,
        )
        for k in range(20)
    ]
    return Entry(
        runtime=runtime,
        file=file,
        format="onnx",
        precision=precision,
        bytes={"fp32": 4_736_333, "fp16": 2_400_000}.get(precision, 1_300_000),
        sha256="0" * 64,
        status="passed",
        accuracy=FileAccuracy(top1=top1, top5=99.16, drop=88.86 - top1, samples=359),
        golden_difference=1e-6,
        closed=closed,
        poisson=poisson,
        layers=layers,
        layers_note="ONNX Runtime's node trace, mean of 30 calls; tracing itself adds time",
    )


def draws(ms: float, rng: np.random.Generator, scale: float, count: int = 200) -> list[int]:
    """ns with a tail, as latencies have."""
    tail = np.exp(0.05 * rng.standard_normal(count)) + 0.1 * rng.exponential(1, count)
    return [int(x) for x in 1e6 * ms * scale * tail]


MakeReport = Callable[..., Report]


def manifest_of(bundle: Bundle, kinds: Kinds) -> Manifest:
    """The manifest of a bundle with the files of ``kinds``, which all passed."""
    first = bundle.manifest.artifacts[0]
    artifacts = {}
    for file, _, precision, _, top1 in kinds:
        scored = first.parity.artifact.model_copy(update={"top1": top1})
        update = {"parity": first.parity.model_copy(update={"artifact": scored})}
        artifacts[file] = first.model_copy(update={**update, "file": file, "precision": precision})
    return bundle.manifest.model_copy(update={"artifacts": [*artifacts.values()]})


def made(
    bundle: Bundle,
    seed: int = 0,
    rounds: int = 5,
    kinds: Kinds = KINDS,
    warnings: Sequence[str] = (),
) -> Report:
    rng = np.random.default_rng(seed)
    entries = [entry_of(kind, rng, rounds) for kind in kinds]
    return Report(
        created="2026-11-25T12:00:00+00:00",
        program="mldr-deploy 0.1.0",
        subject=Subject(
            name="bundle",
            model="edgenext_xx_small",
            family="transformer",
            parameters=1_159_906,
            classes=10,
            input=["batch", 3, 32, 32],
            images=16,
            manifest_sha256="0" * 64,
        ),
        machine=MachineFacts(
            cpu="AMD EPYC",
            cores=2,
            threads=2,
            memory_gib=23.5,
            load=1.2,
            system="Linux 6.1 x86_64",
            versions={"mldr-deploy": "0.1.0", "onnxruntime": "1.32.0"},
        ),
        config=ProfileConfig(rounds=rounds),
        entries=entries,
        warnings=list(warnings),
        recommendation=recommendation(manifest_of(bundle, kinds), entries),
    )


@pytest.fixture
def report(bundle: Bundle) -> MakeReport:
    """``report(seed, rounds, kinds)``: a report of drawn samples."""
    return functools.partial(made, bundle)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def scripted(bundle: Bundle, clock: VirtualClock) -> Callable[..., Scripted]:
    """``scripted(compute=ns, ...)``: a runtime that takes those times on the virtual clock."""
    return lambda spend=clock.spend, **costs: Scripted(bundle, spend, costs)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "latency"
