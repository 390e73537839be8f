"""The method of calibration, and the layers left in higher precision, chosen on validation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle.precisions import PRECISIONS
from ...bundle.preprocess import Floats
from ...bundle.quantization import Quantization, Trial
from ...errors import MldrError
from ...runtimes.model_file import ModelFile
from ...runtimes.onnxruntime_cpu import OnnxRuntimeCpu
from ...runtimes.runtime import Runtime, RuntimeOptions
from ..artifact_kind import ArtifactKind, ExportContext, Written
from ..measure_parity import log_softmax
from .graph import load_graph, opset_of, save_graph
from .judge import Judge
from .qdq import Scheme, calibrate, integer_products, layers, nodes_to_quantise, prepared, qdq

_BATCH = 16


Convert = Callable[[Any, Any], Any]  # (Q/DQ graph, fp32 graph) -> the graph that is shipped


class Search:
    """One quantised artifact in the making; ``folder`` is for what only the search needs."""

    def __init__(
        self,
        context: ExportContext,
        precision: str,
        scheme: Scheme,
        folder: Path,
        convert: Convert | None,
    ) -> None:
        self.context, self.precision = context, precision
        self.scheme, self.convert = scheme, convert
        self.path = prepared(context.onnx(), folder)
        self.source = load_graph(self.path)
        self.layers = layers(self.source, context.student.record.family)
        if not self.layers:
            raise MldrError(f"{context.onnx()} has no layer with constant weights to quantise")
        config = context.config.quantize
        self.judge = Judge(context.validation, context.preprocessing, config.validation_images)
        with OnnxRuntimeCpu(
            ModelFile(context.onnx()), RuntimeOptions(threads=context.config.threads)
        ) as runtime:
            self.reference = self.judge.top1(runtime)
            self.expected = self.judge.logits(runtime, config.effect_images)
        self.trials: list[Trial] = []
        self.excluded: list[str] = []

    def carry_out(self) -> tuple[Any, Quantization]:
        """The graph and how it was found.

        Every method is tried on all layers. Where the best one misses the target, the effect of
        each layer alone is measured, and the most sensitive ones are left out, twice as many each
        time, until the target is met or the budget is spent.
        """
        context, config = self.context, self.context.config.quantize
        method, ranges = self._best_method()
        top1 = max(trial.top1 for trial in self.trials)
        graph = self._graph(ranges, set(self.layers))
        if self.reference - top1 > config.target_drop:
            graph, top1 = self._leave_out(ranges, graph, top1)
        quantised = [name for name in self.layers if name not in self.excluded]
        return graph, Quantization(
            weights=f"{PRECISIONS[self.precision].computes_in}, symmetric, per channel",
            activations=self.scheme.activations,
            method=method,
            trials=self.trials,
            calibration_images=len(context.calibration),
            calibration_seed=context.config.calibration.seed,
            validation_images=len(self.judge),
            reference_top1=self.reference,
            top1=top1,
            quantised=quantised,
            excluded=self.excluded,
        )

    def _best_method(self) -> tuple[str, Any]:
        context, config = self.context, self.context.config.quantize
        best: tuple[str, Any] | None = None
        for method in config.methods:
            context.progress.start(
                f"{self.precision}: calibrating, {method}", len(context.calibration)
            )
            batches = context.calibration.batches(_BATCH)
            ranges = calibrate(self.path, batches, method, self.scheme, config, context.progress)
            top1 = self._top1(self._graph(ranges, set(self.layers)))
            context.progress.advance(0, top1=top1)
            context.progress.finish()
            if not self.trials or top1 > max(trial.top1 for trial in self.trials):
                best = method, ranges
            self.trials.append(Trial(method=method, top1=top1))
        assert best is not None
        return best

    def _leave_out(self, ranges: Any, graph: Any, top1: float) -> tuple[Any, float]:
        config, progress = self.context.config.quantize, self.context.progress
        effects = self._effects(ranges)
        order = sorted(self.layers, key=lambda name: -effects[name])
        limit, count = int(config.max_excluded * len(order)), 1
        progress.start(f"{self.precision}: leaving layers out", None)
        while self.reference - top1 > config.target_drop and count <= limit:
            candidate = self._graph(ranges, set(order[count:]))
            reached = self._top1(candidate)
            progress.advance(1, left_out=f"{count} of {len(order)}", top1=reached)
            if reached > top1:
                graph, top1, self.excluded = candidate, reached, order[:count]
            count = 2 * count if 2 * count <= limit or count == limit else limit
        progress.finish()
        return graph, top1

    def _effects(self, ranges: Any) -> dict[str, float]:
        """Mean KL(fp32 || quantised) of the softmax with one layer quantised, by layer; nats."""
        progress, effects = self.context.progress, {}
        progress.start(f"{self.precision}: effect of each layer", len(self.layers))
        for name in self.layers:
            with self._runtime(self._graph(ranges, {name}, isolated=True)) as runtime:
                logits = self.judge.logits(runtime, len(self.expected))
            effects[name] = _mean_kl(self.expected, logits)
            progress.advance(1)
        progress.finish()
        return effects

    def _graph(self, ranges: Any, quantised: set[str], *, isolated: bool = False) -> Any:
        family = self.context.student.record.family
        nodes = sorted(quantised)
        if not isolated:
            nodes = nodes_to_quantise(self.source, quantised, family, self.scheme)
        graph = qdq(self.path, ranges, nodes, self.scheme, self.context.config.quantize)
        return graph if self.convert is None else self.convert(graph, self.source)

    def _runtime(self, graph: Any) -> Runtime:
        content = bytes(graph.SerializeToString())
        model = ModelFile(self.context.onnx(self.precision), content=content)
        threads, fusions = self.context.config.threads, self.convert is None
        return OnnxRuntimeCpu(model, RuntimeOptions(threads=threads, fusions=fusions))

    def _top1(self, graph: Any) -> float:
        with self._runtime(graph) as runtime:
            return self.judge.top1(runtime)


def search(
    context: ExportContext, precision: str, scheme: Scheme, convert: Convert | None = None
) -> tuple[Any, Quantization]:
    """``Search.carry_out``. Raises MldrError where images to calibrate or to judge are missing."""
    if not len(context.calibration):
        raise MldrError(
            f"{precision} needs training images to measure activations and the training split is "
            "empty: give the data set that the student was trained on"
        )
    if not len(context.validation):
        raise MldrError(
            f"{precision} is chosen by validation accuracy and the data set has no validation "
            "split (data.val_fraction is 0): train with one, or export fp16"
        )
    with tempfile.TemporaryDirectory(dir=context.folder, prefix=".calibrating-") as folder:
        return Search(context, precision, scheme, Path(folder), convert).carry_out()


def quantised_kind(
    precision: str, scheme: Scheme, convert: Convert | None = None, **run: Any
) -> ArtifactKind:
    """The kind that writes the best graph of ``search``; ``run``: how it is run, if not by itself.

    Writing raises MldrError without images to calibrate on or to judge by.
    """

    def write(context: ExportContext) -> Written:
        proto, record = search(context, precision, scheme, convert)
        products = integer_products(proto, [*record.quantised, *record.excluded])
        record = record.model_copy(update={"quantised": [*record.quantised, *products]})
        save_graph(proto, context.onnx(precision))
        return Written(PRECISIONS[precision].file, opset=opset_of(proto), quantization=record)

    return ArtifactKind(write, **run)


def _mean_kl(expected: Floats, logits: Floats) -> float:
    """Infinite where a logit is not finite, so that such a layer is the first to be left out."""
    if not np.isfinite(logits).all():
        return float("inf")
    expected_log, actual_log = log_softmax(expected), log_softmax(logits)
    return float((np.exp(expected_log) * (expected_log - actual_log)).sum(axis=1).mean())
