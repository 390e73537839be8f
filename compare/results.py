"""The results of a comparison so far: every figure, and the runs that it rests on."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..bundle.progress import Progress
from ..data.data_config import DataConfig
from ..pipeline.provenance import commit
from ..pipeline.summary import machine
from .matrix import Matrix
from .outcomes import Outcome, read_predictions
from .paired import Hits, PairedTest, compare
from .recent_data import RecentData
from .units import StudentUnit, TuningUnit, Unit, best_settings, require_same_pictures

SCHEMA = 2  # 2: `tuning` holds every choice tried


@dataclass(frozen=True)
class Score:
    """One method on one pair over the seeds that are finished."""

    method: str
    top1: tuple[float, ...]  # per cent of test, a seed each
    seeds: tuple[int, ...]
    train_seconds: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of top-1, per cent."""
        return self.mean_over(self.seeds)

    def mean_over(self, seeds: Sequence[int]) -> float:
        """Of top-1 with ``seeds``, per cent; the score has each of them."""
        by_seed = dict(zip(self.seeds, self.top1, strict=True))
        return mean(by_seed[seed] for seed in seeds)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds (n - 1); None of one seed."""
        return stdev(self.top1) if len(self.top1) > 1 else None


@dataclass(frozen=True)
class PairResult:
    """One line of the table."""

    pair: str
    teacher: str | None  # model name
    teacher_top1: float | None
    teacher_parameters: int | None
    student: str
    family: str
    parameters: int
    scores: tuple[Score, ...]
    common_seeds: tuple[int, ...]  # those of all its scores: what methods are compared over
    complete: bool  # whether these are all seeds of the comparison
    best_other: str | None  # the method nearest to, or above, the focus
    against: PairedTest | None  # the focus against it
    milliseconds: float | None = None  # an image at batch 1, ONNX Runtime CPU
    machine: str | None = None  # that measured them

    def score(self, method: str) -> Score | None:
        """The method's score, if any of its runs is finished."""
        return next((score for score in self.scores if score.method == method), None)

    @property
    def best(self) -> Sequence[str]:
        """The methods with the highest mean over the common seeds; none where there are none."""
        return _best(self.scores, self.common_seeds)

    @property
    def significant(self) -> bool:
        """Whether the focus differs from the best other, by every seed of the comparison."""
        return self.complete and self.against is not None and self.against.significant


@dataclass(frozen=True)
class TuningScore:
    """One choice of a method's settings, tried on one pair."""

    pair: str
    method: str
    choice: int
    sections: dict[str, Any]  # of a recipe; {} is the default
    val_top1: float  # per cent of the validation split
    taken: bool


@dataclass(frozen=True)
class Results:
    """Everything that results.json holds."""

    matrix: Matrix
    pairs: tuple[PairResult, ...]
    trials: tuple[TuningScore, ...]  # how settings were chosen
    missing: tuple[str, ...]  # runs that are not finished
    failed: dict[str, str]  # run or export -> why
    test_images: int

    def as_json(self) -> dict[str, Any]:
        """Plain values, with versions and machine."""
        pairs = []
        for pair in self.pairs:
            table = asdict(pair)
            for score, plain in zip(pair.scores, table["scores"], strict=True):
                plain |= {"mean": score.mean, "standard_deviation": score.deviation}
            if pair.against is not None:
                table["against"] = {
                    "gain": pair.against.gain,
                    "mcnemar_p": pair.against.mcnemar_p,
                    "t_test_p": pair.against.t_test_p,
                    "significant": pair.significant,
                }
            pairs.append(table)
        return {
            "schema": SCHEMA,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "commit": commit(),
            "versions": {"mldr-deploy": __version__}
            | {name: version(name) for name in ("torch", "timm")},
            "test_images": self.test_images,
            "matrix": self.matrix.model_dump(mode="json"),
            "tuning": [asdict(trial) for trial in self.trials],
            "pairs": pairs,
            "missing": list(self.missing),
            "failed": self.failed,
        }


