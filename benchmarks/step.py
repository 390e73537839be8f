"""A training step beside one that works as the published code does, and beside its ceilings.

    python benchmarks/step.py [--recipe cifar100-cpu] [--device cpu] [--steps 9] [--classes 100]
                              [--set KEY=VALUE]

Taken in turns, one step each, medians (on a CPU of processor time, which other work disturbs
least; on a GPU ten steps a turn, until the device is done):

- `plain`: fp32, pictures transformed one by one by torchvision, textbook DFRA made anew for every
  head, every part fetched by `.item()`; the same student, projectors, teacher and batch
- `ours`: the trainer's step as the recipe says, views and all
- `cached`: the same with the teacher's logits at hand (train.teacher_views)
- `labels`: training on labels alone, what an epoch costs without any distillation

`floor` is forward and backward of the student alone, as the trainer computes it. Share of peak:
multiply-adds of ours over its time and over a large product's rate in the same precision. Pictures
are random; the teacher's logits are scaled to a spread of 2.5, as a trained one's. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".src"))

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.bundle.processor import usable_cores
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.data.dataset import Dataset as Pictures
from mldr_deploy.data.split import Split
from mldr_deploy.distill import training_run
from mldr_deploy.distill.methods.base import Method, Pair
from mldr_deploy.distill.methods.base import Step as MethodStep
from mldr_deploy.distill.methods.method_registry import MethodConfig, create_method
from mldr_deploy.distill.network import Network, fresh_model, preprocessing_of
from mldr_deploy.distill.pacing import paced
from mldr_deploy.distill.phase import Phase
from mldr_deploy.distill.precision import uses_bf16
from mldr_deploy.distill.small_grids import small_grids
from mldr_deploy.distill.task import FrozenTeacher, Task
from mldr_deploy.distill.trainer import Trainer
from mldr_deploy.models.stages import forward_stages, plan_stages, plan_teacher
from mldr_deploy.pipeline.recipe import Recipe, load_recipe

SPREAD = 2.5
STORED = 32  # pixels a side of a stored picture, as in CIFAR-100
Step = Callable[[], object]


def main(recipe: Recipe, device: str, steps: int, classes: int) -> None:
    """Measure in turns, print a table and the JSON line."""
    dataset = pictures(recipe.data.batch_size * 4, classes)
    with tempfile.TemporaryDirectory() as folder:
        phase = phase_of(recipe, dataset, device, Path(folder))
        forms = {
            "plain": plain_step(phase, recipe),
            "ours": trainer_step(ready(phase, recipe, "mldr-kd", views=0)),
            "cached": trainer_step(ready(phase, recipe, "mldr-kd", views=1)),
            "labels": trainer_step(ready(phase, recipe, "scratch", views=0)),
            "floor": floor_step(phase, recipe),
        }
        taken = in_turns(forms, steps, device)
        flops = count(ready(phase, recipe, "mldr-kd", views=0))
    report(recipe, device, classes, taken, flops)


def report(
    recipe: Recipe, device: str, classes: int, taken: dict[str, float], flops: float
) -> None:
    """The table and the JSON line."""
    batch = recipe.data.batch_size
    print(
        f"{recipe.name}: {recipe.student.name}, {batch} pictures of {recipe.data.image_size} px, "
        f"{classes} classes, {device}, {torch.get_num_threads()} threads"
    )
    for name, seconds in taken.items():
        print(f"{name:8} {1000 * seconds:9.1f} ms  {batch / seconds:9.0f} images/s")
    ratios = {
        "plain_over_ours": taken["plain"] / taken["ours"],
        "plain_over_cached": taken["plain"] / taken["cached"],
        "cached_over_labels": taken["cached"] / taken["labels"],
        "ours_over_floor": taken["ours"] / taken["floor"],
    }
    bf16 = uses_bf16(recipe.train.precision, torch.device(device))
    peak = product_rate(device, bf16)
    share = flops / taken["ours"] / peak
    for name, value in ratios.items():
        print(f"{name.replace('_', ' '):20} {value:6.2f}")
    print(f"share of a large product's rate ({peak / 1e9:.0f} GFLOP/s): {100 * share:.1f} %")
    figures = {name: round(batch / seconds, 1) for name, seconds in taken.items()}
    machine = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    line = {"recipe": recipe.name, "device": machine, "threads": torch.get_num_threads()}
    line |= {
        "batch": batch,
        "classes": classes,
        "images_per_second": figures,
        "share_of_peak": round(share, 4),
    }
    print(json.dumps(line | {name: round(value, 3) for name, value in ratios.items()}))


def in_turns(forms: dict[str, Step], steps: int, device: str) -> dict[str, float]:
    """Median seconds of a step of every form."""
    repeats = 10 if device == "cuda" else 1
    times: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(steps + 2):  # the first two warm up
        for name, step in forms.items():
            began = now(device)
            for _ in range(repeats):
                step()
            if turn >= 2:
                times[name].append((now(device) - began) / repeats)
    return {name: statistics.median(values) for name, values in times.items()}


def now(device: str) -> float:
    """Seconds: of the processor's work on a CPU; on a GPU when all of its work is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def pictures(count: int, classes: int = 100) -> Pictures:
    """Random pictures of the size that CIFAR-100 has."""
    rng = np.random.default_rng(0)

    def split(size: int) -> Split:
        pixels = rng.integers(0, 256, (size, STORED, STORED, 3), dtype=np.uint8)
        return Split.of_pixels(pixels, np.arange(size) % classes)

    names = tuple(f"class {number}" for number in range(classes))
    return Pictures("random", names, split(count), split(classes), split(classes), "random")


