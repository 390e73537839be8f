"""The PyTorch student runs on as many threads as parity is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mldr_deploy.bundle.manifest import TensorSpec
from mldr_deploy.bundle.parity import Gate
from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.data.split import Split
from mldr_deploy.export.answer_memory import AnswerMemory
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.prove import on_split
from mldr_deploy.export.torch_reference import torch_reference

PICTURE = np.ones((1, 3, 8, 8), np.float32)


class ThreadCount(nn.Module):
    """A model whose logits [b, 2] are the number of threads that compute them."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.new_full((len(pixels), 2), torch.get_num_threads())


def test_the_process_has_its_own_number_again_afterwards() -> None:
    before = torch.get_num_threads()
    with torch_reference(ThreadCount(), before + 2) as reference:
        assert (reference(PICTURE) == before + 2).all()
    with torch_reference(ThreadCount()) as reference:
        assert (reference(PICTURE) == before).all()
    with pytest.raises(RuntimeError), torch_reference(ThreadCount(), before + 1):
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_parity_takes_the_number_of_the_recipe() -> None:
    threads, answers = torch.get_num_threads() + 1, list[Any]()
    grounds = on_split(
        ThreadCount(),
        Split.of_pixels(np.zeros((4, 8, 8, 3), np.uint8), np.arange(4) % 2),
        Preprocessing(size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1)),
        ExportConfig(threads=threads),
        ends=tuple(
            TensorSpec(name=name, dtype="float32", shape=["batch"]) for name in ("input", "logits")
        ),
        precision="fp32",
        gate=Gate(),
        images=None,
        memory=AnswerMemory(),
        progress=Silent(),
        record=lambda logits, labels: answers.append(logits),
    )
    assert grounds.parity is not None
    grounds.parity(lambda inputs: np.zeros((len(inputs), 2), np.float32))
    assert np.unique(np.concatenate(answers)) == [threads]
