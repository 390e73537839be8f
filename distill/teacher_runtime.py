"""What computes a frozen teacher's logits on a CPU: PyTorch, or ONNX Runtime where it is quicker.

It has to agree with PyTorch in fp32 on the first batch. What was chosen is recorded, and neither a
resumed run nor another that shares the teacher's logits chooses again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ..bundle.progress import Progress
from .execution import ExecutionRecord
from .task import FrozenTeacher
from .traced import Forward, disagreement, traced

LEAST_IMAGES = 2000  # to answer, below which there is nothing to choose
_WORTH = 120.0  # seconds of PyTorch's work, from which tracing takes less time than it saves
_TRIALS = 3

Clock = Callable[[], float]


def choose_runtime(
    teacher: FrozenTeacher,
    pixels: Tensor,
    batches: int,
    record: ExecutionRecord,
    progress: Progress,
    clock: Clock = time.perf_counter,
) -> None:
    """Set ``teacher.runtime`` for ``batches`` batches like ``pixels``, its first one.

    pixels [b, 3, S, S] of 0..255, on a CPU. Says so where ONNX Runtime does not agree.
    """
    recorded = record.chosen.teacher_runtime
    if recorded == "ONNX Runtime":
        teacher.runtime = _WhenAsked(teacher, pixels, record, progress)
    if recorded is not None:
        return
    by_torch = _seconds(teacher, pixels, clock)
    if by_torch * batches >= _WORTH:
        teacher.runtime = _agreeing(teacher, pixels, progress)
    if teacher.runtime is not None:
        by_onnx = _seconds(teacher, pixels, clock)
        if by_onnx < by_torch:
            record.choose(teacher_runtime="ONNX Runtime", teacher_precision="fp32")
            times = f"{1000 * by_onnx:.0f} ms a batch, PyTorch {1000 * by_torch:.0f}"
            progress.note(f"teacher's logits by ONNX Runtime: {times}")
            return
        teacher.runtime = None
    record.choose(teacher_runtime="PyTorch")


class _WhenAsked:
    """The logits by ONNX Runtime as recorded, traced at the first question: often there is none."""

    def __init__(
        self, teacher: FrozenTeacher, pixels: Tensor, record: ExecutionRecord, progress: Progress
    ) -> None:
        self._teacher, self._pixels = teacher, pixels
        self._record, self._progress = record, progress
        self._forward: Forward | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Network inputs [b, 3, S, S] -> logits [b, C]; from PyTorch where it no longer agrees."""
        if self._forward is None:
            self._forward = _agreeing(self._teacher, self._pixels, self._progress)
        if self._forward is None:
            self._teacher.runtime = None
            self._record.choose(teacher_runtime="PyTorch")
            logits: Tensor = self._teacher.model(inputs)
            return logits
        return self._forward(inputs)


def _agreeing(teacher: FrozenTeacher, pixels: Tensor, progress: Progress) -> Forward | None:
    """The teacher through ONNX Runtime; None where it cannot be traced or gives other logits."""
    try:
        forward = traced(teacher.model, teacher.side)
        answer = forward(teacher.normalise(pixels))
    except Exception as error:  # any failure of a converter: PyTorch gives the same logits
        progress.note(f"teacher by PyTorch: {type(error).__name__} while tracing for ONNX Runtime")
        return None
    exact = replace(teacher, bf16=False, runtime=None)
    deviation = disagreement(answer, exact(pixels).logits)
    if deviation is None:
        return forward
    progress.note(f"teacher by PyTorch: ONNX Runtime's logits differ by up to {deviation:.3g}")
    return None


def _seconds(teacher: FrozenTeacher, pixels: Tensor, clock: Clock) -> float:
    """Median time of an answer."""
    teacher(pixels)
    durations = []
    for _ in range(_TRIALS):
        began = clock()
        teacher(pixels)
        durations.append(clock() - began)
    return statistics.median(durations)
