"""One file in one runtime: its rounds of measurement, and the entry that comes of them."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ..bundle.manifest import Artifact
from ..bundle.progress import Progress
from ..bundle.reader import Bundle
from ..runtimes.runtime import Runtime, RuntimeOptions
from ..runtimes.runtime_choice import Candidate, prove_golden
from .clock import Clock
from .closed_loop import Call, calls_of, measure, warm_up
from .layer_job import LayerJob
from .layers import layers_of
from .open_loop import schedule, serve_arrivals
from .profile_config import ProfileConfig
from .recommend import WEIGHTS
from .report import ArrivalRound, Closed, Entry, FileAccuracy, Poisson, Round
from .request_stages import END_TO_END, Requests


class Session:
    """A candidate that is measured in rounds; each loads, warms up and measures anew."""

    def __init__(
        self, bundle: Bundle, candidate: Candidate, config: ProfileConfig, clock: Clock
    ) -> None:
        self.bundle, self.candidate, self.config, self.clock = bundle, candidate, config, clock
        self.options = RuntimeOptions(threads=config.threads)
        self.artifact = candidate.artifact
        self._closed: dict[int, list[Round]] = defaultdict(list)
        self._arrived: dict[float, list[ArrivalRound]] = defaultdict(list)
        self._rates: dict[float, list[float]] = defaultdict(list)
        self._golden = 0.0

    @property
    def batches(self) -> list[int]:
        """Batch sizes to measure: 1, and the others that parity was proven for."""
        largest = self.bundle.manifest.max_batch
        engine = self.artifact.engine if self.artifact else None
        if engine is not None:
            largest = min(largest, engine.profile.max)
        return sorted({1, *(b for b in self.config.batches if b <= largest)})

    def round(self, requests: Requests, progress: Progress) -> None:
        """Load, prove the golden images, warm up and measure everything once. Raises MldrError."""
        with self.candidate.kind.create(
            self.bundle, self.candidate.artifact, self.options
        ) as runtime:
            self.artifact = runtime.model.artifact
            self._golden = max(self._golden, prove_golden(self.bundle, runtime))
            for batch in self.batches:
                self._measure(runtime, requests, batch)
                progress.advance(1, **{runtime.file: f"batch {batch}"})
            call = calls_of(runtime, requests, 1, self.clock)
            for load in self.config.loads:
                self._arrive(call, load)
                progress.advance(1, **{runtime.file: f"load {load:.0%}"})

    def _measure(self, runtime: Runtime, requests: Requests, batch: int) -> None:
        call = calls_of(runtime, requests, batch, self.clock)
        warmed = warm_up(call, self.config.warm_up_seconds)
        first = warmed.calls + sum(len(part.compute) for part in self._closed[batch])
        seconds, iterations = self.config.share()
        marks = measure(call, seconds, iterations, first)
        self._closed[batch].append(Round.of(marks, warmed.calls, warmed.seconds, warmed.stable))

    def _arrive(self, call: Call, load: float) -> None:
        rate = load * 1e9 / float(self._closed[1][-1].samples(END_TO_END).mean())  # this round's
        self._rates[load].append(rate)
        number = len(self._arrived[load])
        rng = np.random.default_rng([self.config.seed, number, round(1000 * load)])
        seconds, iterations = self.config.share()
        arrivals = schedule(rate, seconds, iterations, rng)
        outcome = serve_arrivals(call, arrivals, self.clock)
        self._arrived[load].append(
            ArrivalRound(
                latency=outcome.latency.tolist(),
                waiting=outcome.waiting.tolist(),
                spent=outcome.spent,
            )
        )

    def entry(self) -> Entry:
        """What was measured, beside the accuracy of the same file."""
        manifest, artifact = self.bundle.manifest, self.artifact
        record = artifact or manifest.weights
        layers = layers_of(self._layer_job()) if self.config.layers else None
        return Entry(
            runtime=self.candidate.kind.name,
            file=record.file,
            format=artifact.format if artifact else WEIGHTS,
            precision=artifact.precision if artifact else "fp32",
            bytes=record.size,
            sha256=record.sha256,
            status=artifact.status if artifact else "passed",
            accuracy=accuracy(self.bundle, artifact),
            golden_difference=self._golden if np.isfinite(self._golden) else None,
            closed=[Closed.of(batch, rounds) for batch, rounds in sorted(self._closed.items())],
            poisson=[
                Poisson.of(k, float(np.mean(self._rates[k])), rounds)
                for k, rounds in self._arrived.items()
            ],
            layers=layers.rows if layers else [],
            layers_note=layers.note if layers else "not asked for",
        )

    def _layer_job(self) -> LayerJob:
        return LayerJob(
            self.candidate.kind,
            self.bundle,
            self.artifact,
            self.options,
            self.config.layer_calls,
        )


def accuracy(bundle: Bundle, artifact: Artifact | None) -> FileAccuracy:
    """From the parity of ``artifact``; of the weights: what parity held the artifacts against."""
    if artifact is None:
        parity = bundle.manifest.artifacts[0].parity
        result, drop = parity.reference, 0.0
    else:
        parity = artifact.parity
        result, drop = parity.artifact, parity.drop
    return FileAccuracy(
        top1=result.top1,
        top5=result.top5,
        drop=drop,
        samples=parity.samples,
        emulated=artifact.emulated if artifact else False,
    )
