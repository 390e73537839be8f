"""The Proof tab: what parity measured of every artifact, what failed, what it would have needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from ..bundle.chance import tells_top5
from ..bundle.manifest import Artifact, Manifest
from ..bundle.parity import ParityResult
from .html import cell, chip, notice, table
from .loaded_student import LoadedStudent
from .quality_section import quality_section

_MARKS = {  # by whether a limit holds
    True: ("md-ok", "✓", "holds"),
    False: ("md-no", "✗", "broken"),
    None: ("", "?", "in doubt"),
}


@dataclass(frozen=True)
class GateLine:
    """One limit and what was measured against it."""

    name: str
    measured: str
    allowed: str
    needed: str
    holds: bool | None  # None: in doubt


def gate_lines(parity: ParityResult) -> Iterator[GateLine]:
    """Every limit of the gate that was applied; the words of ``failures`` decide, not these."""
    gate, needed = parity.gate, parity.needed
    if gate.min_agreement is not None:
        agreement = f"{parity.agreement:.2f} %" + (f", {parity.ties} ties" if parity.ties else "")
        holds = parity.agreement >= gate.min_agreement
        least = f"{needed.min_agreement:.2f} %"
        yield GateLine("agreement", agreement, f"at least {gate.min_agreement:g} %", least, holds)
    if gate.max_dlogit is not None:
        largest = needed.max_dlogit or 0.0
        difference = f"{largest:.2g}"
        yield GateLine(
            "largest logit difference",
            difference,
            f"at most {gate.max_dlogit:g}",
            difference,
            largest <= gate.max_dlogit,
        )
    if gate.max_relative is not None and needed.max_relative is not None:
        difference = f"{needed.max_relative:.2g}"
        allowed, holds = f"at most {gate.max_relative:g}", needed.max_relative <= gate.max_relative
        yield GateLine("relative to the largest logit", difference, allowed, difference, holds)
    if gate.max_drop is not None:
        within = not (parity.excess and parity.significant)
        yield GateLine(
            "drop of top-1",
            f"{parity.drop:+.2f} points, McNemar p {parity.mcnemar_p:.2g}",
            f"at most {gate.max_drop:g} points",
            f"{needed.max_drop:.2f} points",
            within if parity.doubt is None else None,
        )
    yield GateLine("NaN or infinity", str(parity.nonfinite), "none", "", not parity.nonfinite)


def proof_page(student: LoadedStudent) -> str:
    """The whole tab."""
    manifest = student.bundle.manifest
    return "".join(
        (
            _headline(manifest),
            *(notice(f"{doubt}.", "warn") for doubt in manifest.doubts),
            '<div class="md-grid">',
            *(_card(artifact, student) for artifact in manifest.artifacts),
            "</div>",
            _figures(manifest),
            quality_section(student.bundle),
            *(notice(f"Not made at export: {reason}") for reason in manifest.unavailable),
        )
    )


def _headline(manifest: Manifest) -> str:
    failed = [a.file for a in manifest.artifacts if a.status == "failed"]
    samples = manifest.artifacts[0].parity.samples
    summary = (
        f"Each file was held against the PyTorch student on {samples} test images that training "
        "never saw. "
    )
    if failed:
        names = ", ".join(failed)
        return notice(f"{summary}FAILED: {names}. What fails is not run here.", "bad")
    doubted = [a.file for a in manifest.artifacts if a.parity.doubt is not None]
    if doubted:
        return notice(f"{summary}None failed; in doubt: {', '.join(doubted)}.", "warn")
    return notice(f"{summary}All {len(manifest.artifacts)} passed.", "good")


def _card(artifact: Artifact, student: LoadedStudent) -> str:
    parity = artifact.parity
    kind = {"passed": "good", "in doubt": "warn"}.get(parity.verdict, "bad")
    verdict = chip(parity.verdict if parity else "FAILED", kind)
    rows = "".join(_line(line) for line in gate_lines(parity))
    return (
        f'<section class="md-card" aria-label="{escape(artifact.file)}"><header>'
        f"<b>{escape(artifact.file)}</b>{verdict}</header>"
        f'<table class="md-table md-gates"><thead><tr><th scope="col">gate</th>'
        f'<th scope="col">measured</th><th scope="col">allowed</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>{''.join(_words(artifact, student))}</section>"
    )


def _line(line: GateLine) -> str:
    kind, mark, state = _MARKS[line.holds]
    needed = "" if line.holds or not line.needed else f"would have needed {line.needed}"
    extra = f'<span class="md-needed">{escape(needed)}</span>' if needed else ""
    return (
        f'<tr><th scope="row">{escape(line.name)}</th><td class="{kind}">'
        f'<span role="img" aria-label="{state}">{mark}</span> {escape(line.measured)}{extra}</td>'
        f"<td>{escape(line.allowed)}</td></tr>"
    )


def _words(artifact: Artifact, student: LoadedStudent) -> Iterator[str]:
    for failure in artifact.parity.failures:
        yield notice(f"Failed: {failure}", "bad")
    if (untold := artifact.parity.untold) is not None:
        yield notice(f"{untold[0].upper()}{untold[1:]}.", "warn")
    if artifact.fault is not None:
        yield f'<p class="md-dim">{escape(str(artifact.fault))}</p>'
    form = next((f for f in student.forms.values() if f.artifact is artifact), None)
    if form is not None:
        yield (
            f'<p class="md-dim">On this machine, in {escape(form.runtime.name)}: golden images '
            f"answered within {form.golden:.1e} of the stored logits.</p>"
        )
    elif artifact.status == "passed":
        reason = student.left_out.get(student.name(artifact), "")
        yield f'<p class="md-dim">Not run on this machine. {escape(reason)}</p>'
    notes = [*_notes(artifact)]
    if notes:
        yield f'<p class="md-dim">{escape(" ".join(notes))}</p>'


def _notes(artifact: Artifact) -> Iterator[str]:
    if artifact.emulated:
        yield f"Proven by arithmetic that emulates {artifact.precision}."
    if artifact.islands:
        yield f"{len(artifact.islands)} nodes stay in fp32."
    record = artifact.quantization
    if record is not None:
        total = len(record.quantised) + len(record.excluded)
        yield (
            f"Scales by {record.method} from {record.calibration_images} training images; "
            f"{len(record.quantised)} of {total} layers quantised."
        )


def _figures(manifest: Manifest) -> str:
    top5 = tells_top5(len(manifest.labels))
    heads = ["file", "top-1 %", "PyTorch", "drop", *(["top-5 %", "PyTorch"] if top5 else [])]
    heads += [
        "lost",
        "gained",
        "differ",
        "ties",
        "max |dlogit|",
        "p99",
        "mean KL",
        "NaN",
        "batches",
    ]
    rows = [_row(artifact, top5) for artifact in manifest.artifacts]
    return table(heads, rows, "Every figure of the proof", "md-figures")


def _row(artifact: Artifact, top5: bool) -> list[str]:
    p = artifact.parity
    batches = ", ".join(f"{c.batch}{'' if c.error is None else ' failed'}" for c in p.batches)
    figures = [
        f"{p.artifact.top1:.2f}",
        f"{p.reference.top1:.2f}",
        f"{p.drop:+.2f}",
        *([f"{p.artifact.top5:.2f}", f"{p.reference.top5:.2f}"] if top5 else []),
        *map(str, (p.lost, p.gained, p.disagreements, p.ties)),
        f"{p.max_dlogit:.2g}",
        f"{p.p99_dlogit:.2g}",
        f"{p.mean_kl:.2g}",
        str(p.nonfinite),
        batches,
    ]
    return [cell(artifact.file, "" if p else "md-no"), *(cell(text) for text in figures)]
