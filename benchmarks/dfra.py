"""DFRA beside its textbook form and beside the machine's bounds: time and peak memory.

    python benchmarks/dfra.py [--threads 1] [--device cpu]

Six heads (logits, four stages, their fusion) against one teacher, forward and backward, as in a
step of MLDR-KD. The textbook form makes the softmaxes of the explicit outer products anew for every
head, as the published code does, and runs backward head by head, which is kind to its memory.
`exponentials` is the closed form that makes them one by one, `closed` what training calls (on a CPU
the power series, on a GPU the Triton kernels).

Every form and size is measured in a process of its own. On a CPU time is processor time, which
other work on the machine disturbs least; medians. Memory is the peak over what was held before.
Bounds: `exp` is the time of as many exponentials as the closed form needs without the series, at
the rate of this machine (measured on a block in cache; on a GPU 16 a clock and multiprocessor);
`bytes` is the logits read and the gradients written once, at the bandwidth of a copy. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".src"))

HEADS = 6
SIZES = {  # (batch, classes): runs on a CPU; 0: only a GPU has time for it
    (128, 100): 11,
    (128, 200): 7,
    (256, 1000): 1,
    (1024, 1000): 0,
    (64, 21841): 0,
}
FORMS = {"cpu": ("textbook", "exponentials", "closed"), "cuda": ("textbook", "closed")}


def main(device: str, threads: int) -> None:
    """Measure every size in fresh processes, print a table and the JSON line."""
    rows = []
    print(f"{HEADS} heads, forward and backward, float32, {device}, {threads} threads")
    print(f"{'size':15}{'form':14}{'time':>13}{'memory':>12}{'exp bound':>13}{'bytes bound':>14}")
    for (batch, classes), runs in SIZES.items():
        if device == "cpu" and not runs:
            continue
        found = {form: measured(form, batch, classes, device, threads) for form in FORMS[device]}
        for form, one in found.items():
            size = f"B{batch} C{classes}" if form == FORMS[device][0] else ""
            print(f"{size:15}{form:14}{told(one)}")
        faster = ratio(found, "milliseconds")
        print(f"{'':29}{faster if faster is None else round(faster, 1)!s:>11} x")
        rows.append({"batch": batch, "classes": classes, "faster": faster, **found})
    print(json.dumps({"device": device, "heads": HEADS, "threads": threads, "sizes": rows}))


def told(one: dict[str, Any]) -> str:
    """One form's figures as columns."""
    if one["milliseconds"] is None:
        return f"{'out of memory':>13}"
    keys = ("exp_milliseconds", "bytes_milliseconds")
    bounds = "".join(f"{one[key]:11.3f} ms" if one[key] else f"{'?':>14}" for key in keys)
    return f"{one['milliseconds']:10.3f} ms{one['peak_mib']:8.0f} MiB{bounds}"


def ratio(found: dict[str, dict[str, Any]], key: str) -> float | None:
    """The textbook form's figure over the closed form's."""
    if found["textbook"][key] is None:
        return None
    return round(found["textbook"][key] / found["closed"][key], 2)


