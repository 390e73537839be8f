"""The teacher asked once: same pixels, same logits, same training; and what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mldr_deploy.bundle.progress import Silent
from mldr_deploy.bundle.tensors import read_tensors
from mldr_deploy.bundle.trained import WEIGHTS
from mldr_deploy.data.data_config import AugmentConfig
from mldr_deploy.distill import execution, training_run
from mldr_deploy.distill.methods.method_registry import MethodConfig
from mldr_deploy.distill.network import preprocessing_of
from mldr_deploy.distill.phase import Phase, Training
from mldr_deploy.distill.task import FrozenTeacher
from mldr_deploy.distill.teacher_cache import RowShare, TeacherCache, cache_identity
from mldr_deploy.distill.training_config import OptimizerConfig, TrainConfig
from mldr_deploy.errors import MldrError
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.model_registry import create_model
from mldr_deploy.models.stages import plan_stages

WHOLE = RowShare(0, 1)
RANDOM = AugmentConfig(crop="pad", pad=4, mixup=0.8, cutmix=1.0, erase=0.25, randaugment=5)
TWICE = TrainConfig(
    epochs=4, precision="fp32", teacher_precision="fp32", log_steps=1, teacher_views=2
)


def rows_of(rig: Any, epochs: int) -> list[Tensor]:
    views = rig.build().views
    return [seen.images for epoch in range(epochs) for seen in views.epoch(epoch)]


def test_after_the_last_view_the_very_same_pixels_come_again(rig: Any) -> None:
    busy = replace(rig, train=TWICE, augment=RANDOM)
    seen = rows_of(busy, 4)
    assert len(seen) == 20
    for first, again in zip(seen[:10], seen[10:], strict=True):
        torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not any(torch.equal(a, b) for a, b in zip(seen[:5], seen[5:10], strict=True))


def test_an_interrupted_epoch_goes_on_with_the_same_pixels(rig: Any) -> None:
    views = replace(rig, train=TWICE, augment=RANDOM).build().views
    whole = [(seen.row, seen.images) for seen in views.epoch(3)]
    rest = [(seen.row, seen.images) for seen in views.epoch(3, start_step=3)]
    assert [row for row, _ in rest] == [8, 9] == [row for row, _ in whole[3:]]
    for (_, a), (_, b) in zip(whole[3:], rest, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def cache_for(rig: Any, folder: Path, calls: list[int] | None = None) -> TeacherCache:
    trainer = rig.build()
    shape = (2 * trainer.views.steps_per_epoch, 8, 4)
    cache = TeacherCache.open(folder, "me", shape, WHOLE)

    def answer(images: Tensor) -> Tensor:
        if calls is not None:
            calls.append(len(images))
        return trainer.teacher(images).logits

    cache.fill(trainer.views, shape[0], answer, Silent(), trainer.teacher.side)
    return cache


@pytest.mark.parametrize(
    ("method", "side"),
    [
        ("mldr-kd", 32),
        pytest.param("kd", 32, marks=pytest.mark.slow),
        pytest.param("kd", 48, marks=pytest.mark.slow),
    ],
)
def test_training_from_the_cache_is_training_beside_the_teacher(
    rig: Any, method: str, side: int, tmp_path: Path
) -> None:
    """Within the rounding of logits to float16, mixup, CutMix and repeated epochs included."""
    taught = replace(
        rig,
        teacher="test_resnet",
        teacher_side=side,
        method=MethodConfig(name=method),
        train=TWICE.model_copy(update={"evaluate_every": TWICE.passes}),  # the last is the best
        augment=RANDOM,
        optimizer=OptimizerConfig(name="sgd", lr=0.01),
    )
    expected, _ = replace(taught, folder=tmp_path / "asked").build().run()
    trainer = replace(taught, folder=tmp_path / "cached").build()
    trainer.cache, trainer.teacher = cache_for(taught, tmp_path / "logits"), None
    found, _ = trainer.run()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=2e-3, atol=2e-4, msg=name)
    unlike = replace(taught, folder=tmp_path / "other", train=TWICE.model_copy(update={"seed": 5}))
    other = unlike.build().run()[0]
    assert any(not torch.allclose(other[n], expected[n], rtol=2e-3, atol=2e-4) for n in expected)


@pytest.mark.parametrize("side", [32, 48])
def test_a_row_is_the_teachers_answer_to_that_rows_images(
    rig: Any, side: int, tmp_path: Path
) -> None:
    taught = replace(rig, teacher="test_resnet", teacher_side=side, train=TWICE, augment=RANDOM)
    cache, trainer = cache_for(taught, tmp_path), taught.build()
    for seen in trainer.views.epoch(3, sides=(32, side)):
        expected = trainer.teacher(seen.by_side[side]).logits
        found = cache.row(seen.row, torch.device("cpu"))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=2**-11, atol=1e-6)


def test_filling_goes_on_where_it_was_interrupted(rig: Any, tmp_path: Path) -> None:
    taught = replace(rig, teacher="test_resnet", train=TWICE, augment=RANDOM)
    whole = cache_for(taught, tmp_path / "whole")
    trainer, calls = taught.build(), 0

    def tired(images: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return trainer.teacher(images).logits

    part = TeacherCache.open(tmp_path / "part", "me", (10, 8, 4), WHOLE)
    with pytest.raises(KeyboardInterrupt):
        part.fill(trainer.views, 10, tired, Silent())
    asked: list[int] = []
    resumed = cache_for(taught, tmp_path / "part", asked)
    assert len(asked) == 3 + 1  # what was missing, and the spot check
    np.testing.assert_array_equal(resumed._logits, whole._logits)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_answer_that_is_no_number_is_not_kept(rig: Any, value: float, tmp_path: Path) -> None:
    trainer = rig.build()
    cache = TeacherCache.open(tmp_path, "me", (5, 8, 4), WHOLE)
    spoilt = torch.zeros(8, 4).index_fill(0, torch.tensor(3), value)
    with pytest.raises(MldrError, match="the teacher answers with NaN or infinity to training im"):
        cache.fill(trainer.views, 5, lambda _: spoilt, Silent())


def test_two_processes_keep_their_own_halves(rig: Any, tmp_path: Path) -> None:
    assert RowShare(1, 2).columns(8) == slice(4, 8)
    halves = [TeacherCache.open(tmp_path, "me", (10, 8, 4), RowShare(rank, 2)) for rank in (0, 1)]
    for rank, half in enumerate(halves):
        half._logits[:, half._columns] = rank + 1
    assert halves[0].row(3, torch.device("cpu")).unique().tolist() == [1.0]
    assert halves[1].row(3, torch.device("cpu")).unique().tolist() == [2.0]


# --- through the stage


@pytest.fixture
def taught_phase(phase_in: Callable[[Path], Phase], tmp_path: Path) -> Phase:
    return replace(phase_in(tmp_path / "stage"), logits=tmp_path / "logits")


def teacher_of(phase: Phase, seed: int = 1) -> FrozenTeacher:
    torch.manual_seed(seed)
    model = ModelConfig(name="test_resnet")
    built = create_model(model, num_classes=4, image_size=32).eval()
    return FrozenTeacher(built, plan_stages(built, 32), preprocessing_of(model, built, phase))


def distil(
    phase: Phase, method: str = "kd", optimizer: OptimizerConfig | None = None, **train: Any
) -> Path:
    training = Training(
        train=TWICE.model_copy(update=train), optimizer=optimizer or OptimizerConfig()
    )
    student, keys = ModelConfig(name="test_vit"), MethodConfig(name=method)
    return training_run.distill(phase, student, teacher_of(phase), keys, training)


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    ask = FrozenTeacher.__call__

    def counted(self: FrozenTeacher, pixels: Tensor, **kwargs: Any) -> Any:
        calls.append(len(pixels))
        return ask(self, pixels, **kwargs)

    monkeypatch.setattr(FrozenTeacher, "__call__", counted)
    return calls


def test_methods_share_the_logits_and_longer_runs_ask_no_more(
    taught_phase: Phase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = count_calls(monkeypatch)
    distil(taught_phase)
    assert len(calls) == 10  # two views of five steps, for four epochs
    distil(replace(taught_phase, folder=tmp_path / "second"), "mldr-kd", epochs=6)
    assert len(calls) == 11  # the spot check
    distil(replace(taught_phase, folder=tmp_path / "third"), "fitnet")
    assert len(calls) == 11 + 20  # it needs the teacher's stages: asked in every step
    assert len(list(taught_phase.logits.iterdir())) == 1  # type: ignore[union-attr]


def test_features_are_kept_beside_the_logits(
    taught_phase: Phase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Training from them is training beside the teacher, within their rounding to float16."""
    sgd = OptimizerConfig(name="sgd", lr=0.01)
    weights = []
    calls = count_calls(monkeypatch)
    for kept in (True, False):
        if not kept:
            monkeypatch.setattr(training_run, "cached_logits", lambda *_: None)
        folder = replace(taught_phase, folder=tmp_path / str(kept))
        trained = distil(folder, "rsd", sgd, epochs=2, evaluate_every=2)  # the last is the best
        weights.append(read_tensors(trained / WEIGHTS))
        assert len(calls) == (10 if kept else 10 + 10)  # before the first step, or in each
    for name, value in weights[1].items():
        np.testing.assert_allclose(weights[0][name], value, rtol=2e-3, atol=2e-4, err_msg=name)