def phase_of(recipe: Recipe, dataset: Pictures, device: str, folder: Path) -> Phase:
    """The phase of a training."""
    accelerator = Accelerator(cpu=device == "cpu")
    return Phase(recipe.data, dataset, accelerator, folder, "step", {}, Silent())


def teacher_of(phase: Phase, recipe: Recipe) -> FrozenTeacher:
    """The recipe's teacher with random weights and logits of the spread of a trained one's."""
    assert recipe.teacher is not None
    bare = recipe.teacher.model.model_copy(update={"weights": None, "fresh_head": False})
    model = fresh_model(phase, bare, recipe.training).eval()
    side = phase.data.image_size
    with torch.no_grad():
        classifier = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        noise = torch.randn(16, 3, side, side)
        classifier.weight *= SPREAD / float(model(noise).std(dim=1).mean())
    spec = Preprocessing(size=(side, side), mean=phase.dataset.mean, std=phase.dataset.std)
    return FrozenTeacher(model, plan_teacher(model, side), spec)


def student_of(phase: Phase, recipe: Recipe, name: str) -> tuple[Task, FrozenTeacher | None]:
    """Student and method on the CPU, and the teacher where the method asks one."""
    student = fresh_model(phase, recipe.student, recipe.training)
    plan = plan_stages(student, phase.data.image_size)
    teacher = teacher_of(phase, recipe) if name != "scratch" else None
    config = recipe.method.model_copy(update={"name": name})
    pair = Pair(len(phase.dataset.classes), plan, None if teacher is None else teacher.plan)
    side = phase.data.image_size
    spec = Preprocessing(size=(side, side), mean=phase.dataset.mean, std=phase.dataset.std)
    method = create_method(MethodConfig(**config.model_dump()), pair)
    smoothing = recipe.train.label_smoothing
    return Task(student, plan, method, spec, label_smoothing=smoothing), teacher


def ready(phase: Phase, recipe: Recipe, name: str, *, views: int) -> Trainer:
    """The trainer of the recipe by method ``name``."""
    task, teacher = student_of(phase, recipe, name)
    train = recipe.train.model_copy(update={"teacher_views": views, "epochs": 10**6})
    optimizer = paced(recipe.optimizer, phase.data.batch_size)
    training = recipe.training.model_copy(update={"train": train, "optimizer": optimizer})
    spec = preprocessing_of(recipe.student, task.student, phase)
    network = Network(recipe.student, task.student, task._plan, spec)
    record = training_run.execution_of(phase, training)
    trainer = training_run.trainer_of(phase, network, task.method, teacher, training, record)
    trainer.task.train()
    return trainer


def trainer_step(trainer: Trainer) -> Step:
    """The trainer's own step on its next view."""

    def endless() -> Iterator[Any]:
        epoch = 0
        while True:
            yield from trainer.views.epoch(epoch)
            epoch += 1

    views = endless()
    return lambda: trainer._step(next(views))


def floor_step(phase: Phase, recipe: Recipe) -> Step:
    """Forward and backward of the bare student, nothing else."""
    device, side = phase.accelerator.device, phase.data.image_size
    layout = torch.channels_last
    student: Any = fresh_model(phase, recipe.student, recipe.training)
    student = student.to(device, memory_format=layout).train()
    if recipe.train.compile:
        student = torch.compile(student)
    images = torch.randn(phase.data.batch_size, 3, side, side, device=device)
    images = images.contiguous(memory_format=layout)
    labels = torch.arange(len(images), device=device) % len(phase.dataset.classes)

    def step() -> None:
        bf16 = uses_bf16(recipe.train.precision, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16), small_grids(device):
            loss = F.cross_entropy(student(images).float(), labels)
        loss.backward()
        student.zero_grad(set_to_none=True)

    return step


