"""Many images at once: what the Batch tab and its API endpoint call."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..bundle.chance import tells_top5
from ..bundle.golden import Golden
from ..serve.request_refusal import RequestRefusal
from .archive import Picture, pictures
from .confusion import confusion_picture
from .demo_config import DemoConfig
from .html import cell, notice, table, tiles
from .look import Viewer
from .scoring import Scores, score

_MOST_PAIRS = 8


class BatchScorer:
    """Scores what lies in the folder ``uploads``, and writes CSV files there."""

    def __init__(self, viewer: Viewer, config: DemoConfig, uploads: Path) -> None:
        self.viewer, self.config, self.uploads = viewer, config, uploads

    def uploaded(
        self, files: Sequence[tuple[str, str | None]], artifact: str | None
    ) -> Iterator[Scores]:
        """(name, path) of images or zip archives. Raises RequestRefusal and MldrError."""
        if not files:
            raise RequestRefusal(
                400, "no_images", "nothing is uploaded yet: choose images or a zip file"
            )
        named_paths = [(name, None if path is None else Path(path)) for name, path in files]
        return self._scored(pictures(named_paths, self.config), artifact)

    def bundle_scores(self, samples: Sequence[str], artifact: str | None) -> Iterator[Scores]:
        """The bundle's own images, whose labels are known."""
        golden: Golden = self.viewer.student.bundle.golden
        labels = self.viewer.manifest.labels
        named = (
            Picture(f"{labels[int(golden.label[k])]}/{Path(path).name}", Path(path).read_bytes())
            for k, path in enumerate(samples)
        )
        return self._scored(named, artifact)

    def _scored(self, images: Iterator[Picture], artifact: str | None) -> Iterator[Scores]:
        form = self.viewer.form(self.viewer.named(artifact))
        return score(images, form, self.config.max_pixels)

    def written(self, scores: Scores) -> str:
        """The CSV file of ``scores``."""
        folder = self.uploads / "csv" / secrets.token_hex(8)
        folder.mkdir(parents=True)
        path = folder / "answers.csv"
        path.write_text(scores.csv(), encoding="utf-8")
        return str(path)


def batch_page(scores: Scores) -> str:
    """Figures, confusion and the most frequent mistakes."""
    parts = [_tiles(scores)]
    problems = len(scores.rows) - len(scores.answered)
    if problems:
        parts.append(
            notice(
                f"{problems} of {len(scores.rows)} files got no answer; the table says why.",
                "warn",
            )
        )
    if not scores.labelled:
        message = (
            "No labels: put images into folders that are called like classes (cat/001.jpg) and "
            "accuracy and confusion appear here."
        )
        return "".join([*parts, notice(message)])
    parts.append(confusion_picture(scores))
    mistakes = scores.mistakes()[:_MOST_PAIRS]
    if mistakes:
        rows = [
            (cell(label), cell(prediction), cell(str(count)))
            for label, prediction, count in mistakes
        ]
        heads = ("label", "called", "images")
        parts.append(table(heads, rows, "Most frequent mistakes", "md-names"))
    return "".join(parts)


def _tiles(scores: Scores) -> str:
    answered = len(scores.answered)
    items = [("images answered", str(answered))]
    for k in (1, 5):
        accuracy = scores.top(k)
        if accuracy is not None and len(scores.labels) > k:
            items.append((f"top-{k} of {len(scores.labelled)} labelled", f"{accuracy:.2f} %"))
    if answered and scores.seconds:
        items.append(("compute an image", f"{1000 * scores.seconds / answered:.3g} ms"))
    return tiles(items)


def as_json(scores: Scores) -> dict[str, Any]:
    """What the API answers beside the CSV file."""
    return {
        "images": len(scores.rows),
        "answered": len(scores.answered),
        "labelled": len(scores.labelled),
        "top1": scores.top(1),
        "top5": scores.top(5) if tells_top5(len(scores.labels)) else None,
    }
