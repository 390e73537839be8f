"""A comparison as a Markdown table, in the shape that papers use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..pipeline.workspace import flat
from .paired import ALPHA
from .results import PairResult, Results, Score, TuningScore


def markdown(results: Results) -> str:
    """A line a pair: teacher, every method, and the focus's gain over the best other."""
    matrix = results.matrix
    heads = ["teacher -> student", "teacher", *matrix.methods, f"{matrix.focus} over best other"]
    lines = [_line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
    lines += [_line(_cells(pair, results)) for pair in results.pairs]
    seeds = ", ".join(map(str, matrix.seeds))
    notes = [
        f"Test top-1, per cent of {results.test_images} images; mean ± sample standard deviation "
        f"over seeds {seeds}. Best student method of a line in bold.",
        f"`*`: McNemar's exact test on the same test images gives p < {ALPHA} with every seed, all "
        "in the same direction (and, of three seeds or more, so does a paired t-test over seeds).",
    ]
    if not all(pair.complete for pair in results.pairs):
        notes.append(
            "In a line where a method lacks seeds, bold and gain are over the seeds that all its "
            "methods have, and no gain is marked."
        )
    if results.missing:
        notes.append(f"Not finished: {'; '.join(results.missing)}.")
    notes += [f"Failed: {name}: {reason}" for name, reason in results.failed.items()]
    title = f"# {matrix.name}\n\n" + (f"{matrix.description}\n\n" if matrix.description else "")
    parts = ["\n".join(lines), *notes]
    if results.trials:
        parts += ["## Settings", _SETTINGS, "\n".join(_settings(results.trials))]
    return title + "\n\n".join(parts) + "\n"


_SETTINGS = (
    "The same number of choices for every tuned method, each trained once with a seed of its own; "
    "the best by validation top-1, in bold, is what the table above was trained with."
)


def _settings(trials: Sequence[TuningScore]) -> list[str]:
    """A line a pair and method, a cell a choice."""
    by_line: dict[tuple[str, str], list[TuningScore]] = {}
    for trial in trials:
        by_line.setdefault((trial.pair, trial.method), []).append(trial)
    width = max(trial.choice for trial in trials) + 1
    lines = [_line(["tuned on", "method", *[f"choice {n}" for n in range(width)]])]
    lines.append(_line(["---", "---", *["---:"] * width]))
    for (pair, method), method_trials in by_line.items():
        cells = ["-"] * width
        for trial in method_trials:
            top1 = f"{trial.val_top1:.2f}"
            setting = _setting(trial.sections)
            cells[trial.choice] = f"{setting}: **{top1}**" if trial.taken else f"{setting}: {top1}"
        lines.append(_line([pair, method, *cells]))
    return lines


def _setting(sections: dict[str, Any]) -> str:
    """Sections of a recipe in a few words: the last part of each key."""
    keys = flat(sections)
    return (
        ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in keys.items()) or "default"
    )


def _cells(pair: PairResult, results: Results) -> list[str]:
    name = f"{pair.teacher} -> {pair.student}" if pair.teacher else pair.student
    cells = [name, "" if pair.teacher_top1 is None else f"{pair.teacher_top1:.2f}"]
    for method in results.matrix.methods:
        score = pair.score(method)
        bold = method in pair.best
        cells.append("-" if score is None else _score(score, len(results.matrix.seeds), bold=bold))
    return [*cells, _gain(pair)]


def _score(score: Score, seeds: int, *, bold: bool) -> str:
    cell = f"**{score.mean:.2f}**" if bold else f"{score.mean:.2f}"
    if score.deviation is not None:
        cell += f" ± {score.deviation:.2f}"
    return cell if len(score.seeds) == seeds else f"{cell} ({len(score.seeds)} of {seeds} seeds)"


def _gain(pair: PairResult) -> str:
    if pair.against is None:
        return "-"
    mark = " *" if pair.significant else ""
    return f"{pair.against.gain:+.2f} ({pair.best_other}){mark}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
