"""A teacher's logits through ONNX Runtime: who is chosen, and that they are the teacher's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.distill import teacher_runtime as module
from mldr_deploy.distill.execution import Execution, ExecutionRecord
from mldr_deploy.distill.task import FrozenTeacher
from mldr_deploy.distill.teacher_runtime import choose_runtime
from mldr_deploy.distill.traced import traced
from mldr_deploy.distill.training_config import TrainConfig
from mldr_deploy.models.stages import StagePlan

CPU = torch.device("cpu")
SPEC = Preprocessing(size=(8, 8), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


class Notes(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


class Clock:
    """Seconds that pass with every answer: of PyTorch and of ONNX Runtime."""

    def __init__(self, torch_seconds: float, onnx_seconds: float) -> None:
        self.now, self.torch_seconds, self.onnx_seconds = 0.0, torch_seconds, onnx_seconds

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def teacher() -> FrozenTeacher:
    """A small convolutional teacher in bf16, in eval mode."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 5))
    return FrozenTeacher(model.eval(), StagePlan((), (), "map", 0, 0, 0), SPEC, bf16=True)


@pytest.fixture(autouse=True)
def untraced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing takes seconds: but in the slow tests, the model itself stands for its graph."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(module, "traced", lambda model, side: model)


@pytest.fixture
def pixels() -> Tensor:
    """A batch of 0..255."""
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 255


def record_in(folder: Path) -> ExecutionRecord:
    return ExecutionRecord(folder, Execution(precision="bf16", teacher_precision="bf16"))


def record_again(folder: Path) -> ExecutionRecord:
    """As a resumed run reads it."""
    return ExecutionRecord.open(folder, TrainConfig(), CPU)


def ticking(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> list[str]:
    """Each answer turns ``clock`` on; what answered, in order."""
    answered: list[str] = []
    ask = FrozenTeacher.__call__

    def timed(self: FrozenTeacher, images: Tensor, **asked: bool) -> Any:
        by_onnx = self.runtime is not None
        clock.now += clock.onnx_seconds if by_onnx else clock.torch_seconds
        answered.append("ONNX Runtime" if by_onnx else "PyTorch")
        return ask(self, images, **asked)

    monkeypatch.setattr(FrozenTeacher, "__call__", timed)
    return answered


@pytest.mark.parametrize(
    ("torch_seconds", "onnx_seconds", "expected"),
    [(1.0, 0.5, "ONNX Runtime"), (1.0, 2.0, "PyTorch"), (0.1, 0.01, "PyTorch")],
    ids=["quicker", "slower", "little to do"],
)
def test_the_quicker_is_chosen_and_resumed_without_a_clock(
    teacher: FrozenTeacher,
    pixels: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    torch_seconds: float,
    onnx_seconds: float,
    expected: str,
) -> None:
    clock, record = Clock(torch_seconds, onnx_seconds), record_in(tmp_path)
    answered = ticking(monkeypatch, clock)
    choose_runtime(teacher, pixels, 200, record, Notes(), clock)
    assert record.chosen.teacher_runtime == expected
    assert teacher(pixels).logits.shape == (4, 5)
    assert answered[-1] == expected
    precision = "fp32" if expected == "ONNX Runtime" else "bf16"
    assert record.chosen.teacher_precision == precision
    teacher.runtime = None
    choose_runtime(teacher, pixels, 200, record, Notes(), lambda: pytest.fail("timed again"))
    assert (teacher.runtime is not None) == (expected == "ONNX Runtime")


@pytest.mark.parametrize(
    "spoil",
    [lambda answer: answer + 0.1, lambda answer: answer * torch.nan, lambda answer: answer.flip(1)],
    ids=["shifted", "nan", "misordered"],
)
def test_other_logits_are_told_and_not_used(
    teacher: FrozenTeacher,
    pixels: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Tensor], Tensor],
) -> None:
    model = teacher.model
    monkeypatch.setattr(module, "traced", lambda *_: lambda inputs: spoil(model(inputs)))
    clock, notes, record = Clock(1.0, 0.1), Notes(), record_in(tmp_path)
    ticking(monkeypatch, clock)
    choose_runtime(teacher, pixels, 200, record, notes, clock)
    assert teacher.runtime is None
    assert record.chosen.teacher_runtime == "PyTorch"
    assert [line.startswith("teacher by PyTorch: ONNX Runtime's") for line in notes.lines] == [True]


