"""The artifacts of a bundle beside each other: size, accuracy, agreement, latency, parity."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console
from rich.table import Table

from ..bundle.manifest import Artifact, Manifest
from ..bundle.shipping import recommended

_HEADINGS = ("MB", "top-1 %", "drop", "agree %", "ms b1", "ms/image b{batch}", "b1 vs fp32")


def artifact_table(manifest: Manifest) -> str:
    """What an export came to, with the artifact to ship on the machine that it ran on."""
    text = io.StringIO()
    console = Console(file=text, width=200, highlight=False)
    timed = [a.latency for a in manifest.artifacts if a.latency is not None]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading.format(batch=timed[0].batch if timed else ""), justify="right")
    table.add_column("parity")
    table.add_column("")
    fp32 = next((a for a in manifest.artifacts if a.precision == "fp32"), None)
    for artifact in manifest.artifacts:
        table.add_row(*_cells(artifact, fp32))
    console.print(table)
    if timed:
        console.print(f"latency on {timed[0].machine}, {timed[0].threads} threads, in turns")
    advice = recommended(manifest)
    if advice is not None:
        console.print(str(advice))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _cells(artifact: Artifact, fp32: Artifact | None) -> list[str]:
    parity, latency = artifact.parity, artifact.latency
    cells = [
        artifact.file,
        f"{artifact.bytes / 1e6:.2f}",
        f"{parity.artifact.top1:.2f}",
        f"{parity.drop:+.2f}",
        f"{parity.agreement:.2f}",
    ]
    if latency is None:
        cells += ["", "", ""]
    else:
        base = fp32.latency if fp32 else None
        ratio = "" if base is None else f"{base.ms_single / latency.ms_single:.2f}x"
        cells += [f"{latency.ms_single:.3f}", f"{latency.ms_batch:.3f}", ratio]
    return [*cells, artifact.status, "; ".join(_notes(artifact))]


def _notes(artifact: Artifact) -> list[str]:
    found = []
    if artifact.islands:
        found.append(f"{len(artifact.islands)} nodes in fp32")
    if artifact.quantization is not None:
        record = artifact.quantization
        found.append(f"{record.method}, {record.calibration_images} images")
        if record.excluded:
            every = len(record.quantised) + len(record.excluded)
            found.append(f"{len(record.excluded)} of {every} layers in fp32")
    if artifact.emulated:
        found.append("proven by emulation")
    return found
