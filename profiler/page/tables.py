"""The page's tables; no latency stands without the accuracy of the same file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ...bundle.chance import tells_top5
from ...bundle.wording import figure
from ..report import Entry, Report
from ..request_stages import STAGES

_GATE = {"passed": '<td class="ok">passed</td>', "failed": '<td class="no">FAILED</td>'}


def overview(report: Report) -> str:
    """Accuracy and end-to-end latency of every entry at batch 1."""
    top5 = tells_top5(report.subject.classes)
    header = ["artifact", "runtime", "precision", "gate", "top-1 %"]
    header += ["top-5 %", "MB"] if top5 else ["MB"]
    header += ["p50 ms", "p90", "p95", "p99", "mean", "images/s", "CV %"]
    pick = report.recommendation
    body = []
    for entry in report.entries:
        latency = entry.first.end_to_end
        best = (entry.file, entry.runtime) == (pick.file, pick.runtime)
        times = (latency.p50, latency.p90, latency.p95, latency.p99, latency.mean)
        cells = [entry.file, entry.runtime, entry.precision]
        figures = [f"{entry.accuracy.top1:.2f}"]
        figures += [f"{entry.accuracy.top5:.2f}"] if top5 else []
        figures += [f"{entry.bytes / 1e6:.2f}", *(figure(v) for v in times)]
        figures += [f"{entry.first.throughput:.0f}", f"{latency.cv:.1f}"]
        row = _cells(cells) + _GATE[entry.status] + _cells(figures)
        body.append(f'<tr class="best">{row}</tr>' if best else f"<tr>{row}</tr>")
    return _table(header, body, "names")


def series(report: Report) -> str:
    """Each batch size and load of every entry."""
    header = ["artifact", "top-1 %", "arrivals", "batch", "samples"]
    header += ["p50 ms", "p90", "p95", "p99", "mean", "CV %", "images/s"]
    header += [f"{stage.replace('_', ' ')} p50" for stage in STAGES]
    body = []
    for entry in report.entries:
        top1 = f"{entry.accuracy.top1:.2f}"
        for closed in entry.closed:
            latency = closed.end_to_end
            cells = [entry.name, top1, "one at a time", str(closed.batch), str(latency.count)]
            times = (latency.p50, latency.p90, latency.p95, latency.p99, latency.mean)
            cells += [*(figure(v) for v in times), f"{latency.cv:.1f}", f"{closed.throughput:.0f}"]
            cells += [figure(closed.summary[stage].p50) for stage in STAGES]
            body.append(f"<tr>{_cells(cells)}</tr>")
        for arrived in entry.poisson:
            latency = arrived.latency
            cells = [entry.name, top1, f"Poisson {arrived.load:.0%}", "1", str(latency.count)]
            times = (latency.p50, latency.p90, latency.p95, latency.p99, latency.mean)
            cells += [*(figure(v) for v in times), f"{latency.cv:.1f}", f"{arrived.rate:.0f}"]
            body.append(f"<tr>{_cells(cells + [''] * len(STAGES))}</tr>")
    return _table(header, body)


def layers(entry: Entry) -> str:
    """Every layer of one entry."""
    header = ["node", "operator", "module", "precision", "ms", "share %"]
    body = [
        f"<tr>{_cells([o.name, o.kind, o.module, o.precision])}"
        f"{_cells([f'{o.milliseconds:.4f}', f'{o.share:.2f}'])}</tr>"
        for o in entry.layers
    ]
    return _table(header, body, "names")


def machine(report: Report) -> str:
    """What the figures depend on."""
    facts = report.machine
    rows = [
        ("processor", facts.cpu),
        ("cores, threads", f"{facts.cores}, {facts.threads}"),
        ("CPU quota", "none" if facts.cpu_quota is None else f"{facts.cpu_quota:g}"),
        ("memory", _quantity(facts.memory_gib, "GiB")),
        ("governor", facts.governor or "not known"),
        ("clock at the start", _quantity(facts.cpu_mhz, "MHz")),
        ("load at the start", _quantity(facts.load, "")),
        ("system", facts.system),
        *((f"GPU {name}", value) for name, value in facts.gpu.items()),
        *facts.versions.items(),
    ]
    return _words(rows)


def method(report: Report) -> str:
    """How it was measured, in words."""
    config = report.config
    return _words(
        [
            ("rounds", f"{config.rounds}, each loads and warms up anew; all artifacts in turn"),
            ("warm-up", "until the median of 2 windows in a row falls no further by 2.5 %"),
            ("a series", f"at least {config.seconds:g} s and {config.iterations} requests"),
            (
                "requests",
                f"{report.subject.images} distinct real images in turn, as {config.encoding} files",
            ),
            ("stages", "each returns when the device is done; they add up to end to end"),
            ("percentiles", "nearest rank, no interpolation, over all rounds"),
            ("Poisson arrivals", "latency counts from the scheduled arrival, queueing included"),
            ("accuracy", "of the same file, from its parity proof on the whole test split"),
            ("program", report.program),
        ]
    )


def _quantity(value: float | None, unit: str) -> str:
    return "not known" if value is None else f"{value:g} {unit}".strip()


def _cells(cells: Iterable[str]) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in cells)


def _table(header: Sequence[str], body: Sequence[str], kind: str = "") -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _words(rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table class="words"><tbody>{body}</tbody></table></div>'
