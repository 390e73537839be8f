"""Checkpoints: whole or absent, of this run or refused, and no pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from mldr_deploy.bundle.progress import Silent
from mldr_deploy.distill.checkpoint import (
    Tensors,
    TrainingState,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from mldr_deploy.distill.optimizer import create_optimizer
from mldr_deploy.distill.training_config import OptimizerConfig
from mldr_deploy.errors import MldrError

GROUPS = {"student": {"w": torch.arange(6.0).reshape(2, 3)}, "method": {}}


class Notes(Silent):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def save(folder: Path, step: int, before: int | None = None) -> None:
    state = TrainingState(identity="mine", step=step, metrics_bytes=7)
    save_checkpoint(folder, state, GROUPS, before)


def load(
    folder: Path, identity: str = "mine", notes: Silent | None = None
) -> tuple[TrainingState, dict[str, Tensors]] | None:
    return load_checkpoint(folder, identity, [*GROUPS], notes or Silent())


def test_the_newest_comes_back_and_the_one_before_it_stays(tmp_path: Path) -> None:
    for before, step in ((None, 3), (3, 6), (6, 12)):
        save(tmp_path, step, before)
    found = load(tmp_path)
    assert found is not None
    state, groups = found
    assert (state.step, state.metrics_bytes) == (12, 7)
    torch.testing.assert_close(groups, GROUPS)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-00000006", "step-00000012"]
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"student.safetensors", "method.safetensors", "state.json"}


def test_a_checkpoint_of_an_older_release_has_minus_one_where_nothing_is_best(
    tmp_path: Path,
) -> None:
    save(tmp_path, 3)
    file = tmp_path / "step-00000003" / "state.json"
    older = {"best_epoch": -1, "best_top1": -1.0, "best_loss": -1.0}
    content = {k: v for k, v in json.loads(file.read_text()).items() if k in ("identity", "step")}
    file.write_text(json.dumps(content | older))
    found = load(tmp_path)
    assert found is not None
    state = found[0]
    torch.testing.assert_close(found[1], GROUPS)
    assert (state.best_epoch, state.best_top1, state.best_loss) == (None, None, None)


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert load(tmp_path / "absent") is None


def test_what_a_killed_writer_left_is_not_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 3)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mldr_deploy.distill.checkpoint.write_sealed", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 6, before=3)
    found = load(tmp_path)
    assert found is not None and found[0].step == 3


def flips(content: bytes) -> Iterator[bytes]:
    """The content with each of its bits flipped."""
    for bit in range(8 * len(content)):
        byte, mask = bit // 8, 1 << bit % 8
        yield content[:byte] + bytes([content[byte] ^ mask]) + content[byte + 1 :]


@pytest.mark.parametrize("name", ["student.safetensors", "method.safetensors", "state.json"])
def test_one_flipped_bit_anywhere_and_the_one_before_it_is_used(tmp_path: Path, name: str) -> None:
    save(tmp_path, 3)
    save(tmp_path, 12, before=3)
    file, notes = tmp_path / "step-00000012" / name, Notes()
    content = file.read_bytes()
    for damaged in flips(content):
        file.write_bytes(damaged)
        found = load(tmp_path, notes=notes)
        assert found is not None and found[0].step == 3
    assert len(notes.lines) == 8 * len(content)
    assert all(line.startswith("step-00000012 is damaged (") for line in notes.lines)
    assert all(
        line.endswith("): going on from step-00000003, the one before it") for line in notes.lines
    )


@pytest.mark.parametrize("name", ["student.safetensors", "state.json"])
def test_a_missing_file_is_damage(tmp_path: Path, name: str) -> None:
    save(tmp_path, 3)
    save(tmp_path, 12, before=3)
    (tmp_path / "step-00000012" / name).unlink()
    notes = Notes()
    found = load(tmp_path, notes=notes)
    assert found is not None and found[0].step == 3
    assert f"step-00000012 is damaged ({name}: No such file or directory)" in notes.lines[0]


@pytest.mark.parametrize("file", ["student.safetensors", "state.json"])
@pytest.mark.parametrize("content", [b"", b"{", b'{"step": -1}'])
def test_where_none_is_whole_the_remedy_is_told(tmp_path: Path, file: str, content: bytes) -> None:
    save(tmp_path, 3)
    (tmp_path / "step-00000003" / file).write_bytes(content)
    with pytest.raises(
        MldrError, match=r"no whole checkpoint: step-00000003 is damaged .*: delete that folder to"
    ):
        load(tmp_path)


def test_a_damaged_one_goes_once_the_run_has_come_further(tmp_path: Path) -> None:
    save(tmp_path, 3)
    save(tmp_path, 12, before=3)
    (tmp_path / "step-00000012" / "state.json").unlink()
    save(tmp_path, 15, before=3)  # the run went on from step 3
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-00000003", "step-00000015"]


def test_there_is_never_need_of_room_for_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for before, step in ((None, 3), (3, 6)):
        save(tmp_path, step, before)
    present: list[list[str]] = []

    def record(*_: object) -> str:
        present.append(sorted(path.name for path in tmp_path.glob("step-*")))
        return ""

    monkeypatch.setattr("mldr_deploy.distill.checkpoint.sha256", record)
    save(tmp_path, 9, before=6)
    assert present == [["step-00000006"]] * len(GROUPS)


def test_another_run_s_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "student" / "checkpoints", 3)
    with pytest.raises(MldrError, match=r"unfinished run of another recipe: .* or give --restart"):
        load(tmp_path / "student" / "checkpoints", "yours")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_restored_optimiser_takes_the_same_next_step(
    name: Literal["sgd", "adamw"], layout: torch.memory_format, tmp_path: Path
) -> None:
    """Fused kernels walk weights and state side by side in memory, whatever their strides say."""
    inputs = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def start() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)).to(memory_format=layout)  # type: ignore[call-overload]
        return model, create_optimizer(model, OptimizerConfig(name=name, lr=0.1))

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(inputs.contiguous(memory_format=layout)).square().mul(
            inputs[:, :1, 2:, 2:]
        ).sum().backward()
        optimizer.step()

    model, optimizer = start()
    step(model, optimizer)
    groups = {"student": model.state_dict(), "optimizer": optimizer_tensors(optimizer)}
    save_checkpoint(tmp_path, TrainingState(identity="mine", step=1), groups, None)
    step(model, optimizer)

    resumed, its_optimizer = start()
    found = load_checkpoint(tmp_path, "mine", [*groups], Silent())
    assert found is not None
    resumed.load_state_dict(found[1]["student"])
    restore_optimizer(its_optimizer, found[1]["optimizer"])
    step(resumed, its_optimizer)
    torch.testing.assert_close(resumed.state_dict(), model.state_dict(), rtol=0, atol=0)
