"""From a bundle's folder to a report: rounds over every file in every runtime, in turn."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from .. import __version__
from ..bundle.atomic import sha256
from ..bundle.manifest import FILE
from ..bundle.progress import Progress, Silent
from ..bundle.reader import Bundle, open_bundle, refusal
from ..errors import MldrError, Unavailable
from ..runtimes.runtime import RuntimeOptions
from ..runtimes.runtime_choice import candidates, not_computed
from .clock import Clock, WallClock
from .machine import this_machine
from .profile_config import ProfileConfig
from .recommend import recommendation
from .report import Entry, Report, Subject
from .request_stages import Requests, golden_requests
from .session import Session

_FEW_IMAGES = 8
_BUSIER = 1.3  # than planned, under arrivals: beyond what chance does to 100 of them


def profile(
    path: Path,
    config: ProfileConfig | None = None,
    *,
    allow_failed: bool = False,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Report:
    """Measure every artifact of the bundle at ``path`` that this machine can run.

    Rounds go through all files and runtimes in turn, so that a drift of the machine touches all
    alike. Raises MldrError for a bundle that is damaged or failed its gates and an unknown runtime;
    Unavailable when nothing of it runs here.
    """
    config, progress, clock = config or ProfileConfig(), progress or Silent(), clock or WallClock()
    bundle = open_bundle(path, allow_failed=allow_failed)
    selection = candidates(bundle, config.artifact, config.runtimes)
    if not selection:
        raise Unavailable(_reason(bundle, config))
    left_out = [*_left_out(bundle, config)]
    requests = golden_requests(bundle, config.encoding)
    machine = this_machine(
        [candidate.kind.name for candidate in selection], RuntimeOptions(threads=config.threads)
    )
    sessions = [Session(bundle, candidate, config, clock) for candidate in selection]
    sessions = _rounds(sessions, requests, config, progress, left_out)
    entries = _entries(sessions, progress)
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        program=f"mldr-deploy {__version__}",
        subject=_subject(bundle, requests),
        machine=machine,
        config=config,
        entries=entries,
        left_out=left_out,
        warnings=[
            *bundle.manifest.doubts,
            *warnings(entries, config, requests),
            *_caveats(bundle, entries),
        ],
        recommendation=recommendation(bundle.manifest, entries),
    )


def _reason(bundle: Bundle, config: ProfileConfig) -> str:
    for artifact in bundle.manifest.artifacts:
        named = config.artifact in (artifact.precision, artifact.file)
        if named and (reason := not_computed(artifact)):
            return reason
    return f"{bundle.path} holds nothing that this machine runs: see mldr-deploy doctor"


def _rounds(
    sessions: list[Session],
    requests: Requests,
    config: ProfileConfig,
    progress: Progress,
    left_out: list[str],
) -> list[Session]:
    """The sessions that finished every round; ``left_out`` gets the reason of each that failed."""
    series = sum(len(session.batches) + len(config.loads) for session in sessions)
    progress.start("measuring latency", config.rounds * series)
    for _ in range(config.rounds):
        for session in [*sessions]:
            try:
                session.round(requests, progress)
            except MldrError as error:
                left_out.append(f"{session.candidate.name}: {error}")
                sessions.remove(session)
                if not sessions:
                    raise
    progress.finish()
    return sessions


def _entries(sessions: list[Session], progress: Progress) -> list[Entry]:
    """One entry for a file and runtime: two candidates may open the same engine for this GPU."""
    progress.start("time per layer", len(sessions))
    entries: dict[str, Entry] = {}
    for session in sessions:
        entry = session.entry()
        entries.setdefault(entry.name, entry)
        progress.advance()
    progress.finish()
    return list(entries.values())


def _left_out(bundle: Bundle, config: ProfileConfig) -> Iterator[str]:
    if config.artifact is not None:
        return
    for artifact in bundle.manifest.artifacts:
        if artifact.status == "failed" and not bundle.allow_failed:
            yield refusal(bundle.path, artifact)
        elif reason := not_computed(artifact):
            yield reason


def _subject(bundle: Bundle, requests: Requests) -> Subject:
    manifest = bundle.manifest
    return Subject(
        name=bundle.path.resolve().name,
        model=str(manifest.model.get("name", "student")),
        family=manifest.family,
        parameters=manifest.parameters,
        classes=len(manifest.labels),
        input=list(manifest.input.shape),
        images=len(requests.files),
        manifest_sha256=sha256(bundle.path / FILE),
        quality=manifest.quality,
    )


def warnings(entries: list[Entry], config: ProfileConfig, requests: Requests) -> Iterator[str]:
    """What a reader must know before trusting a figure."""
    series = [(entry.name, closed) for entry in entries for closed in entry.closed]
    unsteady = [
        (c.end_to_end.cv, name, c.batch) for name, c in series if c.end_to_end.cv > config.max_cv
    ]
    if unsteady:
        cv, name, batch = max(unsteady)
        yield (
            f"coefficient of variation above {config.max_cv:g} % in {len(unsteady)} of "
            f"{len(series)} series, at most {cv:.0f} % ({name}, batch {batch}): other work, "
            "changing clocks or unequal images; read medians, and let --compare judge changes"
        )
    unstable = [f"{name} batch {closed.batch}" for name, closed in series if closed.unstable]
    if unstable:
        yield (
            f"warm-up did not become stable within {config.warm_up_seconds:g} s in "
            f"{len(unstable)} of {len(series)} series (first: {unstable[0]})"
        )
    if len(requests.files) < _FEW_IMAGES:
        yield f"only {len(requests.files)} distinct images: caches may flatter the figures"
    yield from _outrun(entries)
    for entry in {entry.file: entry for entry in entries}.values():
        if entry.accuracy.emulated:
            yield f"{entry.file}: parity was proven by emulated {entry.precision}, not by a runtime"
        if entry.status == "failed":
            yield f"{entry.file} failed its parity gate: do not ship it"


def _caveats(bundle: Bundle, entries: list[Entry]) -> Iterator[str]:
    measured = {entry.file for entry in entries}
    for artifact in bundle.manifest.artifacts:
        if artifact.file not in measured:
            continue
        if artifact.caveat:
            yield f"{artifact.file}: {artifact.caveat}: its times are this machine's"
        if (doubt := artifact.parity.doubt) is not None:
            yield f"{artifact.file}: {doubt}"


def _outrun(entries: list[Entry]) -> Iterator[str]:
    series = [(p.busy, p.load, entry.name) for entry in entries for p in entry.poisson]
    outrun = [point for point in series if point[0] > _BUSIER * point[1]]
    if outrun:
        busy, load, name = max(outrun)
        yield (
            f"under arrivals the machine was slower than one request after another in "
            f"{len(outrun)} of {len(series)} series (worst: {name}, planned {load:.0%} busy, was "
            f"{busy:.0%}): their queues say more of its other work than of the model"
        )
