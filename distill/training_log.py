"""The log of a run: metrics.jsonl, trackers, and a picture of the curves."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..bundle.atomic import write_bytes, writing
from ..bundle.lesson import FIRST_LOSS, LAST_LOSS
from ..errors import MldrError
from .trackers import RunTrackers

# Columns of metrics.jsonl that are no parts of the loss.
_OTHER_COLUMNS = {"step", "epoch", "lr", "images_per_second"}
_OTHER_COLUMNS |= {"loss", "val_top1", "val_top5", "val_loss"}


class LossMeter:
    """Collects the named losses of steps on their device and fetches them together.

    One transfer a window is the only time that training waits for the device. ``reduce`` makes
    of one process's rows [steps, parts] their mean over all processes.
    """

    def __init__(self, reduce: Callable[[Tensor], Tensor] = lambda rows: rows) -> None:
        self._reduce = reduce
        self._names: tuple[str, ...] = ()
        self._rows: list[Tensor] = []
        self._images = 0
        self._began = time.perf_counter()

    def add(self, losses: Mapping[str, Tensor], images: int) -> None:
        """One step's losses (scalars)."""
        self._names = tuple(losses)
        self._rows.append(torch.stack([value.detach() for value in losses.values()]))
        self._images += images

    def flush(self, step: int) -> dict[str, float]:
        """Means since the last flush, ``loss`` (their sum) and ``images_per_second``; {} if none.

        ``step`` is the number of steps done. All processes call it together. Raises MldrError, in
        all of them, naming the step and the parts, when a loss was not finite in any.
        """
        if not self._rows:
            return {}
        rows = self._reduce(torch.stack(self._rows)).double().cpu()  # [steps, parts]
        broken = (~rows.isfinite().all(dim=1)).nonzero()
        if len(broken):
            first = int(broken[0])
            parts = zip(self._names, rows[first].tolist(), strict=True)
            listed = ", ".join(f"{name} {value:.4g}" for name, value in parts)
            raise MldrError(
                f"loss is not finite at step {step - len(rows) + first + 1} ({listed}); the last "
                "good checkpoint is kept: lower optimizer.lr, or set train.clip_norm or "
                "train.precision=fp32"
            )
        means = dict(zip(self._names, rows.mean(dim=0).tolist(), strict=True))
        seconds = time.perf_counter() - self._began
        summary = {"loss": sum(means.values()), "images_per_second": self._images / seconds}
        self.restart()
        return {**summary, **means}

    def latest(self) -> dict[str, float]:
        """This process's losses of the last step, and ``loss``, their sum."""
        losses = dict(zip(self._names, self._rows[-1].tolist(), strict=True))
        return {"loss": sum(losses.values()), **losses}

    def restart(self) -> None:
        """Forget what was added, and measure speed from now (after an evaluation, say)."""
        self._rows, self._images, self._began = [], 0, time.perf_counter()


class MetricsLog:
    """Appends to metrics.jsonl, and to trackers where there are any."""

    def __init__(
        self, folder: Path, *, bytes_kept: int = 0, trackers: RunTrackers | None = None
    ) -> None:
        """Keep the first ``bytes_kept`` bytes: what came after the checkpoint happens again."""
        self._path = folder / "metrics.jsonl"
        with writing(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab")
            self._file.truncate(min(bytes_kept, self._file.tell()))
        self._trackers = trackers

    def write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """One line: step, epoch and the values."""
        line = {"step": step, "epoch": round(epoch, 4), **values}
        with writing(self._path):
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
        if self._trackers is not None:
            self._trackers.log(step, values)

    def sync(self) -> int:
        """Make what was written durable; the file's length in bytes."""
        with writing(self._path):
            os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Close the file and the trackers."""
        with writing(self._path):
            self._file.close()
        if self._trackers is not None:
            self._trackers.close()


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of a run's metrics.jsonl, damaged ones left out."""
    lines = []
    for text in (folder / "metrics.jsonl").read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict) and "epoch" in line]


def first_and_last_loss(lines: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The training loss of the first line and the mean of the last tenth; {} of a single line.

    That of the labels where the run has one: a method may raise its own weights as it goes.
    """
    losses = [line.get("labels", line["loss"]) for line in lines if "loss" in line]
    if len(losses) < 2:
        return {}
    last = losses[-max(1, len(losses) // 10) :]
    return {FIRST_LOSS: losses[0], LAST_LOSS: sum(last) / len(last)}


def draw_curves(folder: Path, title: str) -> Path:
    """Losses and validation accuracy over epochs, from metrics.jsonl to curves.png."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = read_metrics(folder)
    losses = [line for line in lines if "loss" in line]
    scores = [line for line in lines if "val_top1" in line]
    figure = Figure(figsize=(11, 5), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    parts = [name for name in losses[0] if name not in _OTHER_COLUMNS] if losses else []
    for name in ["loss", *parts] if len(parts) > 1 else ["loss"]:
        points = [(line["epoch"], line[name]) for line in losses if line.get(name, 0) > 0]
        if points:
            style = {"color": "black", "linewidth": 2} if name == "loss" else {"linewidth": 1}
            loss_axes.plot(*zip(*points, strict=True), label=name, **style)
    loss_axes.set(xlabel="epoch", ylabel="training loss (log scale)", yscale="log", title=title)
    if loss_axes.lines:
        loss_axes.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    for name, label in (("val_top1", "top-1"), ("val_top5", "top-5")):
        points = [(line["epoch"], line[name]) for line in scores if math.isfinite(line[name])]
        if name == "val_top5" and all(accuracy == 100 for _, accuracy in points):
            continue  # five classes or fewer: it says nothing
        if points:
            accuracy_axes.plot(*zip(*points, strict=True), marker=".", label=label)
    accuracy_axes.set(xlabel="epoch", ylabel="validation accuracy, %", title="validation split")
    accuracy_axes.grid(alpha=0.3)
    if accuracy_axes.lines:
        accuracy_axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110)
    write_bytes(folder / "curves.png", picture.getvalue())
    return folder / "curves.png"
