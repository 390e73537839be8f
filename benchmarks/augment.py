"""What augmenting a batch costs, beside torchvision picture by picture and beside a copy.

    python benchmarks/augment.py [BATCH] [SIZE]

`copy` (reading and writing every byte once) is the floor of anything that makes a new batch.
Medians on one thread, warm. The last line is JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".src"))

from torchvision.transforms import v2

from mldr_deploy.data.augment import Augment, Mix
from mldr_deploy.data.data_config import AugmentConfig

CONFIGS = {
    "pad, crop, flip": AugmentConfig(),
    "random resized crop, flip": AugmentConfig(crop="random-resized"),
    "pad, crop, flip, RandAugment 9": AugmentConfig(randaugment=9),
    "all with erasing 0.25": AugmentConfig(randaugment=9, erase=0.25),
}


def milliseconds(work: Callable[[], object], seconds: float = 1.0) -> float:
    """Median time of ``work``, over at least 10 runs and ``seconds``."""
    for _ in range(3):
        work()
    taken: list[float] = []
    while len(taken) < 10 or sum(taken) < seconds:
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def main(batch: int, size: int) -> None:
    """Measure, print a table and the JSON line."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    labels = torch.randint(0, 100, (batch,))
    one_by_one = v2.Compose([v2.RandomCrop(size, padding=4), v2.RandomHorizontalFlip()])
    mix = Mix(AugmentConfig(mixup=0.8, cutmix=1.0))
    work: dict[str, Callable[[], object]] = {
        "copy": pixels.clone,
        "torchvision, one by one: pad, crop, flip": lambda: [one_by_one(one) for one in pixels],
        "mixup or CutMix": lambda: mix(pixels, labels, 100, generator),
    }
    for name, config in CONFIGS.items():
        augment = Augment(config, size)
        work[name] = lambda augment=augment: augment(pixels, generator)
    taken = {name: milliseconds(run) for name, run in work.items()}
    print(f"{batch} pictures of {size} x {size}, uint8, 1 thread")
    for name, value in taken.items():
        print(f"{name:44s} {value:9.3f} ms  {1000 * value / batch:8.1f} us a picture")
    print(json.dumps({"batch": batch, "size": size, "milliseconds": taken}))


if __name__ == "__main__":
    given = [int(value) for value in sys.argv[1:]]
    main(*given, *(128, 32)[len(given) :])
