"""``report.json``: what a profile found, every sample kept. docs/latency-report.md documents it."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ..bundle.precisions import COMPUTED
from ..bundle.quality import Quality
from ..bundle.schema import read_record
from ..bundle.shipping import Recommendation
from ..bundle.wording import counted
from .percentiles import Summary, summarise
from .profile_config import ProfileConfig
from .request_stages import END_TO_END, STAGES

SCHEMA_VERSION = 1
FILE = "report.json"
_RECORD = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MachineFacts(BaseModel):
    """Where the figures were taken; None or empty: not known there."""

    model_config = _RECORD

    cpu: str = Field(description="Processor.")
    cores: int = Field(ge=1, description="Cores that this process may use.")
    cpu_quota: float | None = Field(
        default=None,
        gt=0,
        description="Processors' worth of time that a container or scheduler grants.",
    )
    threads: int = Field(ge=1, description="Threads that compute.")
    memory_gib: float | None = Field(default=None, description="Main memory, GiB.")
    governor: str | None = Field(default=None, description="CPU frequency governor.")
    cpu_mhz: float | None = Field(default=None, description="Clock of the first core, MHz.")
    load: float | None = Field(
        default=None, description="Average of runnable processes in the minute before."
    )
    gpu: dict[str, str] = Field(
        default_factory=dict, description="What nvidia-smi tells: name, clocks, power, driver."
    )
    system: str = Field(description="Operating system and its version.")
    versions: dict[str, str] = Field(description="Python and packages that took part.")

    def __str__(self) -> str:
        parts = [self.cpu, f"{counted(self.threads, 'thread')} on {counted(self.cores, 'core')}"]
        parts += [] if self.cpu_quota is None else [f"CPU quota {self.cpu_quota:g}"]
        return ", ".join(parts + ([self.gpu["name"]] if "name" in self.gpu else []))


class FileAccuracy(BaseModel):
    """Of the very file that was timed, from the manifest's parity on the whole test split."""

    model_config = _RECORD

    top1: float = Field(ge=0, le=100, description="Top-1, per cent.")
    top5: float = Field(ge=0, le=100, description="Top-5, per cent.")
    drop: float = Field(description="Top-1 of the PyTorch student minus this, points.")
    samples: int = Field(ge=0, description="Test images.")
    emulated: bool = Field(
        default=False, description="Whether parity was proven by arithmetic that emulates it."
    )


class Round(BaseModel):
    """One closed-loop run after one loading and warm-up. Stage lists have one entry a call, ns."""

    model_config = _RECORD

    warm_up_calls: int = Field(ge=0, description="Calls before the first sample.")
    warm_up_seconds: float = Field(ge=0, description="Time they took.")
    stable: bool = Field(description="Whether the warm-up ended because latency fell no more.")
    decode: list[int] = Field(min_length=1, description="Image files to pixels.")
    preprocess: list[int] = Field(description="Pixels to the network's input.")
    host_to_device: list[int] = Field(description="Input to the device.")
    compute: list[int] = Field(description="The network, until the device is done.")
    device_to_host: list[int] = Field(description="Logits to the host.")

    @classmethod
    def of(cls, marks: NDArray[np.int64], calls: int, seconds: float, stable: bool) -> Round:
        """From time stamps [N, 6] of ``request_stages.request``."""
        spans = {
            name: (after - before).tolist()
            for name, (before, after) in zip(STAGES, pairwise(marks.T), strict=True)
        }
        return cls(warm_up_calls=calls, warm_up_seconds=seconds, stable=stable, **spans)

    def samples(self, stage: str) -> NDArray[np.int64]:
        """ns [N] of a stage, or of ``end_to_end``: the sum of the stages, which leave no gap."""
        if stage != END_TO_END:
            return np.array(getattr(self, stage), np.int64)
        total: NDArray[np.int64] = np.sum(
            [getattr(self, name) for name in STAGES], axis=0, dtype=np.int64
        )
        return total


class Closed(BaseModel):
    """One batch size, one request after another."""

    model_config = _RECORD

    batch: int = Field(ge=1, description="Images a request.")
    rounds: list[Round] = Field(min_length=1, description="The samples.")
    summary: dict[str, Summary] = Field(
        description="Per stage and end_to_end, of all rounds together."
    )
    throughput: float = Field(gt=0, description="Images a second.")

    @classmethod
    def of(cls, batch: int, rounds: list[Round]) -> Closed:
        """With its figures computed from the samples."""
        pooled = {
            stage: np.concatenate([part.samples(stage) for part in rounds])
            for stage in (*STAGES, END_TO_END)
        }
        total = pooled[END_TO_END]
        return cls(
            batch=batch,
            rounds=rounds,
            summary={stage: summarise(samples) for stage, samples in pooled.items()},
            throughput=batch * len(total) / (total.sum() / 1e9),
        )

    @cached_property
    def end_to_end(self) -> Summary:
        """The whole request."""
        return self.summary[END_TO_END]

    @property
    def unstable(self) -> bool:
        """Whether any warm-up was given up."""
        return not all(part.stable for part in self.rounds)


