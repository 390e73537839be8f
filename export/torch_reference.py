"""The PyTorch student as a function of arrays, which every comparison is held against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..bundle.preprocess import Floats
from ..runtimes.runtime import Predictor

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def torch_reference(model: nn.Module, threads: int = 0) -> Iterator[Predictor]:
    """``model`` where it lies, in fp32 and evaluation mode, on ``threads`` threads; 0: PyTorch's.

    Its mode and the process's number of threads come back afterwards.
    """
    import torch

    def logits(inputs: Floats) -> Floats:
        # On a CPU most networks are quicker so, and none is much slower.
        pixels = torch.from_numpy(inputs).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            answer: Floats = model(pixels).numpy()
        return answer

    was_training, threads_before = model.training, torch.get_num_threads()
    model.float().eval()
    torch.set_num_threads(threads or threads_before)
    try:
        yield logits
    finally:
        torch.set_num_threads(threads_before)
        model.train(was_training)
