"""Rounds are begun while the hours last, by a clock of the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mldr_deploy.bundle.atomic import write_json
from mldr_deploy.bundle.progress import Progress, Silent
from mldr_deploy.bundle.sealed import write_sealed
from mldr_deploy.choose import contest as contest_module
from mldr_deploy.choose.budget import Budget
from mldr_deploy.choose.choice_plan import ChoicePlan, Entrant
from mldr_deploy.choose.contest import Contest
from mldr_deploy.choose.halving import HalvingRound
from mldr_deploy.choose.hours_left import HoursLeft
from mldr_deploy.choose.proof import proven_files
from mldr_deploy.choose.request import ChoiceRequest, base_recipe
from mldr_deploy.choose.untrained import UntrainedLatency
from mldr_deploy.choose.verdict import verdict
from mldr_deploy.compare.recent_data import RecentData
from mldr_deploy.compare.units import Unit
from mldr_deploy.compare.workers import Failures, note_failure
from mldr_deploy.errors import MldrError
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.pipeline.recipe import load_recipe

NAMES = ("a", "b", "c", "d")
ROUNDS = [HalvingRound(contenders=4, epochs=2), HalvingRound(contenders=2, epochs=6)]


@dataclass
class Machine:
    """Trains in the place of one: an epoch takes so many seconds of its own clock."""

    seconds_per_epoch: float
    now: float = 0.0
    runs: int = 0

    def clock(self) -> float:
        return self.now

    def train(
        self, units: Sequence[Unit], *, device: str, data: RecentData, progress: Progress
    ) -> None:
        for unit in units:
            if unit.finished:
                continue
            epochs = 10 if unit.name == "teacher" else unit.recipe.train.epochs
            seconds = self.seconds_per_epoch * epochs
            self.now += seconds
            self.runs += 1
            unit.folder.mkdir(parents=True)
            outcome = {"val_top1": float(ord(unit.name[0])), "train_seconds": seconds}
            write_sealed(unit.folder / unit.file, outcome)


def contest(out: Path, machine: Machine, hours: float = 1.0) -> Contest:
    """Four students of 100 planned seconds an epoch: 1000 s, then 800 s, then 1200 s at least."""
    request = ChoiceRequest(budget=Budget(max_ms=5), hours=hours)
    entrants = [
        Entrant(
            name=name,
            folder=name,
            model=ModelConfig(name=name),
            image_size=32,
            family="cnn",
            parameters=1,
            published_size=32,
            operations=1,
            latencies={"fp32": UntrainedLatency(rounds=[1.0], bytes=1)},
            excess={},
            seconds_per_epoch=100.0,
        )
        for name in NAMES
    ]
    plan = ChoicePlan(
        request=request,
        recipe="",
        machine={},
        entrants=entrants,
        outside=[],
        misfits={},
        fixed_seconds=1000.0,
        rounds=ROUNDS,
    )
    base = base_recipe(load_recipe("digits", ["train.epochs=40"]), request)
    opened = Contest(plan, base, out, RecentData(), machine.train)
    opened.hours = HoursLeft(out, hours, machine.clock)
    return opened


@pytest.mark.parametrize(
    ("seconds", "epochs"),
    [
        (100.0, 9),  # 1000 s and 800 s are spent of 3600, and two students take 200 an epoch
        (150.0, 3),  # 1500 s and 1200 s are spent: 900 s for 300 an epoch
        (50.0, 27),  # 900 s are spent of 3600: 2700 s for 100 an epoch
        (20.0, 40),  # more than the recipe's epochs it is not
    ],
)
def test_the_last_round_takes_the_time_that_is_left(
    seconds: float, epochs: int, tmp_path: Path
) -> None:
    opened = contest(tmp_path, Machine(seconds))
    scores = opened.rounds("cpu", Silent())
    assert [[score.name for score in standing] for standing in scores] == [
        ["d", "c", "b", "a"],
        ["d", "c"],
    ]
    assert opened.hours.rounds == [ROUNDS[0], HalvingRound(contenders=2, epochs=epochs)]
    assert opened.hours.omission() is None


def test_where_too_little_is_left_the_finished_round_decides(tmp_path: Path) -> None:
    """1600 s and 1280 s are spent of 3600: 720 s for 2 x 160 an epoch, less than 3 of them."""
    opened = contest(tmp_path, Machine(160.0))
    scores = opened.rounds("cpu", Silent())
    assert len(scores) == len(opened.hours.rounds) == 1
    assert opened.hours.omission() == (
        "round 2 was left out, so round 1 decides: 0.8 hours of --hours 1 were spent, and what is "
        "left is too short to train the better ones longer than round 1 did"
    )


def test_side_by_side_it_is_half_the_time(tmp_path: Path) -> None:
    opened = contest(tmp_path, Machine(100.0))
    opened.plan = opened.plan.model_copy(update={"jobs": 2})
    opened.rounds("cpu", Silent())
    assert opened.hours.rounds[1].epochs == 18


def test_what_was_decided_stays_decided(tmp_path: Path) -> None:
    slow = contest(tmp_path, Machine(160.0))
    slow.rounds("cpu", Silent())
    fast = Machine(1.0)  # the same command again, on a quiet machine and with a new clock
    again = contest(tmp_path, fast)
    assert len(again.rounds("cpu", Silent())) == 1 and fast.runs == 0
    assert again.hours.omission() == slow.hours.omission()


def test_seconds_of_an_earlier_process_count(tmp_path: Path) -> None:
    """Killed when the first round began, with the teacher's 1500 s spent; then 1200 s more."""
    machine = Machine(150.0)
    killed = contest(tmp_path, machine)
    machine.train([killed.teacher], device="cpu", data=RecentData(), progress=Silent())
    assert killed.hours.start(0, lambda seconds: ROUNDS[0]) == ROUNDS[0]
    resumed = contest(tmp_path, Machine(150.0, now=5e6))  # a clock that stood elsewhere
    resumed.rounds("cpu", Silent())
    assert resumed.hours.rounds[1].epochs == 3  # of the 900 s that are left, not of 2400


