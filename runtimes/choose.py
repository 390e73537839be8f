"""Which runtime runs which artifact: by name, or the fastest that is proven on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..bundle.manifest import Artifact
from ..bundle.progress import Progress, Silent
from ..bundle.reader import Bundle, refusal
from ..errors import MldrError, Unavailable
from .runtime import Runtime, RuntimeOptions
from .runtime_kinds import RUNTIMES, RuntimeKind, runtime_kind

AUTO = "auto"
_SECONDS = 0.3  # of timing for each candidate


@dataclass(frozen=True)
class Candidate:
    """A runtime and what it would run; ``artifact`` None: the weights."""

    kind: RuntimeKind
    artifact: Artifact | None

    @property
    def name(self) -> str:
        """``onnxruntime-cpu student.onnx``."""
        return f"{self.kind.name} {self.artifact.file if self.artifact else 'weights'}"


def open_runtime(
    bundle: Bundle,
    runtime: str = AUTO,
    artifact: str | None = None,
    options: RuntimeOptions | None = None,
    progress: Progress | None = None,
) -> Runtime:
    """The runtime to serve ``bundle`` with, not yet loaded.

    ``artifact`` is a precision (``int8``) or a file of the manifest; None leaves it open. What is
    left open is decided by ``fastest``. Raises MldrError for an unknown name, an artifact that is
    not there or failed its gate, or when nothing runs; Unavailable when the machine lacks the
    runtime.
    """
    options = options or RuntimeOptions()
    if runtime == AUTO:
        tried = candidates(bundle, artifact)
    else:
        kind = runtime_kind(runtime)
        if reason := kind.missing():
            raise Unavailable(reason)
        tried = list(_pairs(bundle, artifact, [kind]))
    if not tried:
        raise MldrError(_nothing(bundle, artifact, runtime))
    only = len(tried) == 1 and runtime != AUTO
    chosen = tried[0] if only else fastest(bundle, tried, options, progress)
    return chosen.kind.create(bundle, chosen.artifact, options)


def require_name(runtime: str) -> None:
    """Raises MldrError when ``runtime`` is neither auto nor a name of the registry."""
    if runtime != AUTO:
        runtime_kind(runtime)


def candidates(
    bundle: Bundle, artifact: str | None = None, runtimes: Sequence[str] = ()
) -> list[Candidate]:
    """What this machine can run of the bundle, by parity permitted; torch is not loaded for it.

    ``runtimes`` names the ones to take, else all that ``auto`` may. Raises MldrError for an unknown
    name and Unavailable for one that is not here.
    """
    if not runtimes:
        kinds = [kind for kind in RUNTIMES.values() if kind.automatic and kind.missing() is None]
        return list(_pairs(bundle, artifact, kinds))
    kinds = [runtime_kind(name) for name in dict.fromkeys(runtimes)]
    for kind in kinds:
        reason = kind.missing()
        if reason is not None:
            raise Unavailable(reason)
    return list(_pairs(bundle, artifact, kinds))


_fastest: dict[tuple[str, str, str, RuntimeOptions], Candidate] = {}


def fastest(
    bundle: Bundle,
    tried: list[Candidate],
    options: RuntimeOptions,
    progress: Progress | None = None,
) -> Candidate:
    """The one with the lowest time a call on the golden images; kept for the process.

    One whose logits on the golden images leave its artifact's gate on *this* machine is left out:
    the manifest's proof was made with ONNX Runtime, perhaps elsewhere. Raises MldrError when none
    is left.
    """
    digests = " ".join(entry.sha256 for entry in bundle.manifest.files)
    names = " ".join(candidate.name for candidate in tried)
    key = (str(bundle.path.resolve()), digests, names, options)
    if key in _fastest:
        return _fastest[key]
    progress = progress or Silent()
    times: dict[float, Candidate] = {}
    for candidate in tried:
        try:
            with candidate.kind.create(bundle, candidate.artifact, options) as loaded:
                prove_golden(bundle, loaded)
                seconds = _seconds_a_call(bundle, loaded)
        except MldrError as error:
            progress.note(f"auto: {candidate.name} is left out: {error}")
            continue
        progress.note(f"auto: {candidate.name}: {1000 * seconds:.2f} ms")
        times[seconds] = candidate
    if not times:
        raise MldrError(
            f"nothing on this machine runs {bundle.path} as it was exported (tried {names}): "
            "see `mldr-deploy doctor`"
        )
    _fastest[key] = times[min(times)]
    return _fastest[key]


def prove_golden(bundle: Bundle, runtime: Runtime) -> float:
    """Run the golden images; their largest logit difference. Raises MldrError outside the gate.

    Limit: the gate's ``max_dlogit``, or where the gate has none, twice what the whole split needed
    at export; NaN and infinity never pass.
    """
    golden, artifact = bundle.golden, runtime.model.artifact
    logits = _golden_logits(bundle, runtime)
    largest = float(np.abs(logits - golden.logits).max(initial=0.0))
    limit = 1e-3
    if artifact is not None:
        parity = artifact.parity
        stated = parity.gate.max_dlogit
        limit = stated if stated is not None else 2 * (parity.needed.max_dlogit or 0.0)
    allowed = bundle.allow_failed or (bool(np.isfinite(largest)) and largest <= limit)
    if not allowed:
        raise MldrError(
            f"{runtime.model.path} in {runtime.name} gives other logits on the golden images than "
            f"at export (off by {largest:.3g}, allowed {limit:.3g}): choose another --runtime"
        )
    return largest


def _golden_logits(bundle: Bundle, runtime: Runtime) -> np.ndarray:
    inputs, most = bundle.golden.inputs, bundle.manifest.max_batch
    parts = [runtime(inputs[k : k + most]) for k in range(0, len(inputs), most)]
    return np.concatenate(parts)


def _seconds_a_call(bundle: Bundle, runtime: Runtime) -> float:
    inputs = bundle.golden.inputs[: bundle.manifest.max_batch]
    times: list[float] = []
    while len(times) < 5 or sum(times) < _SECONDS:
        begin = time.perf_counter()
        runtime(inputs)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _pairs(bundle: Bundle, artifact: str | None, kinds: list[RuntimeKind]) -> Iterator[Candidate]:
    for kind in kinds:
        if not kind.formats and artifact is None:
            yield Candidate(kind, None)
        for held in _artifacts(bundle, artifact):
            if kind.runs(held):
                yield Candidate(kind, held)


def _artifacts(bundle: Bundle, wanted: str | None) -> list[Artifact]:
    """The artifacts that may be run and match ``wanted``; a failed one named outright raises."""
    held = bundle.manifest.artifacts
    matching = [a for a in held if wanted in (None, a.precision, a.file)]
    if wanted is not None and not matching:
        listed = ", ".join(f"{a.precision} ({a.file})" for a in held)
        raise MldrError(f"{bundle.path} holds no artifact {wanted!r}; it holds {listed}")
    passed = [a for a in matching if bundle.allow_failed or a.status == "passed"]
    if not passed:
        raise MldrError(refusal(bundle.path, matching[0]))
    return passed


def not_computed(artifact: Artifact) -> str | None:
    """Why none of this machine's runtimes may run ``artifact``, if its precision is the reason."""
    here = [kind for kind in RUNTIMES.values() if kind.missing() is None]
    if any(kind.runs(artifact) for kind in here):
        return None
    lacking = [kind.name for kind in here if kind.lacks(artifact.precision)]
    if not lacking:
        return None
    return (
        f"{artifact.file} computes in {artifact.precision}, which {', '.join(lacking)} cannot; its "
        "parity was proven by emulation: take another --artifact here, or a machine with a GPU"
    )


def _nothing(bundle: Bundle, artifact: str | None, runtime: str) -> str:
    reasons = [not_computed(held) for held in _artifacts(bundle, artifact)]
    if reasons and reasons[0] is not None and None not in reasons:
        return f"{bundle.path}: {reasons[0]}"
    formats = sorted({held.format for held in bundle.manifest.artifacts})
    what = f"artifact {artifact!r}" if artifact else f"artifacts ({', '.join(formats)})"
    if runtime == AUTO:
        return (
            f"no runtime on this machine runs the {what} of {bundle.path}: see mldr-deploy doctor"
        )
    return f"runtime {runtime} does not run the {what} of {bundle.path}: choose --runtime auto"
