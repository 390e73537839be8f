"""What a run tells: means over a window, the step of a broken loss, a log cut at a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from mldr_deploy.distill.training_log import LossMeter, MetricsLog, draw_curves, read_metrics
from mldr_deploy.errors import MldrError


def add(meter: LossMeter, *rows: tuple[float, float]) -> None:
    for labels, kd in rows:
        meter.add({"labels": torch.tensor(labels), "kd": torch.tensor(kd)}, images=8)


def test_means_since_the_last_flush_and_their_sum() -> None:
    meter = LossMeter()
    add(meter, (9.0, 9.0))
    meter.flush(1)
    add(meter, (1.0, 10.0), (2.0, 30.0))
    means = meter.flush(3)
    assert means.pop("images_per_second") > 0
    assert means == {"loss": 21.5, "labels": 1.5, "kd": 20.0}
    assert meter.flush(3) == {}


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_its_first_step_and_all_parts(broken: float) -> None:
    meter = LossMeter()
    add(meter, (1.0, 2.0), (1.5, broken), (broken, broken), (1.0, 2.0))
    with pytest.raises(MldrError) as caught:
        meter.flush(40)
    assert f"not finite at step 38 (labels 1.5, kd {broken})" in str(caught.value)
    assert "lower optimizer.lr" in str(caught.value)


def test_every_step_is_averaged_over_the_processes_and_breaks_in_all_of_them() -> None:
    """Another process saw losses of 5 and 7, then of 1 and NaN."""
    others = iter([torch.tensor([[5.0, 7.0]]), torch.tensor([[1.0, float("nan")]])])
    meter = LossMeter(reduce=lambda rows: (rows + next(others)) / 2)
    add(meter, (1.0, 3.0))
    means = meter.flush(1)
    assert (means["labels"], means["kd"], means["loss"]) == (3.0, 5.0, 8.0)
    add(meter, (1.0, 3.0))
    with pytest.raises(MldrError, match=r"not finite at step 2 \(labels 1, kd nan\)"):
        meter.flush(2)


def write(folder: Path, steps: range, **options: int) -> int:
    log = MetricsLog(folder, **options)
    for step in steps:
        log.write(step, step / 4, {"loss": 1 / step, "labels": 1 / step})
    log.write(steps[-1], steps[-1] / 4, {"val_top1": 50.0, "val_top5": 90.0, "val_loss": 1.0})
    length = log.sync()
    log.close()
    return length


def test_log_goes_on_from_the_checkpoint_s_length(tmp_path: Path) -> None:
    kept = write(tmp_path, range(1, 4))
    write(tmp_path, range(4, 7), bytes_kept=kept)
    again = write(tmp_path, range(4, 6), bytes_kept=kept)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 3, 4, 5, 5]
    assert again == (tmp_path / "metrics.jsonl").stat().st_size
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert first == {"step": 1, "epoch": 0.25, "loss": 1.0, "labels": 1.0}


def test_a_new_run_drops_an_old_one_s_lines(tmp_path: Path) -> None:
    write(tmp_path, range(1, 9))
    write(tmp_path, range(1, 3))
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 2]


def test_curves_are_a_picture(tmp_path: Path) -> None:
    write(tmp_path, range(1, 9))
    with Image.open(draw_curves(tmp_path, "test_vit")) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(2**24) or []) > 10
