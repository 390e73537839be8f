"""Trackers, read back by their own clients."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mldr_deploy.distill import trackers
from mldr_deploy.distill.trackers import RunTrackers, require_trackers
from mldr_deploy.distill.training_log import MetricsLog, read_metrics
from mldr_deploy.errors import Unavailable
from mldr_deploy.pipeline.phases import identifying
from mldr_deploy.pipeline.recipe import load_recipe


def logged(folder: Path, names: Any, steps: range, **options: Any) -> None:
    log = MetricsLog(folder, trackers=RunTrackers(names, folder, **options))
    for number in steps:
        log.write(number, 1.0, {"loss": 1 / number})
    log.close()


def test_tensorboard_reads_what_was_logged_and_not_what_happens_again(tmp_path: Path) -> None:
    logged(tmp_path, ("tensorboard",), range(1, 6))
    logged(tmp_path, ("tensorboard",), range(4, 5), step=3)  # 3 is the checkpoint's own
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("loss")] == [1, 2, 3, 4]


def test_mlflow_s_own_client_reads_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'store.db'}")
    folder = tmp_path / "photos" / "student"
    settings = {"epochs": 3, "optimizer.lr": 0.1}
    notes: list[str] = []
    options: dict[str, Any] = {"settings": settings, "note": notes.append}
    logged(folder, ("mlflow",), range(1, 4), **options)
    logged(folder, ("mlflow",), range(4, 6), step=3, **options)
    assert notes == []
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("photos")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("student", "FINISHED")
    assert run.data.params == {"epochs": "3", "optimizer.lr": "0.1"}
    points = [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, "loss")]
    assert points == [(k, pytest.approx(1 / k)) for k in range(1, 6)]


def test_a_missing_package_is_named_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"train.trackers names wandb.*pip install wandb"):
        require_trackers(("tensorboard", "wandb"))


def test_a_tracker_that_fails_is_left_out_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished: list[str] = []

    class Failing:
        tracker = type("Run", (), {"id": "7"})

        def store_init_configuration(self, settings: Any) -> None: ...

        def log(self, values: Any, step: int) -> None:
            if step == 2:
                raise ConnectionError("no server")

        def finish(self) -> None:
            finished.append("wandb")

    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    monkeypatch.setattr(trackers, "_created", lambda *_: Failing())
    notes: list[str] = []
    logged(tmp_path, ("wandb",), range(1, 5), note=notes.append)
    assert notes == ["wandb is left out from here: no server"]
    assert finished == ["wandb"]
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4]


def test_trackers_have_no_say_in_what_is_trained() -> None:
    plain = identifying(load_recipe("digits"), "student")
    tracked = load_recipe("digits", ['train.trackers=["mlflow", "wandb"]'])
    assert identifying(tracked, "student") == plain