def collect(
    matrix: Matrix,
    teachers: dict[str, Unit],
    runs: Sequence[StudentUnit],
    trials: Sequence[TuningUnit],
    failed: dict[str, str],
    *,
    exports: Sequence[StudentUnit],
    data: RecentData,
    progress: Progress,
) -> Results:
    """The results of the ``runs`` and of the tuning ``trials`` that are finished.

    ``exports`` are those that passed. Raises MldrError where they are of other pictures than there
    are now.
    """
    finished = [run for run in runs if run.finished]
    latencies = {unit.pair: unit.outcome for unit in exports}
    used = [unit for unit in (*teachers.values(), *trials, *finished, *exports) if unit.finished]
    truth: dict[DataConfig, NDArray[np.int64]] = {}
    for config in dict.fromkeys(run.recipe.data for run in finished):
        dataset = data.load(config, progress=progress)
        require_same_pictures([unit for unit in used if unit.recipe.data == config], dataset)
        truth[config] = dataset.test.labels
    pairs = []
    for pair in matrix.pairs:
        pair_runs = [run for run in finished if run.pair == pair]
        if pair_runs:
            labels = truth[pair_runs[0].recipe.data]
            hits = {
                (r.method, r.seed): read_predictions(r.folder, r.outcome)[:, 0] == labels
                for r in pair_runs
            }
            pairs.append(_pair(matrix, pair, pair_runs, hits, teachers, latencies.get(pair, {})))
    return Results(
        matrix=matrix,
        pairs=tuple(pairs),
        trials=_tuning_scores(matrix, [trial for trial in trials if trial.finished]),
        missing=tuple(run.name for run in runs if not run.finished),
        failed=failed,
        test_images=max((len(labels) for labels in truth.values()), default=0),
    )


def _tuning_scores(matrix: Matrix, runs: list[TuningUnit]) -> tuple[TuningScore, ...]:
    if matrix.tuning is None:
        return ()
    best, choices = best_settings(runs), matrix.tuning.choices
    return tuple(
        TuningScore(
            pair=run.pair,
            method=run.method,
            choice=run.choice,
            sections=choices[run.method][run.choice],
            val_top1=run.outcome["val_top1"],
            taken=best[run.pair][run.method] == run.choice,
        )
        for run in runs
    )


def _pair(
    matrix: Matrix,
    pair: str,
    runs: Sequence[StudentUnit],
    hits: dict[tuple[str, int], Hits],
    teachers: dict[str, Unit],
    latency: Outcome,
) -> PairResult:
    scores = tuple(s for method in matrix.methods if (s := _score(method, runs)) is not None)
    common_seeds = tuple(s for s in matrix.seeds if all(s in score.seeds for score in scores))
    rival, against = _against_best(matrix, scores, common_seeds, hits)
    first = runs[0].outcome
    teacher_name = matrix.pairs[pair].get("teacher")
    run = teachers.get(teacher_name) if teacher_name else None
    teacher = run.outcome if run is not None and run.finished else {}
    return PairResult(
        pair=pair,
        teacher=matrix.teachers[teacher_name]["name"] if teacher_name else None,
        teacher_top1=teacher.get("test_top1"),
        teacher_parameters=teacher.get("parameters"),
        student=first["model"]["name"],
        family=first["family"],
        parameters=first["parameters"],
        scores=scores,
        common_seeds=common_seeds,
        complete=common_seeds == matrix.seeds,
        best_other=rival,
        against=against,
        milliseconds=latency.get("milliseconds_batch_1"),
        machine=latency.get("machine"),
    )


def _score(method: str, runs: Sequence[StudentUnit]) -> Score | None:
    method_runs = [run for run in runs if run.method == method]
    if not method_runs:
        return None
    return Score(
        method=method,
        top1=tuple(run.outcome["test_top1"] for run in method_runs),
        seeds=tuple(run.seed for run in method_runs),
        train_seconds=tuple(run.outcome["train_seconds"] for run in method_runs),
    )


def _best(scores: Sequence[Score], seeds: Sequence[int]) -> list[str]:
    """The methods with the highest mean over ``seeds``, which all have."""
    if not seeds:
        return []
    means = {score.method: score.mean_over(seeds) for score in scores}
    highest = max(means.values(), default=0.0)
    return [method for method, top1 in means.items() if top1 == highest]


def _against_best(
    matrix: Matrix,
    scores: Sequence[Score],
    seeds: Sequence[int],
    hits: dict[tuple[str, int], Hits],
) -> tuple[str | None, PairedTest | None]:
    """The best method but the focus, by mean over ``seeds``, and the focus against it.

    That it is chosen on test makes the gain, if anything, smaller.
    """
    focus, rivals = matrix.focus, [score for score in scores if score.method != matrix.focus]
    best = _best(rivals, seeds)
    if len(rivals) == len(scores) or not best:
        return None, None
    own, other = ([hits[method, seed] for seed in seeds] for method in (focus, best[0]))
    return best[0], compare(own, other)
