"""A step never waits for its device.

The device is PyTorch's `meta`, whose tensors have no values: whatever asks for one fails at once,
and a copy to it can be seen to be one that nobody waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mldr_deploy.data.augment import Mix
from mldr_deploy.data.data_config import AugmentConfig, DataConfig
from mldr_deploy.data.loader import TrainBatches
from mldr_deploy.distill import trainer as trainer_module
from mldr_deploy.distill.methods.method_registry import MethodConfig
from mldr_deploy.distill.trainer import Trainer
from mldr_deploy.distill.training_config import OptimizerConfig
from mldr_deploy.distill.views import Views

META = torch.device("meta")
# All but erasing: its noise comes from a generator of the device, which meta has not.
EVERYTHING = AugmentConfig(crop="random-resized", flip=0.5, randaugment=9, mixup=0.8, cutmix=1.0)


class Waits(TorchDispatchMode):
    """Names of the copies between host and device that the host would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        out = [t for t in tree_leaves(made) if isinstance(t, Tensor)]
        crosses = {t.device.type for t in given + out} == {"cpu", "meta"}
        scalars = all(t.ndim == 0 for t in given if t.device.type == "cpu")  # travel with a launch
        copies = func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_)
        waits = copies and not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
        if crosses and (waits or not (copies or scalars)):
            self.found.append(str(func))
        return made


class Alone:
    """The one process of a run on the meta device."""

    device, num_processes, process_index, is_main_process = META, 1, 0, True

    def prepare(self, module: Any) -> Any:
        return module

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        return tensor

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    @contextmanager
    def no_sync(self, module: Any) -> Iterator[None]:
        with nullcontext():
            yield


@pytest.fixture
def on_meta(rig: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``on_meta(**changes)``: a trainer all of whose tensors are on the meta device."""

    def plain(task: Any, config: Any) -> torch.optim.Optimizer:  # fused ones know real devices only
        groups = [{"params": list(task.parameters()), "rate": 1.0}]
        return torch.optim.SGD(groups, lr=0.1, momentum=0.9, foreach=True)

    def make(**changes: Any) -> Trainer:
        built = replace(rig, augment=EVERYTHING, **changes).build()
        monkeypatch.setattr(trainer_module, "create_optimizer", plain)
        monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # nor has it this
        data = DataConfig(batch_size=8, image_size=32)
        batches = TrainBatches(rig.toys.train, data, seed=0, device=META, augment=EVERYTHING)
        return Trainer(
            built.task,
            built.teacher,
            Views(batches, Mix(EVERYTHING), classes=4, seed=0),
            built.val_batches,
            train=built.config,
            optimizer=OptimizerConfig(lr=0.1),
            schedule=built.schedule,
            accelerator=Alone(),  # type: ignore[arg-type]
            folder=Path("nowhere"),
            identity="a run",
            progress=built.progress,
        )

    return make


@pytest.mark.parametrize(("method", "student"), [("mldr-kd", "test_resnet"), ("kd", "test_vit")])
def test_no_step_waits_for_its_device(on_meta: Any, method: str, student: str) -> None:
    """Views, teacher, losses, clipping, update and moving average, in two steps of two parts."""
    train = trainer_module.TrainConfig(accumulate=2, ema=0.9, clip_norm=1.0)
    trainer = on_meta(
        student=student, teacher="test_vit", method=MethodConfig(name=method), train=train
    )
    with Waits() as waits:
        views = trainer.views.epoch(0)
        for _ in range(2):
            trainer._step(next(views))
    assert waits.found == []
    assert trainer.state.step == 2


def test_what_waits_is_noticed() -> None:
    there = torch.zeros(3, device=META)
    with Waits() as waits:
        torch.ones(3).to(META, non_blocking=True)
        torch.ones(3).to(META)
        there.copy_(torch.ones(3))
    assert waits.found == ["aten._to_copy.default", "aten.copy_.default"]
    with pytest.raises(RuntimeError, match="meta"):
        there.sum().item()
