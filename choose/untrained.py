"""Latency before training: an untrained student exported, and timed by the profiler's rules.

What weights a network has does not change what it computes, so its milliseconds and its bytes are
what the trained student's will be; an int8 file in which export leaves layers in fp32 is the
exception.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from ..bundle.preprocess import Floats
from ..bundle.progress import Silent
from ..export.export_config import ExportConfig
from ..export.kinds import PHONES
from ..export.onnx_export import export_onnx
from ..export.precision.graph import load_graph, save_graph
from ..export.precision.precision_config import QuantizeConfig
from ..export.precision.qdq import AFFINE, calibrate, layers, nodes_to_quantise, prepared, qdq
from ..models.family import family
from ..models.model_registry import create_model
from ..profiler.closed_loop import Call, measure, warm_up
from ..profiler.profile_config import ProfileConfig
from ..profiler.request_stages import Marks
from ..runtimes.model_file import ModelFile
from ..runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from ..runtimes.runtime import Runtime, RuntimeOptions
from .budget import Budget
from .shelf import Contender

PRECISIONS = ("fp32", "int8")
_ATTEMPTS = 3  # series of rounds
NOISY = 1.25  # slowest round over fastest: beyond it shipping calls a machine too noisy, too


class UntrainedLatency(BaseModel):
    """What one file costs on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rounds: list[float] = Field(
        min_length=1, description="Median milliseconds of a call, by rounds of loading anew."
    )
    bytes: int = Field(gt=0, description="Size of the ONNX file.")

    @property
    def milliseconds(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """The slowest round over the fastest."""
        return max(self.rounds) / min(self.rounds)

    @property
    def noisy(self) -> bool:
        """Whether the rounds contradict each other."""
        return self.spread >= NOISY


Latencies = dict[str, UntrainedLatency]  # by precision


def over_budget(latency: UntrainedLatency, budget: Budget) -> str | None:
    """Why a file is over ``budget``, and whether noise leaves that open; None: it is not over.

    The median decides all the same.
    """
    reason = budget.excess(latency.milliseconds, latency.bytes)
    fastest, slowest = min(latency.rounds), max(latency.rounds)
    if reason is None or budget.excess(fastest, latency.bytes) is not None:
        return reason
    return f"{reason} (rounds of {fastest:.4g} to {slowest:.4g} ms: too noisy to tell)"


def measure_untrained(
    contender: Contender,
    budget: Budget,
    target: str,
    precisions: Sequence[str],
    images: Floats,
    classes: int,
    rules: ProfileConfig,
) -> Latencies:
    """Export ``contender`` untrained for ``target`` in ``precisions`` and time the files in turns.

    ``images`` [N, 3, S, S] are real inputs at the contender's size. Raises MldrError where it does
    not build, export or run.
    """
    with tempfile.TemporaryDirectory(prefix="mldr-choose-") as name:
        files = _files(contender, target, precisions, images, classes, Path(name))
        return steadiest(lambda: time_files(files, target, budget, images, rules))


def steadiest(series: Callable[[], Latencies]) -> Latencies:
    """Measure by ``series`` until its rounds agree, three times at most; the steadiest counts."""
    best = series()
    for _ in range(_ATTEMPTS - 1):
        if not is_noisy(best):
            break
        best = min(best, series(), key=_spread)
    return best


def is_noisy(latencies: Latencies) -> bool:
    """Whether the rounds of a file contradict each other."""
    return any(latency.noisy for latency in latencies.values())


def _spread(latencies: Latencies) -> float:
    return max(latency.spread for latency in latencies.values())


def time_files(
    files: dict[str, Path], target: str, budget: Budget, images: Floats, rules: ProfileConfig
) -> Latencies:
    """Time ``files`` of ``target``, by precision, in turns; each round loads and warms up anew."""
    options = RuntimeOptions(threads=budget.threads)
    runtime_of = PHONES[target].runtime if target in PHONES else OnnxRuntimeCpu
    rounds: dict[str, list[float]] = {precision: [] for precision in files}
    for _ in range(rules.rounds):
        for precision, file in files.items():
            with runtime_of(ModelFile(file), options) as runtime:
                rounds[precision].append(_round(runtime, images, budget.batch, rules))
    return {
        precision: UntrainedLatency(rounds=rounds[precision], bytes=file.stat().st_size)
        for precision, file in files.items()
    }


def _files(
    contender: Contender,
    target: str,
    precisions: Sequence[str],
    images: Floats,
    classes: int,
    folder: Path,
) -> dict[str, Path]:
    torch.manual_seed(0)
    config = contender.model.model_copy(update={"weights": None})
    side, fp32 = contender.image_size, folder / "fp32.onnx"
    model = create_model(config, num_classes=classes, image_size=side).eval()
    if target in PHONES:
        paths = {name: folder / f"{name}{PHONES[target].suffix}" for name in precisions}
        for precision, path in paths.items():
            path.write_bytes(PHONES[target].content(model, side, precision))
        return paths
    export_onnx(model, side, fp32, ExportConfig())
    files = {"fp32": fp32}
    if "int8" in precisions:
        files["int8"] = _int8(fp32, family(model), images)
    return {precision: files[precision] for precision in precisions}


def _int8(fp32: Path, kind: str, images: Floats) -> Path:
    """The int8 file that export would begin with: every layer quantised."""
    config, file = QuantizeConfig(), fp32.with_name("int8.onnx")
    path = prepared(fp32, fp32.parent)
    proto = load_graph(path)
    ranges = calibrate(path, [images], "minmax", AFFINE, config, Silent())
    nodes = nodes_to_quantise(proto, set(layers(proto, kind)), kind, AFFINE)
    save_graph(qdq(path, ranges, nodes, AFFINE, config), file)
    return file


def _round(runtime: Runtime, images: Floats, batch: int, rules: ProfileConfig) -> float:
    """Warm up and measure once; the median call, milliseconds."""
    call = _calls(runtime, images, batch)
    warmed = warm_up(call, rules.warm_up_seconds)
    iterations = -(-rules.iterations // rules.rounds)
    marks = measure(call, rules.seconds / rules.rounds, iterations, warmed.calls)
    return float(np.median(marks[:, -1] - marks[:, 0])) / 1e6


def _calls(runtime: Runtime, images: Floats, batch: int) -> Call:
    """Calls on ready inputs: what is decoded before them is the same for every student."""
    count = -(-max(len(images), batch) // len(images))
    inputs = np.concatenate([images] * count)

    def call(number: int) -> Marks:
        first = number * batch % (len(inputs) - batch + 1)
        part = inputs[first : first + batch]
        begin = time.perf_counter_ns()
        runtime.feed(part)
        fed = time.perf_counter_ns()
        runtime.compute()
        computed = time.perf_counter_ns()
        runtime.fetch()
        return begin, begin, begin, fed, computed, time.perf_counter_ns()

    return call
