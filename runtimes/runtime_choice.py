"""Which runtime runs which artifact: by name, or the fastest that is proven on this machine."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from ..bundle.golden import golden_limit
from ..bundle.manifest import Artifact
from ..bundle.progress import Progress, Silent
from ..bundle.reader import Bundle, refusal
from ..bundle.shipping import TOO_NOISY, Timing, choose, objection, shippable
from ..bundle.timing import in_turns
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
        contenders = candidates(bundle, artifact)
    else:
        kind = runtime_kind(runtime)
        if reason := kind.missing():
            raise Unavailable(reason)
        contenders = list(_pairs(bundle, artifact, [kind]))
    if not contenders:
        raise MldrError(_no_candidate(bundle, artifact, runtime))
    contenders = _unnamed(bundle, contenders) if artifact is None else _at_home(contenders)
    only = len(contenders) == 1 and runtime != AUTO
    candidate = contenders[0] if only else fastest(bundle, contenders, options, progress)
    return candidate.kind.create(bundle, candidate.artifact, options)


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
    contenders: list[Candidate],
    options: RuntimeOptions,
    progress: Progress | None = None,
) -> Candidate:
    """The candidate that ``choose`` takes by calls on the golden images; remembered by the process.

    A candidate whose logits on the golden images are beyond the limit on *this* machine is left
    out: the manifest's proof was made with ONNX Runtime, perhaps elsewhere. Raises MldrError when
    no candidate is left.
    """
    digests = " ".join(entry.sha256 for entry in bundle.manifest.files)
    names = " ".join(candidate.name for candidate in contenders)
    key = (str(bundle.path.resolve()), digests, names, options)
    if key in _fastest:
        return _fastest[key]
    progress = progress or Silent()
    loaded: list[tuple[Candidate, Runtime]] = []
    with ExitStack() as stack:
        for candidate in contenders:
            try:
                runtime = candidate.kind.create(bundle, candidate.artifact, options)
                prove_golden(bundle, stack.enter_context(runtime))
                loaded.append((candidate, runtime))
            except MldrError as error:
                progress.note(f"auto: {candidate.name} is left out: {error}")
        if not loaded:
            raise MldrError(
                f"nothing on this machine runs {bundle.path} as it was exported (tried {names}): "
                "see `mldr-deploy doctor`"
            )
        _fastest[key] = _fastest_loaded(bundle, loaded, progress)
    return _fastest[key]


def _fastest_loaded(
    bundle: Bundle, loaded: list[tuple[Candidate, Runtime]], progress: Progress
) -> Candidate:
    """By calls in turns with one golden image, and with as many as the bundle takes."""
    if len(loaded) == 1:
        return loaded[0][0]
    runtimes, golden = [runtime for _, runtime in loaded], bundle.golden
    images = [golden.inputs] * len(runtimes)
    sizes = (1, min(len(golden), bundle.manifest.max_batch))
    singles, batches = (in_turns(runtimes, images, size, seconds=_SECONDS / 2) for size in sizes)
    timings: list[Timing] = []
    for (candidate, runtime), single, batch in zip(loaded, singles, batches, strict=True):
        assert runtime.model.artifact is not None  # weights are no candidate beside others
        timings.append(Timing(runtime.model.artifact.file, candidate.kind.name, single, batch))
        progress.note(f"auto: {candidate.name}: {statistics.median(single):.2f} ms")
    choice = choose(timings, {a.file: a for a in bundle.manifest.artifacts})
    if choice.noisy:
        progress.note(f"auto: {TOO_NOISY}; the safe choice is {choice.best.file}")
    return loaded[timings.index(choice.best)][0]


def prove_golden(bundle: Bundle, runtime: Runtime) -> float:
    """Run the golden images; their largest logit difference. Raises MldrError above the limit."""
    artifact = runtime.model.artifact
    largest = bundle.golden.difference(_golden_logits(bundle, runtime))
    limit = golden_limit(artifact.parity if artifact else None)
    if largest > limit and not bundle.allow_failed:
        raise MldrError(
            f"{runtime.model.path} in {runtime.name} gives other logits on the golden images than "
            f"at export (off by {largest:.3g}, allowed {limit:.3g}): choose another --runtime"
        )
    return largest


def _golden_logits(bundle: Bundle, runtime: Runtime) -> np.ndarray:
    inputs, size = bundle.golden.inputs, bundle.manifest.max_batch
    parts = [runtime(inputs[k : k + size]) for k in range(0, len(inputs), size)]
    return np.concatenate(parts)


def _pairs(bundle: Bundle, artifact: str | None, kinds: list[RuntimeKind]) -> Iterator[Candidate]:
    for kind in kinds:
        if not kind.formats and artifact is None:
            yield Candidate(kind, None)
        for entry in artifacts_named(bundle, artifact):
            if kind.runs(entry):
                yield Candidate(kind, entry)


def artifacts_named(bundle: Bundle, name: str | None) -> list[Artifact]:
    """The artifacts that may be run and match ``name``. Raises MldrError for a failed one."""
    artifacts = bundle.manifest.artifacts
    matching = [a for a in artifacts if name in (None, a.precision, a.file)]
    if name is not None and not matching:
        listed = ", ".join(f"{a.precision} ({a.file})" for a in artifacts)
        raise MldrError(f"{bundle.path} holds no artifact {name!r}; it holds {listed}")
    passed = [a for a in matching if bundle.allow_failed or a.status == "passed"]
    if not passed:
        raise MldrError(refusal(bundle.path, matching[0]))
    return passed


def _unnamed(bundle: Bundle, contenders: list[Candidate]) -> list[Candidate]:
    """The ``contenders`` that may run without being named: what may be shipped, and weights.

    Where there are none and failed artifacts are allowed, all. Raises MldrError for none.
    """
    manifest = bundle.manifest
    fit = shippable(manifest)
    usual = [
        candidate
        for candidate in contenders
        if candidate.artifact is None or candidate.artifact.file in fit
    ]
    if usual or bundle.allow_failed:
        return usual or contenders
    objections = (
        objection(manifest, candidate.artifact)
        for candidate in contenders
        if candidate.artifact is not None
    )
    reasons = "; ".join(dict.fromkeys(filter(None, objections)))
    raise MldrError(f"{bundle.path}: {reasons}: name it by --artifact to run it all the same")


def _at_home(contenders: list[Candidate]) -> list[Candidate]:
    """Those of a precision that are for this machine; where all are for another one, all."""
    usual = [c for c in contenders if c.artifact is None or not c.artifact.caveat]
    return usual or contenders


def not_computed(artifact: Artifact) -> str | None:
    """Why none of this machine's runtimes may run ``artifact``, if its precision is the reason."""
    available = [kind for kind in RUNTIMES.values() if kind.missing() is None]
    if any(kind.runs(artifact) for kind in available):
        return None
    lacking = [kind.name for kind in available if kind.lacks(artifact.precision)]
    if not lacking:
        return None
    return (
        f"{artifact.file} computes in {artifact.precision}, which {', '.join(lacking)} cannot; its "
        "parity was proven by emulation: take another --artifact here, or a machine with a GPU"
    )


def _no_candidate(bundle: Bundle, artifact: str | None, runtime: str) -> str:
    reasons = [not_computed(entry) for entry in artifacts_named(bundle, artifact)]
    if reasons and reasons[0] is not None and None not in reasons:
        return f"{bundle.path}: {reasons[0]}"
    formats = sorted({entry.format for entry in bundle.manifest.artifacts})
    subject = f"artifact {artifact!r}" if artifact else f"artifacts ({', '.join(formats)})"
    if runtime == AUTO:
        return (
            f"no runtime on this machine runs the {subject} of {bundle.path}: see mldr-deploy "
            "doctor"
        )
    return f"runtime {runtime} does not run the {subject} of {bundle.path}: choose --runtime auto"