class ArrivalRound(BaseModel):
    """One open-loop run; lists have one entry a request, ns."""

    model_config = _RECORD

    latency: list[int] = Field(min_length=1, description="Scheduled arrival to answer.")
    waiting: list[int] = Field(description="Scheduled arrival to begin of work.")
    spent: int = Field(ge=0, description="First arrival to last answer.")


class Poisson(BaseModel):
    """Single images arriving by a Poisson process."""

    model_config = _RECORD

    load: float = Field(gt=0, lt=1, description="Part of the closed loop's throughput at batch 1.")
    rate: float = Field(
        gt=0,
        description="Arrivals a second, mean over rounds: each round's follow from its own closed "
        "loop, so that a machine that changes keeps the load.",
    )
    rounds: list[ArrivalRound] = Field(min_length=1, description="The samples.")
    latency: Summary = Field(description="Scheduled arrival to answer: queueing is counted.")
    waiting: Summary = Field(description="Of that, before work on it began.")

    @property
    def busy(self) -> float:
        """Part of the time that requests were worked on; as planned, it is ``load``."""
        worked = sum(sum(part.latency) - sum(part.waiting) for part in self.rounds)
        return worked / max(sum(part.spent for part in self.rounds), 1)

    @classmethod
    def of(cls, load: float, rate: float, rounds: list[ArrivalRound]) -> Poisson:
        """With its figures computed from the samples."""
        latency = np.concatenate([np.array(part.latency) for part in rounds])
        waiting = np.concatenate([np.array(part.waiting) for part in rounds])
        return cls(
            load=load,
            rate=rate,
            rounds=rounds,
            latency=summarise(latency),
            waiting=summarise(waiting),
        )


class Layer(BaseModel):
    """One node or kernel of the network as the runtime executes it."""

    model_config = _RECORD

    name: str = Field(description="Node as the runtime calls it.")
    kind: str = Field(description="Its operator.")
    module: str = Field(default="", description="PyTorch module that it came from, where known.")
    precision: str = Field(default="", description="Type that it computes in, where known.")
    milliseconds: float = Field(ge=0, description="Mean time a call at batch 1.")
    share: float = Field(ge=0, le=100, description="Part of all layers' time, per cent.")


class Entry(BaseModel):
    """One file in one runtime: accuracy beside every latency."""

    model_config = _RECORD

    runtime: str = Field(description="What ran it.")
    file: str = Field(description="File of the bundle.")
    format: str = Field(description="onnx, tensorrt, or weights.")
    precision: str = Field(description=f"{COMPUTED}.")
    bytes: int = Field(ge=0, description="Size of the file, with what lies beside it.")
    sha256: str = Field(description="Its hash.")
    status: Literal["passed", "failed"] = Field(description="Its parity gate.")
    accuracy: FileAccuracy = Field(description="Of the same file.")
    golden_difference: float | None = Field(
        description="Largest logit difference on the golden images, here, before timing; None: "
        "not all logits were finite."
    )
    closed: list[Closed] = Field(min_length=1, description="Closed loop by batch size.")
    poisson: list[Poisson] = Field(default_factory=list, description="Open loop by load.")
    layers: list[Layer] = Field(default_factory=list, description="Time per layer, longest first.")
    layers_note: str = Field(default="", description="How layers were timed, or why not.")

    @property
    def name(self) -> str:
        """``student.onnx in onnxruntime-cpu``."""
        return f"{self.file} in {self.runtime}"

    @property
    def first(self) -> Closed:
        """The smallest batch: what one user waits for."""
        return min(self.closed, key=lambda closed: closed.batch)


class Subject(BaseModel):
    """The bundle that was measured."""

    model_config = _RECORD

    name: str = Field(description="The folder's name.")
    model: str = Field(description="The student.")
    family: str = Field(description="cnn, transformer, mlp or mamba.")
    parameters: int = Field(ge=0, description="Number of parameters.")
    classes: int = Field(ge=2, description="Number of labels.")
    input: list[int | str] = Field(description="Shape of the input.")
    images: int = Field(ge=1, description="Distinct real images that requests rotate through.")
    manifest_sha256: str = Field(description="Hash of the manifest.")
    quality: Quality | None = Field(
        default=None, description="The student class by class, from the manifest."
    )


class Report(BaseModel):
    """One run of the profiler."""

    model_config = _RECORD

    schema_version: int = Field(default=SCHEMA_VERSION, description="Version of this layout.")
    created: str = Field(description="When, ISO 8601, UTC.")
    program: str = Field(description="mldr-deploy and its version.")
    subject: Subject = Field(description="What was measured.")
    machine: MachineFacts = Field(description="Where.")
    config: ProfileConfig = Field(description="How.")
    entries: list[Entry] = Field(min_length=1, description="What was found.")
    left_out: list[str] = Field(default_factory=list, description="What was not run, and why.")
    warnings: list[str] = Field(default_factory=list, description="What to mind when reading.")
    recommendation: Recommendation = Field(description="What to ship.")


def read_report(path: Path) -> Report:
    """The report in ``path``, a file or a folder that holds it. Raises MldrError."""
    return read_record(path / FILE if path.is_dir() else path, Report, newest=SCHEMA_VERSION)


def as_json(report: Report) -> dict[str, Any]:
    """What is written to ``report.json``."""
    return report.model_dump(mode="json")