def test_another_seed_or_teacher_has_a_cache_of_its_own(
    taught_phase: Phase, tmp_path: Path
) -> None:
    distil(taught_phase)
    distil(replace(taught_phase, folder=tmp_path / "second"), seed=3)
    assert len(list(taught_phase.logits.iterdir())) == 2  # type: ignore[union-attr]
    one, other = teacher_of(taught_phase), teacher_of(taught_phase, seed=2)
    assert cache_identity(one) == cache_identity(teacher_of(taught_phase))
    assert cache_identity(one) != cache_identity(other)
    assert cache_identity(one, seed=1) != cache_identity(one, seed=2)


def test_logits_kept_in_one_precision_serve_no_run_that_names_another(
    taught_phase: Phase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = count_calls(monkeypatch)
    for precision in ("bf16", "fp32"):
        phase = replace(taught_phase, folder=tmp_path / precision)
        distil(phase, epochs=1, teacher_precision=precision)
    assert len(calls) == 2 * 5  # a view each, and no spot check


def test_logits_that_auto_computed_in_one_precision_serve_no_run_where_it_stands_for_another(
    taught_phase: Phase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = count_calls(monkeypatch)
    for bf16 in (True, False):
        monkeypatch.setattr(execution, "uses_bf16", lambda *_, answer=bf16: answer)
        distil(replace(taught_phase, folder=tmp_path / str(bf16)), epochs=1)
    assert len(calls) == 2 * 5


def test_seeds_with_the_same_views_share_the_logits_and_are_two_trainings(
    taught_phase: Phase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = count_calls(monkeypatch)
    weights = []
    for seed in (0, 3):
        folder = distil(
            replace(taught_phase, folder=tmp_path / str(seed)), epochs=1, seed=seed, view_seed=7
        )
        weights.append(read_tensors(folder / WEIGHTS))
    assert len(list(taught_phase.logits.iterdir())) == 1  # type: ignore[union-attr]
    assert len(calls) == 10 + 1  # both views, though an epoch sees one; the spot check
    assert any(not np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_seed_says_which_of_the_shared_views_comes_first(rig: Any) -> None:
    rows: list[list[list[int]]] = [[], []]
    for seed in (0, 1):
        train = TWICE.model_copy(update={"seed": seed, "view_seed": 0})
        trainer = replace(rig, train=train).build()
        for epoch in range(3):
            trainer.state = trainer.state.model_copy(update={"step": 5 * epoch})
            rows[seed].append([seen.row for seen in trainer._remaining(epoch)])
    first, second = list(range(5)), list(range(5, 10))
    assert rows == [[first, second, first], [second, first, second]]


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda f: (f / "logits.npy").write_bytes(b"no"), "logits.npy cannot be read"),
        (lambda f: np.save(f / "logits.npy", np.zeros((3, 8, 4), np.float16)), r"\(3, 8, 4\)"),
        (lambda f: (f / "cache.json").write_text("{"), "cache.json is damaged"),
        (
            lambda f: (f / "cache.json").write_text(json.dumps({"identity": "x"})),
            "another teacher, data, augmentation or seed",
        ),
        (
            lambda f: (
                np.save(f / "logits.npy", np.ones((10, 8, 4), np.float16)),
                (f / "rows-0.json").write_text('{"rows": 10}'),  # an older release's, unhashed
            ),
            "the teacher now differs by up to",
        ),
    ],
)
def test_a_stale_or_damaged_cache_is_refused(
    taught_phase: Phase, break_it: Callable[[Path], Any], said: str, tmp_path: Path
) -> None:
    distil(taught_phase)
    (folder,) = taught_phase.logits.iterdir()  # type: ignore[union-attr]
    break_it(folder)
    with pytest.raises(MldrError, match=f"not usable: .*{said}.*; delete that folder"):
        distil(replace(taught_phase, folder=tmp_path / "second"))


def flip_bit(file: Path, byte: int) -> None:
    content = bytearray(file.read_bytes())
    content[byte] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "asked_rows", "said"),
    [
        (
            lambda f: flip_bit(f / "logits.npy", -1),
            4,
            "logits.npy is damaged after row 6: the rows",
        ),
        (lambda f: flip_bit(f / "logits.npy", -320), 10, "logits.npy is damaged after row 0: the "),
        (lambda f: flip_bit(f / "rows-0.json", 13), 10, "rows-0.json is damaged (its content is"),
        (lambda f: (f / "rows-0.json").write_text("[]"), 10, "rows-0.json is damaged (it is no "),
        (lambda f: (f / "rows-0.json").write_text('{"rows": 10}'), 0, ""),
    ],
)
def test_damaged_rows_are_asked_again_and_those_before_them_are_kept(
    rig: Any,
    damage: Callable[[Path], Any],
    asked_rows: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """320 bytes before the end, of 10 rows of 64, is the middle of the first block of six."""
    monkeypatch.setattr("mldr_deploy.distill.teacher_cache._EVERY", 6)
    taught = replace(rig, teacher="test_resnet", train=TWICE, augment=RANDOM)
    undamaged = np.array(cache_for(taught, tmp_path)._logits)
    damage(tmp_path)
    asked, notes = list[int](), list[str]()
    monkeypatch.setattr(Silent, "note", lambda _, text: notes.append(text))
    mended = cache_for(taught, tmp_path, asked)
    np.testing.assert_array_equal(mended._logits, undamaged)
    spot_check = asked_rows < 10
    assert len(asked) == asked_rows + spot_check
    assert len(notes) == bool(said) and all(said in note for note in notes)


def test_a_disk_without_room_is_told_before_anything_is_written(
    taught_phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    with pytest.raises(MldrError, match=r"take 0 MB, .* has 0 MB free: lower train.teacher_views"):
        distil(taught_phase)
    assert not list(taught_phase.logits.rglob("*.npy"))  # type: ignore[union-attr]


def test_a_disk_that_fills_up_leaves_no_half_file(
    taught_phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MldrError, match=r"cannot be written .*No space left.*teacher_views"):
        distil(taught_phase)
    assert not list(taught_phase.logits.rglob("*.npy"))  # type: ignore[union-attr]
    monkeypatch.undo()
    distil(taught_phase)
