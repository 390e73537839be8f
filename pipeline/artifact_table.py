"""The artifacts of a bundle beside each other: size, accuracy, agreement, latency, parity."""

from __future__ import annotations

from ..bundle.manifest import Artifact, Manifest
from ..bundle.shipping import recommended
from ..bundle.wording import counted, figure
from .narrow_table import narrow_table

_HEADINGS = ("MB", "top-1 %", "drop", "agree %", "ms/img b1", "ms/img b{batch}", "vs fp32")


def artifact_table(manifest: Manifest) -> str:
    """What an export came to, with the artifact to ship on the machine that it ran on."""
    timed = [a.latency for a in manifest.artifacts if a.latency is not None]
    batch = timed[0].batch if timed else ""
    fp32 = next((a for a in manifest.artifacts if a.precision == "fp32"), None)
    headings = ("", *(heading.format(batch=batch) for heading in _HEADINGS), "parity")
    lines = [narrow_table(headings, [_cells(artifact, fp32) for artifact in manifest.artifacts])]
    lines += [f"{a.file}: {'; '.join(notes)}" for a in manifest.artifacts if (notes := _notes(a))]
    if timed:
        threads = counted(timed[0].threads, "thread")
        lines.append(f"latency on {timed[0].machine}, {threads}, in turns")
    advice = recommended(manifest)
    if advice is not None:
        lines.append(str(advice))
    return "\n".join(lines)


def _cells(artifact: Artifact, fp32: Artifact | None) -> list[str]:
    parity, latency = artifact.parity, artifact.latency
    cells = [
        artifact.file,
        f"{artifact.size / 1e6:.2f}",
        f"{parity.artifact.top1:.2f}",
        f"{parity.drop:+.2f}",
        f"{parity.agreement:.2f}",
    ]
    if latency is None:
        cells += ["", "", ""]
    else:
        base = fp32.latency if fp32 else None
        ratio = "" if base is None else f"{base.ms_single / latency.ms_single:.2f}x"
        cells += [figure(latency.ms_single), figure(latency.ms_batch), ratio]
    return [*cells, parity.verdict]


def _notes(artifact: Artifact) -> list[str]:
    notes = []
    if artifact.islands:
        notes.append(f"{counted(len(artifact.islands), 'node')} in fp32")
    if artifact.quantization is not None:
        record = artifact.quantization
        notes.append(f"{record.method}, {counted(record.calibration_images, 'image')}")
        if record.excluded:
            every = len(record.quantised) + len(record.excluded)
            notes.append(f"{len(record.excluded)} of {every} layers in fp32")
    if artifact.emulated:
        notes.append("proven by emulation")
    if (doubt := artifact.parity.doubt) is not None:
        notes.append(doubt)
    return notes
