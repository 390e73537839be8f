"""DFRA in closed form beside its textbook form: time and peak memory, forward and backward.

    python benchmarks/dfra.py [THREADS]

Six heads (logits, four stages, their fusion) against one teacher, as in a step of MLDR-KD. The
textbook form makes the softmaxes of the explicit outer products anew for every head, as the
published code does, and runs backward head by head, which is kind to its memory. Every form and
size is measured in a process of its own: the two in turn, medians, peak of the resident memory
over what the process held before. `exp` is the floor that both stand on: the time of as many
exponentials as the closed form needs, over a block in cache. The last line is JSON.
"""

from __future__ import annotations

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".src"))

HEADS = 6
SIZES = {(128, 100): 9, (128, 200): 5, (256, 1000): 1}  # (batch, classes): runs
FORMS = ("textbook", "closed")


def main(threads: int) -> None:
    """Measure every size in fresh processes, print a table and the JSON line."""
    rows = []
    print(f"{HEADS} heads, forward and backward, float32, {threads} threads")
    print(f"{'size':14}{'form':10}{'time':>12}{'memory':>12}{'exp floor':>12}")
    for batch, classes in SIZES:
        found = {form: measured(form, batch, classes, threads) for form in FORMS}
        for form, one in found.items():
            size = f"B{batch} C{classes}" if form == FORMS[0] else ""
            times = f"{one['milliseconds']:9.1f} ms{one['peak_mib']:8.0f} MiB"
            print(f"{size:14}{form:10}{times}{one['exp_milliseconds']:9.1f} ms")
        faster = found["textbook"]["milliseconds"] / found["closed"]["milliseconds"]
        print(f"{'':14}{'':10}{faster:9.2f} x")
        rows.append({"batch": batch, "classes": classes, "faster": round(faster, 2), **found})
    print(json.dumps({"heads": HEADS, "threads": threads, "sizes": rows}))


def measured(form: str, batch: int, classes: int, threads: int) -> dict[str, float]:
    """One form at one size, in a process of its own."""
    command = [sys.executable, __file__, str(threads), form, str(batch), str(classes)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(form: str, batch: int, classes: int, threads: int) -> dict[str, float]:
    """Median milliseconds and peak MiB of one form, and the floor."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    students = [(2 * torch.randn(batch, classes)).requires_grad_() for _ in range(HEADS)]
    teacher = 3 * torch.randn(batch, classes)
    step = {"textbook": textbook_step, "closed": closed_step}[form]
    step([head[:4, :4].detach().requires_grad_() for head in students], teacher[:4, :4])
    before = peak()
    step(students, teacher)
    used = peak() - before
    runs = SIZES[batch, classes]
    taken = median(lambda: step(students, teacher), runs)
    exponentials = (HEADS + 1) * (batch * classes**2 + classes * batch**2)
    block = torch.randn(1 << 20)
    floor = median(lambda: torch.exp(block, out=block).clamp_(max=1), 20)
    return {
        "milliseconds": taken,
        "peak_mib": used,
        "exp_milliseconds": floor * exponentials / block.numel(),
    }


def closed_step(students: list, teacher: object) -> None:  # type: ignore[type-arg]
    """All heads together through `dfra_losses`."""
    from mldr_deploy.distill.dfra import dfra_losses

    sum(terms.total for terms in dfra_losses(students, teacher)).backward()  # type: ignore


def textbook_step(students: list, teacher) -> None:  # type: ignore
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


def median(work: Callable[[], object], runs: int) -> float:
    """Median milliseconds of ``runs`` after one to warm up (none where one run is all)."""
    taken = []
    for _ in range(runs + (runs > 1)):
        began = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken[runs > 1 :])


def peak() -> float:
    """Largest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if len(sys.argv) > 2:
        form, batch, classes = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        print(json.dumps(measure(form, batch, classes, int(sys.argv[1]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count() or 1)