class OneByOne(Dataset):  # type: ignore[type-arg]
    """Pictures transformed one by one, as in the published code."""

    def __init__(self, split: Split, side: int, crop: str) -> None:
        from torchvision import transforms as T

        geometry = [T.RandomCrop(STORED, padding=4)] if crop == "pad" else []
        if crop == "random-resized":
            geometry = [T.RandomResizedCrop(side, interpolation=T.InterpolationMode.BICUBIC)]
        self.split = split
        self.transform = T.Compose([*geometry, T.RandomHorizontalFlip(), T.ToTensor()])

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.split.image(index)), int(self.split.labels[index])


def plain_step(phase: Phase, recipe: Recipe) -> Step:
    """A step of a loop written as the published code works."""
    device = phase.accelerator.device
    task, teacher = student_of(phase, recipe, "mldr-kd")
    assert teacher is not None
    task.to(device).train()
    model, normalise = teacher.model.to(device), teacher.normalise.to(device)
    optimizer = torch.optim.SGD(task.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    data = OneByOne(phase.dataset.train, phase.data.image_size, recipe.augment.crop)
    workers = 0 if device.type == "cpu" else min(16, usable_cores())
    loader: DataLoader[Any] = DataLoader(
        data,
        batch_size=phase.data.batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        drop_last=True,
        persistent_workers=workers > 0,
    )
    batches = endless(loader)
    sums: dict[str, float] = {}

    def step() -> None:
        images, labels = (part.to(device) for part in next(batches))
        pixels = 255 * images
        with torch.no_grad():
            answers = model(normalise(pixels))
        output = forward_stages(task.student, task.normalise(pixels), task._plan)
        losses = {"labels": F.cross_entropy(output.logits, labels, label_smoothing=0.1)}
        for number, head in enumerate(heads(task.method, output)):
            losses |= {f"{number}.{k}": v for k, v in textbook(head, answers).items()}
        torch.stack(list(losses.values())).sum().backward()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        optimizer.step()
        optimizer.zero_grad()

    return step


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    """Epoch after epoch."""
    while True:
        yield from loader


def heads(method: Method, output: Any) -> list[Tensor]:
    """All logits that are distilled."""
    return [z for group, _ in method.heads(output).values() for z in group]  # type: ignore


def textbook(student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    """DFRA of one head through softmaxes of the explicit relations."""
    scale = 1 / math.sqrt(teacher.shape[1])

    def relation(ours: Tensor, theirs: Tensor) -> Tensor:
        log_q = F.log_softmax(torch.einsum("ni,nj->nij", ours, ours) * scale, dim=1)
        p = F.softmax(torch.einsum("ni,nj->nij", theirs, theirs) * scale, dim=1)
        return F.kl_div(log_q, p, reduction="none").sum(dim=1).mean()

    probability = F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")
    return {
        "class": relation(student, teacher),
        "sample": relation(student.T, teacher.T),
        "probability": 2 * probability,
    }


def count(trainer: Trainer) -> float:
    """Floating-point operations of a step's products and convolutions.

    Three times the forward pass of what is trained (PyTorch's counter takes the backward pass of a
    grouped convolution for that of a full one), once the teacher's.
    """
    view = next(trainer.views.epoch(0))
    step = MethodStep(view.targets, view.indices, torch.zeros((), device=trainer.device))
    assert trainer.teacher is not None
    with FlopCounterMode(display=False) as taught:
        answers = trainer.teacher(view.images)
    with FlopCounterMode(display=False) as learnt, torch.no_grad():
        trainer.task(view.images, answers, step)
    return float(3 * learnt.get_total_flops() + taught.get_total_flops())


def product_rate(device: str, bf16: bool) -> float:
    """Operations a second of a large matrix product."""
    size, dtype = 8192 if device == "cuda" else 1024, torch.bfloat16 if bf16 else torch.float32
    left = torch.randn(size, size, device=device, dtype=dtype)
    taken = in_turns({"product": lambda: left @ left}, 9, device)["product"]
    return 2 * size**3 / taken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="cifar100-cpu")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    main(load_recipe(given.recipe, given.settings), given.device, given.steps, given.classes)
