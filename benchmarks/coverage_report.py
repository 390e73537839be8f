"""What coverage.py found, as figures, a table and the two files under docs/results/."""

from __future__ import annotations

import datetime
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

STRICT = 1e-3  # of the largest logit: fresh students have small logits, which the gate never feels
_VERSIONS = ("torch", "timm", "onnx", "onnxscript", "onnxruntime")
_NOT_ASKED = "is not a classifier"  # encoders without a head cannot be students of anything


def summarise(rows: list[dict[str, Any]], classes: int) -> dict[str, Any]:
    """Counts, and the largest figures among those that passed."""
    good = [row for row in rows if row["passed"]]
    asked = [row for row in rows if _NOT_ASKED not in row.get("reason", "")]
    return {
        "classes": classes,
        "looked_at": len(rows),
        "classifiers": len(asked),
        "passed": len(good),
        "percent": round(100 * len(good) / max(len(asked), 1), 1),
        "untold": [row["class"] for row in rows if row.get("told") is False],
        "teachers": sum(bool(row.get("teaches")) for row in rows),
        "max_dlogit": max((row["max_dlogit"] for row in good), default=None),
        "max_relative": max(map(relative, good), default=None),
        "above_strict": [row["class"] for row in good if relative(row) > STRICT],
        "slowest_export": max((row["export_seconds"] for row in good), default=None),
    }


def relative(row: dict[str, Any]) -> float:
    """Largest difference of a logit as a part of the largest logit."""
    return float(row["max_dlogit"] / row["largest_logit"])


def write(rows: list[dict[str, Any]], classes: list[str], folder: Path) -> None:
    """coverage.json and coverage.md; `classes` are all there are, looked at or not."""
    told = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, CPU, 1 thread",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _VERSIONS},
        "summary": summarise(rows, len(classes)),
        "missing": sorted({*classes} - {row["class"] for row in rows}),
    }
    ordered = sorted(rows, key=lambda row: row["class"])
    text = json.dumps({**told, "rows": ordered}, indent=1)
    (folder / "coverage.json").write_text(text + "\n")
    (folder / "coverage.md").write_text("\n".join(_page(told, ordered)) + "\n")


def _page(told: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    s = told["summary"]
    versions = ", ".join(f"{name} {number}" for name, number in told["versions"].items())
    failed = [row for row in rows if not row["passed"]]
    shallow = sum("options" in row.get("arguments", {}) for row in rows)
    return [
        "# Any timm model: one of every class",
        "",
        f"{told['date']}; {told['machine']}; Python {told['python']}, {versions}. Raw figures: "
        "[coverage.json](coverage.json).",
        "",
        "    python benchmarks/coverage.py --large 0 --memory 6 --write",
        "",
        f"**{s['looked_at']} of {s['classes']} model classes were looked at; of the "
        f"{s['classifiers']} that classify, {s['passed']} pass ({s['percent']} %).** The classes "
        "are timm's that offer `forward_intermediates`, and Vision Mamba, which this package adds. "
        "Each stands for its variant with the fewest parameters. "
        f"{s['teachers']} also answered as a teacher.",
        "",
        "A pass means: stages planned; two MLDR-KD steps with a finite loss (batch 8, bf16 "
        "autocast, real CIFAR-100 images brought to the side in the table, a fresh ResNet-10-T as "
        "the teacher); then, as a teacher itself, finite logits and MLDR-KD's own layers built for "
        "it; a bundle whose ONNX file passes the fp32 gate (agreement 100 % up to ties, |dlogit| "
        "<= 1e-3) on 16 real images and at batch 1, 2 and 5. Before the export, batch norms get "
        "the statistics of the training images, which two steps do not give them.",
        "",
        "What it does not say: nothing was trained to any accuracy, pretrained weights were not "
        "loaded, and one small variant stands for its whole class. Logits after two steps are "
        "small, so the table also gives |dlogit| as a part of the largest logit: the worst is "
        f"{s['max_relative']:.1e}.",
        "",
        f"{shallow} models were made shallower, where their class has an argument for it (four "
        "blocks, or one a stage): the same layers, fewer of them; *arguments* says so, the others "
        "ran as they are. Seconds are processor seconds of the export, one thread, a busy machine.",
        "",
        *(["## Not looked at yet", "", ", ".join(told["missing"]), ""] if told["missing"] else []),
        "## Failures",
        "",
        *([_failure(row) for row in failed] or ["None."]),
        "",
        "## All",
        "",
        "| class | model | family | M params | px | arguments | layout | steps | teacher | "
        "export s | nodes | max \\|dlogit\\| | of the largest | result |",
        "| --- | --- | --- | ---: | ---: | --- | --- | --- | --- "
        "| ---: | ---: | ---: | ---: | --- |",
        *map(_row, rows),
    ]


def _failure(row: dict[str, Any]) -> str:
    return f"- `{row['class']}` ({row['model']}), {row['failed_at']}: {row['reason']}"


def _row(row: dict[str, Any]) -> str:
    cells = [
        row["class"],
        row["model"],
        row.get("family", ""),
        f"{row.get('parameters_here', row['parameters']) / 1e6:.2f}",
        str(row.get("image_size", "")),
        ", ".join(_argument(k, v) for k, v in row.get("arguments", {}).items()),
        row.get("layout", ""),
        "ok" if "losses" in row else "-",
        "ok" if row.get("teaches") else "-",
        f"{row['export_seconds']:.1f}" if "export_seconds" in row else "-",
        str(row.get("nodes", "-")),
        f"{row['max_dlogit']:.1e}" if "max_dlogit" in row else "-",
        f"{relative(row):.1e}" if "max_dlogit" in row else "-",
        "pass" if row["passed"] else f"fail: {row['failed_at']}",
    ]
    return f"| {' | '.join(cells)} |"


def _argument(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(_argument(k, v) for k, v in value.items())
    return f"{name} {value}"
