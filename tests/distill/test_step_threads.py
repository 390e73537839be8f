"""The number of threads of a step, by a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mldr_deploy.distill import step_threads as module
from mldr_deploy.distill.execution import Execution, ExecutionRecord
from mldr_deploy.distill.step_threads import StepThreads
from mldr_deploy.distill.training_config import TrainConfig
from mldr_deploy.errors import MldrError

CPU = torch.device("cpu")
FP32 = Execution(precision="fp32", teacher_precision="fp32")


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    """This process may take four threads, and has its own number again afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Load:
    """A clock that each piece of work turns on by what it takes with so many threads."""

    def __init__(self, *shared: int) -> None:
        self.now, self.rehearsals, self.shared, self.step = 0.0, 0, shared, 0

    def __call__(self) -> float:
        return self.now

    def work(self) -> None:
        """1 / threads seconds; 10 x threads from the step on at which others share the cores."""
        threads = torch.get_num_threads()
        shared = bool(self.shared) and self.step >= self.shared[0]
        self.now += 10.0 * threads if shared else 1.0 / threads

    def rehearse(self) -> None:
        self.rehearsals += 1
        self.work()


def numbers(
    load: Load, record: ExecutionRecord, steps: range, until: int | None = None, **config: int
) -> list[int]:
    """The threads of each of ``steps``, of a run of as many steps as ``until``."""
    threads = StepThreads(record, steps=until or steps.stop, clock=load, **config)
    taken = []
    with threads.run():
        for load.step in steps:
            with threads.step(load.step, load.rehearse):
                taken.append(torch.get_num_threads())
                load.work()
    assert torch.get_num_threads() == 4
    return taken


def opened(folder: Path, precision: str = "auto") -> ExecutionRecord:
    config = TrainConfig.model_validate({"precision": precision, "teacher_precision": "fp32"})
    return ExecutionRecord.open(folder, config, CPU)


@pytest.mark.parametrize(
    ("shared_from", "expected", "rehearsals"),
    [((), 4, 3 * (1 + module._TRIALS)), ((0,), 1, 2 * (1 + module._TRIALS) + 2)],
    ids=["alone", "shared"],
)
def test_the_quickest_of_one_half_and_all_is_taken(
    tmp_path: Path, shared_from: tuple[int, ...], expected: int, rehearsals: int
) -> None:
    """One that takes over three times the best, four threads here, is soon given up."""
    load = Load(*shared_from)
    assert numbers(load, opened(tmp_path), range(0, 600)) == [expected] * 600
    assert load.rehearsals == rehearsals


def test_a_short_run_measures_nothing(tmp_path: Path) -> None:
    load = Load()
    assert numbers(load, opened(tmp_path), range(0, 499)) == [4] * 499
    assert load.rehearsals == 0


def test_slow_steps_are_measured_again_and_a_resumed_run_repeats_the_change(tmp_path: Path) -> None:
    """Others come at step 300: that one is slow, the next has the new number."""
    taken = numbers(Load(300), opened(tmp_path), range(0, 600))
    assert taken == [4] * 301 + [1] * 299
    assert opened(tmp_path).chosen.threads == {0: 4, 301: 1}
    quiet = Load()  # the load is gone: nothing is measured, and the same is done
    assert numbers(quiet, opened(tmp_path), range(250, 600)) == taken[250:]
    assert quiet.rehearsals == 0


def test_a_single_slow_step_costs_a_measurement_and_changes_nothing(tmp_path: Path) -> None:
    load, record = Load(), opened(tmp_path)
    threads = StepThreads(record, steps=600, clock=load)
    for step in range(600):
        with threads.step(step, load.rehearse):
            load.now += 9.0 if step in (300, 310, 350, 450) else 0.25
    assert record.chosen.threads == {0: 4}
    assert load.rehearsals == 3 * 3 * (1 + module._TRIALS)  # start, 301, 451; 310 and 350 are early


def test_the_recipe_s_number_overrules_at_once_and_on_resume(tmp_path: Path) -> None:
    load = Load()
    assert numbers(load, opened(tmp_path), range(0, 600), configured=3) == [3] * 600
    assert numbers(load, opened(tmp_path), range(400, 600)) == [3] * 200
    assert numbers(load, opened(tmp_path), range(500, 600), configured=2) == [2] * 100
    assert load.rehearsals == 0


def test_a_checkpoint_older_than_the_record_is_not_measured(tmp_path: Path) -> None:
    load = Load()
    assert numbers(load, opened(tmp_path), range(200, 600)) == [4] * 400
    assert load.rehearsals == 0


@pytest.mark.parametrize("native", [True, False])
def test_auto_stays_what_it_was_when_the_run_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    """On resume on another machine too; what the recipe says by name is never overruled."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": native})
    chosen = opened(tmp_path).chosen
    assert chosen.precision == ("bf16" if native else "fp32")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": not native})
    assert opened(tmp_path).chosen == chosen
    assert opened(tmp_path, "fp32").chosen.precision == "fp32"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"precision": "fp8"}'])
def test_a_damaged_record_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "execution.json").write_text(content, encoding="utf-8")
    with pytest.raises(MldrError, match=r"execution.json is damaged .*: delete it"):
        opened(tmp_path)


def weights(trainer: Any) -> list[torch.Tensor]:
    trainer.run()
    return [tensor.clone() for tensor in trainer.task.state_dict().values()]


def test_measuring_leaves_no_trace_in_the_weights(
    rig: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm's buffers, dropout and the loss of a run that measured twice, to the bit."""
    monkeypatch.setattr(module, "_WORTH", 1)
    monkeypatch.setattr(module, "_ENOUGH", 1)
    monkeypatch.setattr(module, "_PAUSE", 1)
    torch.set_num_threads(1)
    train = TrainConfig(epochs=2, precision="fp32")
    build = replace(rig, student="resnet10t", drop_path=0.1, train=train).build
    plain = weights(build())
    ticks = iter(t**3 for t in range(10_000))  # every step takes longer than the ones before

    def rehearsed(self: StepThreads, rehearse: Callable[[], None]) -> int:
        rehearsals.append(rehearse())
        return 1

    rehearsals: list[None] = []
    monkeypatch.setattr(StepThreads, "_measured", rehearsed)
    trainer = replace(
        rig, folder=tmp_path / "measured", student="resnet10t", drop_path=0.1, train=train
    ).build()
    trainer.threads = StepThreads(
        ExecutionRecord(tmp_path, FP32), steps=10, clock=lambda: float(next(ticks))
    )
    measured = weights(trainer)
    assert len(rehearsals) > 1
    assert all(torch.equal(a, b) for a, b in zip(plain, measured, strict=True))