@pytest.mark.parametrize("onnx_seconds", [0.5, 2.0], ids=["quicker", "slower"])
def test_runs_that_share_logits_ask_for_the_same(
    teacher: FrozenTeacher,
    pixels: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    onnx_seconds: float,
) -> None:
    """The first one's clock decides, else the logits would be asked for in two precisions."""
    clock, automatic = Clock(1.0, onnx_seconds), TrainConfig(teacher_precision="auto")
    ticking(monkeypatch, clock)
    first, second, named = (record_in(tmp_path / name) for name in ("1", "2", "3"))
    first.share(tmp_path / "logits", automatic)
    choose_runtime(teacher, pixels, 200, first, Notes(), clock)
    teacher.runtime = None
    second.share(tmp_path / "logits", automatic)
    choose_runtime(teacher, pixels, 200, second, Notes(), lambda: pytest.fail("timed again"))
    assert second.chosen == first.chosen
    assert record_again(tmp_path / "2").chosen == first.chosen
    named.choose(teacher_precision="fp32")  # as the recipe says
    named.share(tmp_path / "logits", TrainConfig(teacher_precision="fp32"))
    assert named.chosen.teacher_precision == "fp32"
    assert named.chosen.teacher_runtime == first.chosen.teacher_runtime


def test_a_recorded_graph_is_traced_when_somebody_asks(
    teacher: FrozenTeacher, pixels: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all logits kept nobody does, and tracing would take longer than the spot check."""
    model, begun = teacher.model, []
    monkeypatch.setattr(module, "traced", lambda *_: begun.append(1) or model)
    record = record_in(tmp_path)
    record.choose(teacher_runtime="ONNX Runtime", teacher_precision="fp32")
    choose_runtime(teacher, pixels, 200, record, Notes())
    teacher(pixels, by_torch=True)
    assert not begun
    teacher.bf16 = False
    expected = teacher(pixels, by_torch=True).logits
    for _ in range(2):
        torch.testing.assert_close(teacher(pixels).logits, expected)
    assert len(begun) == 1


def test_a_recorded_graph_that_no_longer_agrees_is_left(
    teacher: FrozenTeacher, pixels: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, notes, record = teacher.model, Notes(), record_in(tmp_path)
    monkeypatch.setattr(module, "traced", lambda *_: lambda inputs: model(inputs) + 0.1)
    record.choose(teacher_runtime="ONNX Runtime", teacher_precision="fp32")
    teacher.bf16 = False
    choose_runtime(teacher, pixels, 200, record, notes)
    expected = teacher(pixels, by_torch=True).logits
    for _ in range(2):
        torch.testing.assert_close(teacher(pixels).logits, expected)
    assert len(notes.lines) == 1 and record_again(tmp_path).chosen.teacher_runtime == "PyTorch"


class Untraceable(nn.Module):
    """Branches on values."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)[:, : 5 if float(inputs.sum()) > 0 else 6]


@pytest.mark.slow
def test_the_graph_gives_the_logits_of_float64(teacher: FrozenTeacher, pixels: Tensor) -> None:
    """In fp32, whatever PyTorch would have computed in; for every size of batch."""
    forward = traced(teacher.model, 8)
    for count in (1, 4):
        inputs = teacher.normalise(pixels[:count])
        expected = teacher.model.double()(inputs.double()).float()
        teacher.model.float()
        torch.testing.assert_close(forward(inputs), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_what_cannot_be_traced_stays_with_pytorch(
    pixels: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = FrozenTeacher(Untraceable().eval(), StagePlan((), (), "map", 0, 0, 0), SPEC)
    clock, notes, record = Clock(1.0, 0.1), Notes(), record_in(tmp_path)
    ticking(monkeypatch, clock)
    choose_runtime(teacher, pixels, 200, record, notes, clock)
    assert teacher.runtime is None and len(notes.lines) == 1
    assert record.chosen.teacher_runtime == "PyTorch"


def test_stages_are_pytorch_s_whatever_gives_the_logits(pixels: Tensor, rig: Any) -> None:
    trainer = replace(rig, teacher="resnet10t").build()
    teacher = trainer.teacher
    images = torch.rand(2, 3, 32, 32) * 255
    expected = teacher(images, stages=True)
    teacher.runtime = lambda inputs: torch.zeros(len(inputs), 4)
    assert torch.equal(teacher(images, stages=True).logits, expected.logits)
    assert torch.equal(teacher(images).logits, torch.zeros(2, 4))
