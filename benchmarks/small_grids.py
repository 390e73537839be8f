"""A training step at a small image size, small grids as products beside PyTorch's own kernels.

    python benchmarks/small_grids.py [--size 32] [--batch 128] [--threads 1] [MODEL ...]

Forward and backward of a bare timm model in fp32 on a CPU, in channels_last, the two ways in turns,
medians of processor time, which other work disturbs least; then single convolutions, their grid at
the end of the name. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".src"))

import timm
import torch
import torch.nn.functional as F
from step import in_turns
from torch import nn

from mldr_deploy.distill.small_grids import SmallGrids

MODELS = (
    "resnet18",
    "resnet50",
    "regnetx_002",
    "mobilenetv2_050",
    "mobilenetv3_small_100",
    "efficientnet_lite0",
    "mobilevitv2_050",
    "ghostnet_100",
    "repvit_m0_9",
    "convnext_atto",
    "pvt_v2_b0",
)
# channels in, out, groups, grid's side, stride; kernel 3
CONVOLUTIONS = (
    (512, 512, 1, 1, 1),
    (256, 512, 1, 2, 2),
    (256, 256, 1, 2, 1),
    (368, 368, 46, 1, 1),
    (256, 256, 256, 2, 1),
    (256, 256, 256, 2, 2),
    (256, 256, 256, 1, 1),
)
Ratio = dict[str, float]


def main(models: list[str], size: int, batch: int, rounds: int) -> None:
    """Measure, print a table and the JSON line."""
    print(f"batch {batch}, {size} px, {torch.get_num_threads()} threads, torch {torch.__version__}")
    found: dict[str, Ratio] = {}
    for name in models:
        found[name] = show(name, both_ways(step_of(name, size, batch)), rounds)
    for shape in CONVOLUTIONS:
        inputs, outputs, groups, side, stride = shape
        name = f"conv {inputs}-{outputs} /{stride} groups {groups} on {side}x{side}"
        found[name] = show(name, both_ways(convolution(shape, batch)), rounds)
    print(json.dumps({"batch": batch, "size": size, "threads": torch.get_num_threads(), **found}))


def show(name: str, ways: dict[str, Callable[[], object]], rounds: int) -> Ratio:
    """Measure in turns; one line of the table, and its figures."""
    taken = in_turns(ways, rounds, "cpu")
    plain, products = (1000 * taken[way] for way in ("pytorch", "products"))
    print(f"{name:40}{plain:9.1f} ms{products:9.1f} ms{plain / products:8.2f}x", flush=True)
    return {"pytorch_ms": round(plain, 2), "products_ms": round(products, 2)}


def both_ways(step: Callable[[], object]) -> dict[str, Callable[[], object]]:
    """``step`` as PyTorch has it and with products."""

    def products() -> None:
        with SmallGrids():
            step()

    return {"pytorch": step, "products": products}


def step_of(name: str, size: int, batch: int) -> Callable[[], object]:
    """Forward and backward of a model on labels."""
    model = timm.create_model(name, num_classes=100).train()
    model = model.to(memory_format=torch.channels_last)
    pixels = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 100

    def step() -> None:
        F.cross_entropy(model(pixels), labels).backward()
        model.zero_grad(set_to_none=True)

    return step


def convolution(shape: tuple[int, int, int, int, int], batch: int) -> Callable[[], object]:
    """Forward and backward of one convolution, its input's gradient too."""
    inputs, outputs, groups, side, stride = shape
    layer = nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False)
    layer = layer.to(memory_format=torch.channels_last)
    pixels = torch.randn(batch, inputs, side, side).contiguous(memory_format=torch.channels_last)
    pixels.requires_grad_()
    gradient = torch.randn_like(layer(pixels))
    return lambda: torch.autograd.grad(layer(pixels), (pixels, layer.weight), gradient)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL")
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    main(given.models, given.size, given.batch, given.rounds)
