"""Each way of the selective scan: time and peak memory, forward alone and with backward.

    python benchmarks/selective_scan.py [THREADS] [BATCH]

The scan of Vim-Ti's mixer, both directions (384 channels, 16 states each), float32, at the lengths
64, 197 (224 px, patches of 16) and 785 (448 px). Every way and length is measured in a process
of its own: medians, warm, and the peak of the memory over what the process held before. On a CPU
the time is the processor's, over all threads, so that other processes count little; on a GPU the
clock's. `exp` is the floor of the ways without a kernel: one exponential for every state of every
position. The kernel's row says "not measured" without a CUDA GPU and mamba-ssm. The last line is
JSON.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".src"))

LENGTHS = (64, 197, 785)
WAYS = ("sequential", "chunked", "kernel")
CHANNELS, STATES = 384, 16

Figures = dict[str, float]


def main(threads: int, batch: int) -> None:
    """Measure every way in fresh processes, print a table and the JSON line."""
    print(f"batch {batch}, 2 x {CHANNELS} channels, {STATES} states, float32, {threads} threads")
    print(f"{'L':>5}  {'way':12}{'forward':>12}{'+ backward':>12}{'memory':>12}{'exp floor':>12}")
    rows = []
    for length in LENGTHS:
        found = {way: measured(way, length, threads, batch) for way in WAYS}
        for way, one in found.items():
            print(f"{length:5}  {way:12}" + (line(one) if one else f"{'not measured':>12}"))
        rows.append({"length": length, **found})
    print(json.dumps({"batch": batch, "threads": threads, "lengths": rows}))


def line(one: Figures) -> str:
    """One way's figures as columns."""
    times = "".join(f"{one[name]:9.1f} ms" for name in ("forward_ms", "both_ms"))
    return f"{times}{one['peak_mib']:8.0f} MiB{one['exp_ms']:9.1f} ms"


def measured(way: str, length: int, threads: int, batch: int) -> Figures | None:
    """One way at one length, in a process of its own; None where it cannot run."""
    command = [sys.executable, __file__, str(threads), str(batch), way, str(length)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: Figures | None = json.loads(done.stdout)
    return found


def measure(way: str, length: int, threads: int, batch: int) -> Figures | None:
    """Median milliseconds and peak MiB of one way, and the floor."""
    import torch

    from mldr_deploy.models.selective_scan import cuda_kernel, selective_scan

    if way == "kernel" and not (torch.cuda.is_available() and cuda_kernel()):
        return None
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device)

    x, dt = normal(batch, length, 2, CHANNELS), 0.1 * normal(batch, length, 2, CHANNELS).abs()
    B, C = normal(batch, length, 2, STATES), normal(batch, length, 2, STATES)
    A, D = -normal(2, CHANNELS, STATES).exp(), normal(2, CHANNELS)
    leaves = [t.requires_grad_() for t in (x, dt, A, B, C, D)]

    def forward() -> None:
        with torch.no_grad():
            selective_scan(*leaves, way=way)

    def both() -> None:
        torch.autograd.grad(selective_scan(*leaves, way=way).sum(), leaves)

    selective_scan(*(t[:1, :2] if t.ndim == 4 else t for t in leaves), way=way).sum().backward()
    before = peak(device)
    both()
    used = peak(device) - before
    block = normal(1 << 18)
    exponentials = 2 * batch * length * CHANNELS * STATES
    floor = median(lambda: torch.exp(block, out=block).clamp_(max=1), device, 20)
    return {
        "forward_ms": round(median(forward, device), 2),
        "both_ms": round(median(both, device), 2),
        "peak_mib": round(used, 1),
        "exp_ms": round(floor * exponentials / block.numel(), 2),
    }


def median(work: Callable[[], object], device: str, runs: int = 3) -> float:
    """Median milliseconds of ``work``, warm, the GPU waited for."""
    import torch

    clock = time.perf_counter if device == "cuda" else time.process_time
    taken = []
    for run in range(runs + 1):
        began = clock()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        if run:
            taken.append(1000 * (clock() - began))
    return statistics.median(taken)


def peak(device: str) -> float:
    """Most MiB held so far: of the GPU, or resident."""
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    given = sys.argv[1:]
    count, images = (int(v) for v in (given + ["2", "4"][len(given) :])[:2])
    if len(given) > 2:
        print(json.dumps(measure(given[2], int(given[3]), count, images)))
    else:
        main(count, images)
