"""The input pipeline alone, beside what a training step consumes.

    python benchmarks/input.py [--device cpu] [--batch 128] [--rounds 5]

Images a second of views (the batch is picked, cropped, flipped, augmented, resized, mixed) of
uint8 pictures that lie on the device, and of JPEG files decoded on threads, against the step that
takes most of them: training on labels alone (any distillation takes fewer). At 32 px the step is
that of recipe cifar100-cpu, at 224 px that of cifar100-vit-s-resnet18. On a CPU processor time of
all threads, medians, input and step in turns; on a GPU wall time. Target: input at least twice as
fast as the step, so that it costs a GPU nothing and a CPU, where both share the cores, little. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import step as steps
from PIL import Image

from mldr_deploy.data.augment import Mix
from mldr_deploy.data.data_config import AugmentConfig
from mldr_deploy.data.dataset import load_dataset
from mldr_deploy.data.loader import TrainBatches
from mldr_deploy.distill.views import Views
from mldr_deploy.pipeline.recipe import load_recipe

EVERYTHING = {"randaugment": 9, "mixup": 0.8, "cutmix": 1.0, "erase": 0.25}
CASES = {  # name: recipe, augmentation, from files
    "32 px: pad, crop, flip": ("cifar100-cpu", {}, False),
    "32 px: and RandAugment, mixup or CutMix, erasing": ("cifar100-cpu", EVERYTHING, False),
    "224 px: random resized crop, flip": ("cifar100-vit-s-resnet18", {}, False),
    "224 px: and the rest": ("cifar100-vit-s-resnet18", EVERYTHING, False),
    "224 px: the crop, from JPEG files of 256 px": ("cifar100-vit-s-resnet18", {}, True),
}


def main(device: str, batch: int, rounds: int) -> None:
    """Measure every case, print a table and the JSON line."""
    found: dict[str, Any] = {}
    print(f"{device}, batches of {batch}; images/s")
    print(f"{'':52}{'input':>10}{'step':>10}{'ratio':>8}")
    for name, (recipe, augment, files) in CASES.items():
        rate, consumed = case(recipe, augment, files, device, batch, rounds)
        found[name] = {"input": rate, "step": consumed, "ratio": round(rate / consumed, 2)}
        print(f"{name:52}{rate:10.0f}{consumed:10.0f}{rate / consumed:8.1f}", flush=True)
    print(json.dumps({"device": device, "batch": batch, "images_per_second": found}))


def case(
    name: str, augment: dict[str, float], files: bool, device: str, batch: int, rounds: int
) -> tuple[float, float]:
    """Images a second of the input, and of the step that consumes them."""
    recipe = load_recipe(name, [f"data.batch_size={batch}", "data.val_fraction=0"])
    config = AugmentConfig(**{**recipe.augment.model_dump(), **augment})
    data = recipe.data
    with tempfile.TemporaryDirectory() as folder:
        dataset = steps.pictures(4 * batch)
        phase = steps.phase_of(recipe, dataset, device, Path(folder))
        consume = steps.trainer_step(steps.ready(phase, recipe, "scratch", views=0))
        if files:
            write_files(Path(folder) / "pictures", 2 * batch)
            source = f"folder:{folder}/pictures"
            data = data.model_copy(update={"source": source, "resident_mib": 0})
            dataset = load_dataset(data)
        place = {"device": phase.accelerator.device, "augment": config}
        batches = TrainBatches(dataset.train, data, seed=0, **place)  # type: ignore[arg-type]
        views = Views(batches, Mix(config), classes=len(dataset.classes), seed=0)

        def epoch() -> None:
            for _ in views.epoch(0):
                pass

        per_epoch = views.steps_per_epoch
        taken = steps.in_turns({"input": epoch, "step": consume}, rounds, device)
    return batch * per_epoch / taken["input"], batch / taken["step"]


def write_files(folder: Path, count: int) -> None:
    """Smooth random pictures, as JPEG compresses photographs, two classes."""
    rng = np.random.default_rng(0)
    for split, some in (("train", count), ("val", 2)):
        for number in range(some):
            small = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            image = Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC)
            path = folder / split / "ab"[number % 2] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=90)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    main(given.device, given.batch, given.rounds)
