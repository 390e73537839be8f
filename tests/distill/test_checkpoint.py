"""Checkpoints: whole or absent, of this run or refused, and no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from mldr_deploy.distill.checkpoint import (
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


def save(folder: Path, step: int) -> None:
    save_checkpoint(folder, TrainingState(identity="mine", step=step, metrics_bytes=7), GROUPS)


def test_the_newest_comes_back_and_is_the_only_one(tmp_path: Path) -> None:
    save(tmp_path, 3)
    save(tmp_path, 12)
    found = load_checkpoint(tmp_path, "mine")
    assert found is not None
    state, groups = found
    assert (state.step, state.metrics_bytes) == (12, 7)
    torch.testing.assert_close(groups, GROUPS)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000012"]
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"student.safetensors", "method.safetensors", "state.json"}


def test_a_checkpoint_of_an_older_release_has_minus_one_where_nothing_is_best(
    tmp_path: Path,
) -> None:
    save(tmp_path, 3)
    file = tmp_path / "step-00000003" / "state.json"
    older = {"best_epoch": -1, "best_top1": -1.0, "best_loss": -1.0}
    file.write_text(json.dumps(json.loads(file.read_text()) | older))
    found = load_checkpoint(tmp_path, "mine")
    assert found is not None
    state = found[0]
    assert (state.best_epoch, state.best_top1, state.best_loss) == (None, None, None)


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "absent", "mine") is None


def test_what_a_killed_writer_left_is_not_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 3)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mldr_deploy.distill.checkpoint.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 6)
    found = load_checkpoint(tmp_path, "mine")
    assert found is not None and found[0].step == 3


@pytest.mark.parametrize("file", ["student.safetensors", "state.json"])
@pytest.mark.parametrize("content", [b"", b"{", b'{"step": -1}'])
def test_a_damaged_one_is_named(tmp_path: Path, file: str, content: bytes) -> None:
    save(tmp_path, 3)
    (tmp_path / "step-00000003" / file).write_bytes(content)
    with pytest.raises(MldrError, match=r"step-00000003 is damaged .*: delete it to start"):
        load_checkpoint(tmp_path, "mine")


def test_another_run_s_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "student" / "checkpoints", 3)
    with pytest.raises(MldrError, match=r"unfinished run of another recipe: .* or give --restart"):
        load_checkpoint(tmp_path / "student" / "checkpoints", "yours")


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
    save_checkpoint(tmp_path, TrainingState(identity="mine", step=1), groups)
    step(model, optimizer)

    resumed, its_optimizer = start()
    found = load_checkpoint(tmp_path, "mine")
    assert found is not None
    resumed.load_state_dict(found[1]["student"])
    restore_optimizer(its_optimizer, found[1]["optimizer"])
    step(resumed, its_optimizer)
    torch.testing.assert_close(resumed.state_dict(), model.state_dict(), rtol=0, atol=0)
