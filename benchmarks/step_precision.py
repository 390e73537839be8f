"""What `train.precision` costs on a CPU: students at several sizes in fp32, in bf16, and between.

    python benchmarks/step_precision.py [STUDENT ...] [--sizes 32,64,128] [--threads 1]

A step is forward, cross-entropy, backward and SGD of the student alone. `bf16` is autocast with
narrow groups (depthwise convolutions) in bf16 too, `ours` leaves them in fp32, as `auto` does
where the CPU has bf16. Images a second of processor time, in turns, medians, so that other work on
the machine hardly changes them. Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".src"))

from mldr_deploy.bundle.processor import processor
from mldr_deploy.distill import small_grids as convolutions
from mldr_deploy.distill.memory import make_ready

CPU = torch.device("cpu")
STUDENTS = ("resnet18", "efficientnet_lite0", "mobilenetv2_050", "mobilenetv3_small_100")
STUDENTS += ("regnetx_002", "convnext_atto", "ghostnet_100", "mnasnet_050", "deit_tiny_patch16_224")
FORMS = ("fp32", "bf16", "ours")
NARROW = convolutions._NARROW
ROUNDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("students", nargs="*", default=STUDENTS)
    parser.add_argument("--sizes", default="32,64,128", help="pixels, with commas between")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    make_ready(CPU)
    rows = []
    print(f"{'student':24} side {'fp32':>7} {'bf16':>7} {'ours':>7}  ours over the better")
    for name in given.students:
        for side in map(int, given.sizes.split(",")):
            speeds = measure(name, side, batch=max(8, 2048 // side))
            gain = speeds["ours"] / max(speeds["fp32"], speeds["bf16"])
            columns = " ".join(f"{speeds[form]:7.1f}" for form in FORMS)
            print(f"{name:24} {side:4} {columns}  {gain:.2f}", flush=True)
            rows.append({"student": name, "side": side, **speeds})
    line = {"benchmark": "step precision", "machine": processor(), "threads": given.threads}
    print(json.dumps({**line, "images_per_second": rows}))


def measure(name: str, side: int, batch: int) -> dict[str, float]:
    """Images a second of processor time, by form."""
    steps = {form: step_of(name, side, batch, form) for form in FORMS}
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    for number in range(1 + ROUNDS):
        for form, step in steps.items():
            began = time.process_time()
            step()
            if number:  # the first one warms up
                seconds[form].append(time.process_time() - began)
    return {form: round(batch / statistics.median(times), 1) for form, times in seconds.items()}


def step_of(name: str, side: int, batch: int, form: str) -> Callable[[], None]:
    """One training step of the student on random pictures."""
    torch.manual_seed(0)
    sized = {"img_size": side} if "vit" in name or "deit" in name else {}
    model = timm.create_model(name, num_classes=100, **sized).train()
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True
    )
    pixels = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 100, (batch,))

    def step() -> None:
        convolutions._NARROW = NARROW if form == "ours" else 0
        bf16 = torch.autocast("cpu", torch.bfloat16, enabled=form != "fp32")
        with bf16, convolutions.small_grids(CPU):
            loss = F.cross_entropy(model(pixels).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()