def test_the_first_round_is_always_carried_out(tmp_path: Path) -> None:
    opened = contest(tmp_path, Machine(1000.0), hours=0.1)
    assert len(opened.rounds("cpu", Silent())) == 1


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    (tmp_path / "hours.json").write_text('[{"spent": "long"}]')
    with pytest.raises(MldrError, match=r"hours\.json is damaged: delete it"):
        HoursLeft(tmp_path, 1.0)


@dataclass
class Failing(Machine):
    """Some students fail in round 1."""

    names: tuple[str, ...] = ()

    def train(
        self, units: Sequence[Unit], *, device: str, data: RecentData, progress: Progress
    ) -> None:
        lost = [unit for unit in units if unit.name in {f"{name}, round 1" for name in self.names}]
        rest = [unit for unit in units if unit not in lost]
        super().train(rest, device=device, data=data, progress=progress)
        for unit in lost:
            unit.folder.mkdir(parents=True)
            note_failure(unit, "no memory", Silent())
        if lost:
            raise Failures("some failed")


def test_a_student_that_fails_does_not_end_the_rounds(tmp_path: Path) -> None:
    """Of three that were left two go on to the last round; before, one round decided."""
    opened = contest(tmp_path, Failing(10.0, names=("a", "b")))
    scores = opened.rounds("cpu", Silent())
    assert [[score.name for score in standing] for standing in scores] == [["d", "c"], ["d", "c"]]
    assert opened.failed == {"a, round 1": "no memory", "b, round 1": "no memory"}


def test_who_fits_in_int8_alone_is_proven_before_the_last_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last round takes most of the hours, and a file that fails its gate cannot be chosen."""
    opened, proven = contest(tmp_path, Machine(10.0)), []
    files = {"fp32": UntrainedLatency(rounds=[9.0], bytes=1)}
    files["int8"] = UntrainedLatency(rounds=[1.0], bytes=1)
    only = {"latencies": files, "excess": {"fp32": "9 ms, over 5 ms"}}
    entrants = [
        entrant if entrant.name == "b" else entrant.model_copy(update=only)
        for entrant in opened.plan.entrants
    ]
    opened.plan = opened.plan.model_copy(update={"entrants": entrants})

    def prove(units: Sequence[Unit], **_: object) -> None:
        for unit in units:
            proven.append(unit.name)
            objection = "failed its gate" if unit.name.endswith(" d") else None
            file = {"file": "int8.onnx", "test_top1": 1.0, "bytes": 1, "objection": objection}
            latency = files["int8"].model_dump()
            write_sealed(unit.folder / unit.file, {"int8": {**file, "latency": latency}})

    monkeypatch.setattr(contest_module, "work", prove)
    scores = opened.rounds("cpu", Silent())
    assert [score.name for score in scores[1]] == ["c", "b"]
    assert proven == ["proof of d", "proof of c"]
    assert [*opened.prove(scores, "cpu", Silent())] == ["c", "b"]


def test_where_no_finalist_may_be_shipped_the_others_are_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = contest(tmp_path, Machine(10.0))

    def prove(units: Sequence[Unit], **_: object) -> None:
        for unit in units:
            objection = None if unit.name.endswith((" a", " b")) else "failed its gate"
            file = {"file": "fp32.onnx", "test_top1": 1.0, "bytes": 1, "objection": objection}
            latency = {"rounds": [1.0], "bytes": 1}
            write_sealed(unit.folder / unit.file, {"fp32": {**file, "latency": latency}})

    monkeypatch.setattr(contest_module, "work", prove)
    scores = opened.rounds("cpu", Silent())
    proofs = opened.prove(scores, "cpu", Silent())
    assert [*proofs] == ["d", "c", "b"]
    files = {name: proven_files(unit) for name, unit in proofs.items()}
    chosen = verdict(opened.plan, opened.hours.rounds, scores, files, opened.failed)
    assert (chosen.winner, chosen.precision) == ("b", "fp32")
    (warning,) = chosen.warnings
    assert warning.startswith("b trained for 2 epochs only, in round 1: none of those that went")
    assert "d: fp32: failed its gate; c: fp32: failed its gate" in warning


def test_what_comes_before_the_steps_is_no_part_of_an_epoch(tmp_path: Path) -> None:
    """1000 s and 4 x 300 s are spent; two students take 100 s each, and then 200 s an epoch."""
    machine = Machine(100.0)
    opened = contest(tmp_path, machine)

    def prepared(units: Sequence[Unit], **how: Any) -> None:
        machine.train(units, **how)
        for unit in units:
            if unit.name != "teacher":
                machine.now += 100.0
                write_json(unit.folder / "times.json", {"student": 100.0 + _steps(unit)})

    opened._train = prepared
    opened.rounds("cpu", Silent())
    assert opened.hours.rounds[1].epochs == 6


def _steps(unit: Unit) -> float:
    return float(unit.outcome["train_seconds"])