def measured(form: str, batch: int, classes: int, device: str, threads: int) -> dict[str, Any]:
    """One form at one size, in a process of its own."""
    command = [sys.executable, __file__, "--device", device, "--threads", str(threads)]
    command += ["--only", form, str(batch), str(classes)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(form: str, batch: int, classes: int, device: str, threads: int) -> dict[str, Any]:
    """Median milliseconds and peak MiB of one form, and the bounds."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    spread = {"requires_grad": True, "device": device}
    students = [(2 * torch.randn(batch, classes)).to(device).requires_grad_() for _ in range(HEADS)]
    teacher = 3 * torch.randn(batch, classes).to(device)
    step = FORM_STEPS[form]
    step([torch.zeros(4, 4, **spread) for _ in range(HEADS)], teacher[:4, :4])
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()  # of another form in this process
    before = peak(device)
    try:
        step(students, teacher)
    except torch.OutOfMemoryError:
        return {"milliseconds": None}
    used = peak(device) - before
    taken = median(lambda: step(students, teacher), SIZES.get((batch, classes)) or 11, device)
    exponentials = (HEADS + 1) * (batch * classes**2 + classes * batch**2)
    moved = (2 * HEADS + 1) * batch * classes * 4
    bounds = {
        "exp_milliseconds": exponentials / exponential_rate(device) * 1000,
        "bytes_milliseconds": moved / bandwidth(device) * 1000,
    }
    return {"milliseconds": taken, "peak_mib": used, **bounds}


def closed_step(students: list, teacher: Any) -> None:  # type: ignore[type-arg]
    """All heads together through `dfra_losses`."""
    from mldr_deploy.distill.dfra import dfra_losses

    sum(terms.total for terms in dfra_losses(students, teacher)).backward()  # type: ignore


def exponentials_step(students: list, teacher: Any) -> None:  # type: ignore[type-arg]
    """The same without the power series."""
    from mldr_deploy.distill import relations

    relations.terms_needed = lambda exponent, dtype, length: (0, dtype)  # type: ignore
    closed_step(students, teacher)


def textbook_step(students: list, teacher: Any) -> None:  # type: ignore[type-arg]
    """Head by head through softmaxes of the explicit relations."""
    import torch
    import torch.nn.functional as F

    def relation_loss(student, teacher, scale):  # type: ignore
        ours = F.log_softmax(torch.einsum("ni,nj->nij", student, student) * scale, dim=1)
        theirs = F.softmax(torch.einsum("ni,nj->nij", teacher, teacher) * scale, dim=1)
        return F.kl_div(ours, theirs, reduction="none").sum(dim=1).mean()

    scale = 1 / math.sqrt(teacher.shape[1])
    for head in students:
        probability = F.kl_div(head.log_softmax(1), teacher.softmax(1), reduction="batchmean")
        loss = relation_loss(head, teacher, scale) + relation_loss(head.T, teacher.T, scale)
        (loss + 2 * probability).backward()


FORM_STEPS: dict[str, Callable[[list, Any], None]] = {  # type: ignore[type-arg]
    "textbook": textbook_step,
    "exponentials": exponentials_step,
    "closed": closed_step,
}


def median(work: Callable[[], object], runs: int, device: str) -> float:
    """Median milliseconds of ``runs`` after one to warm up (none where one run is all)."""
    taken = []
    for _ in range(runs + (runs > 1)):
        began = now(device)
        work()
        taken.append(1000 * (now(device) - began))
    return statistics.median(taken[runs > 1 :])


def now(device: str) -> float:
    """Seconds: of the processor's work on a CPU; on a GPU when all of its work is done."""
    if device == "cpu":
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


@cache
def exponential_rate(device: str) -> float | None:
    """Exponentials a second."""
    import torch

    if device == "cpu":
        block = torch.randn(1 << 16)
        work = lambda: [torch.exp(block, out=block).clamp_(max=1) for _ in range(50)]  # noqa: E731
        taken = median(work, 9, device)
        return 50 * block.numel() / taken * 1000
    card = torch.cuda.get_device_properties(0)
    return card.multi_processor_count * 16 * clock_rate()


def clock_rate() -> float:
    """Hertz that the GPU's multiprocessors may reach."""
    query = ["nvidia-smi", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[0]) * 1e6


@cache
def bandwidth(device: str) -> float:
    """Bytes a second that a copy reads and writes."""
    import torch

    block = torch.ones(1 << 26, device=device)
    other = torch.empty_like(block)
    return 2 * block.nbytes / median(lambda: other.copy_(block), 9, device) * 1000


def peak(device: str) -> float:
    """Largest memory of this process so far, MiB: resident, or the GPU's."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    import torch

    return torch.cuda.max_memory_allocated() / 2**20


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs=3, metavar=("FORM", "BATCH", "CLASSES"))
    given = parser.parse_args()
    if given.only:
        form, batch, classes = given.only
        print(json.dumps(measure(form, int(batch), int(classes), given.device, given.threads)))
    else:
        main(given.device, given.threads)
