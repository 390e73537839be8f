"""Our HTTP service beside LitServe and beside the bare runtime: throughput, latency, overload.

    python benchmarks/serving.py BUNDLE [--max-batch 8] [--seconds 4] [--rounds 5] [--out DIR]

Everyone runs the same artifact in ONNX Runtime on one thread, with the same largest batch and no
added delay; servers and load run in processes of their own, and who is not being measured is
stopped (SIGSTOP), since LitServe polls its queues even when nobody asks. Work comes in two forms:
`tensor`, one preprocessed image a request (ours: the protocol's binary form; LitServe: a form's
file, its most compact one), and `upload`, an encoded image. Rounds take turns, so that what else
happens on the machine meets all alike; figures are medians over rounds, and CPU seconds of the
whole server are told beside wall time because they depend less on neighbours. Half load is a
Poisson stream at half of the slower server's throughput. Needs `pip install litserve`. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".src"))
HERE = Path(__file__).resolve().parent
PATHS = [str(ROOT / ".src"), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(PATHS), "OMP_NUM_THREADS": "1"}
Result = dict[str, Any]


@dataclass
class Server:
    """A server process, or two."""

    name: str
    process: subprocess.Popen[str]
    port: int

    def tree(self) -> list[Any]:
        """The process and all that it started."""
        import psutil

        whole = psutil.Process(self.process.pid)
        return [whole, *whole.children(recursive=True)]

    def cpu(self) -> float:
        """CPU seconds used so far."""
        return float(sum(sum(one.cpu_times()[:2]) for one in self.tree()))

    def hold(self, stop: bool) -> None:
        """Stop all of it, or let it go on."""
        for one in self.tree():
            one.send_signal(signal.SIGSTOP if stop else signal.SIGCONT)

    def memory(self) -> float:
        """Resident memory now, MiB."""
        return float(sum(one.memory_info().rss for one in self.tree()) / 2**20)


@contextmanager
def ours(bundle: Path, max_batch: int, *more: str) -> Iterator[Server]:
    """`mldr-deploy serve`."""
    options = ["--port", "0", "--runtime", "onnxruntime-cpu", "--threads", "1"]
    options += ["--max-batch", str(max_batch), *more]
    command = [sys.executable, "-m", "mldr_deploy", "serve", str(bundle), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            break
    else:
        raise SystemExit("our server did not start")
    yield from _running(Server("mldr-deploy", process, int(found.group(1))))


@contextmanager
def litserve(bundle: Path, max_batch: int) -> Iterator[Server]:
    """The same artifact in LitServe (serving_litserve.py)."""
    port = 18_500 + os.getpid() % 1000
    command = [sys.executable, str(HERE / "serving_litserve.py"), str(bundle), str(max_batch)]
    process = subprocess.Popen(
        [*command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
        env=ENVIRONMENT, start_new_session=True,
    )  # fmt: skip
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                if answer.status == 200:
                    break
        except OSError:
            time.sleep(0.2)
    else:
        raise SystemExit("LitServe did not start")
    yield from _running(Server("litserve", process, port), group=True)


def _running(server: Server, group: bool = False) -> Iterator[Server]:
    try:
        yield server
    finally:
        server.hold(False)
        if group:
            os.killpg(server.process.pid, signal.SIGTERM)
        else:
            server.process.send_signal(signal.SIGTERM)
        try:
            server.process.wait(20)
        except subprocess.TimeoutExpired:
            server.process.kill()


def load(server: Server, bundle: Path, form: str, seconds: float, **options: float) -> Result:
    """Load from a process of its own; adds the server's CPU seconds for an image."""
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, str(HERE / "serving_load.py"), str(bundle), server.name, form]
    command += [str(server.port), f"--seconds={seconds}", *words]
    before = server.cpu()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
    result: Result = json.loads(done.stdout.splitlines()[-1])
    result["cpu_ms_an_image"] = 1000 * (server.cpu() - before) / max(1, result["answered"])
    return result


def bare(bundle: Path, batch: int, seconds: float) -> Result:
    """The runtime alone at a batch size: images a second and CPU milliseconds an image."""
    script = (
        "import json, resource, sys, time; from pathlib import Path\n"
        "import numpy as np\n"
        "from mldr_deploy.bundle.reader import open_bundle\n"
        "from mldr_deploy.runtimes.runtime import RuntimeOptions\n"
        "from mldr_deploy.runtimes.runtime_choice import open_runtime\n"
        "bundle, batch, seconds = open_bundle(Path(sys.argv[1])), int(sys.argv[2]), sys.argv[3]\n"
        "inputs = np.concatenate([bundle.golden.inputs] * (1 + batch // 4))\n"
        "with open_runtime(bundle, 'onnxruntime-cpu', None, RuntimeOptions(threads=1)) as run:\n"
        "    for _ in range(10): run(inputs[:batch])\n"
        "    count, cpu, begin = 0, time.process_time(), time.perf_counter()\n"
        "    while time.perf_counter() - begin < float(seconds):\n"
        "        at = count % (len(inputs) - batch + 1)\n"
        "        run(inputs[at : at + batch]); count += batch\n"
        "    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu\n"
        "print(json.dumps({'throughput': count / wall, 'cpu_ms_an_image': 1000 * cpu / count}))\n"
    )
    command = [sys.executable, "-c", script, str(bundle), str(batch), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
    result: Result = json.loads(done.stdout)
    return result


@contextmanager
def alone(server: Server | None, servers: tuple[Server, ...]) -> Iterator[None]:
    """Only ``server`` runs, or none of them."""
    others = [one for one in servers if one is not server]
    for one in others:
        one.hold(True)
    try:
        yield
    finally:
        for one in others:
            one.hold(False)


def batches(server: Server) -> tuple[float, float]:
    """(images, batches) that our server has computed."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        text = answer.read().decode()
    found = [re.search(rf"^{name} (\S+)$", text, re.M) for name in (
        "mldr_batch_images_sum", "mldr_batch_images_count")]  # fmt: skip
    return tuple(float(one.group(1)) if one else 0.0 for one in found)  # type: ignore[return-value]


def median(results: list[Result], key: str) -> float:
    """Over rounds."""
    return statistics.median(result[key] for result in results)


def throughput(bundle: Path, form: str, max_batch: int, seconds: float, rounds: int) -> Result:
    """Closed loop with twice as many clients as a batch holds; then half load."""
    found: dict[str, list[Result]] = {"bare": [], "mldr-deploy": [], "litserve": []}
    half: dict[str, list[Result]] = {"mldr-deploy": [], "litserve": []}
    with ours(bundle, max_batch) as own, litserve(bundle, max_batch) as lit:
        for server in (own, lit):
            load(server, bundle, form, 1, clients=2 * max_batch)  # warm-up
        images, count = batches(own)
        both = (own, lit)
        for _ in range(rounds):
            with alone(None, both):
                found["bare"].append(bare(bundle, max_batch, seconds))
            for server in both:
                with alone(server, both):
                    found[server.name].append(
                        load(server, bundle, form, seconds, clients=2 * max_batch)
                    )
        after = batches(own)
        rate = 0.5 * min(median(found[one.name], "throughput") for one in both)
        for _ in range(rounds):
            for server in both:
                with alone(server, both):
                    half[server.name].append(load(server, bundle, form, seconds, rate=rate))
    mean_batch = (after[0] - images) / max(1, after[1] - count)
    return {
        "form": form,
        "mean_batch": mean_batch,
        "half_rate": rate,
        "closed": found,
        "half": half,
    }


def overload(bundle: Path, max_batch: int, seconds: float) -> Result:
    """Ten times what the server can, as uploads; then whether it still works and what it holds."""
    with ours(bundle, max_batch, "--max-queue", "64", "--deadline", "2") as server:
        capacity = load(server, bundle, "upload", seconds, clients=2 * max_batch)["throughput"]
        first = load(server, bundle, "upload", seconds, rate=10 * capacity)
        memory = [server.memory()]
        for _ in range(3):
            last = load(server, bundle, "upload", seconds, rate=10 * capacity)
            memory.append(server.memory())
        after = load(server, bundle, "upload", 1, clients=1)
        alive = server.process.poll() is None
    statuses: dict[str, int] = {}
    for run in (first, last):
        for status, count in run["statuses"].items():
            statuses[status] = statuses.get(status, 0) + count
    return {
        "capacity": capacity,
        "offered": last["offered"],
        "answered": last["throughput"],
        "statuses": statuses,
        "wrong": first["wrong"] + last["wrong"] + after["wrong"],
        "p99_ms": last["p99_ms"],
        "memory_mib": [round(one, 1) for one in memory],
        "alive": alive and after["statuses"].keys() == {"200"},
    }


def summary(result: Result) -> Result:
    """Medians and the ratios that the targets are about."""
    closed, half = result["closed"], result["half"]
    told: Result = {"form": result["form"], "mean_batch": round(result["mean_batch"], 2)}
    for name, runs in closed.items():
        told[f"{name} images/s"] = round(median(runs, "throughput"), 1)
        told[f"{name} CPU ms/image"] = round(median(runs, "cpu_ms_an_image"), 3)
    for name, runs in half.items():
        told[f"{name} half-load p50 ms"] = round(median(runs, "p50_ms"), 2)
        told[f"{name} half-load p99 ms"] = round(median(runs, "p99_ms"), 2)
    each = zip(closed["bare"], closed["mldr-deploy"], closed["litserve"], strict=True)
    ratios = [(b["throughput"], o["throughput"], s["throughput"]) for b, o, s in each]
    told["throughput over LitServe"] = round(statistics.median(o / s for _, o, s in ratios), 3)
    told["throughput over bare"] = round(statistics.median(o / b for b, o, _ in ratios), 3)
    cpu = {name: told[f"{name} CPU ms/image"] for name in closed}
    told["bare CPU over ours"] = round(cpu["bare"] / cpu["mldr-deploy"], 3)
    told["bare CPU over LitServe"] = round(cpu["bare"] / cpu["litserve"], 3)
    pairs = zip(half["mldr-deploy"], half["litserve"], strict=True)
    told["p99 over LitServe"] = round(
        statistics.median(o["p99_ms"] / s["p99_ms"] for o, s in pairs), 3
    )
    told["wrong"] = sum(run["wrong"] for runs in (*closed.values(), *half.values())
                        for run in runs if "wrong" in run)  # fmt: skip
    return told


def main() -> None:
    """Measure, print for people, end with the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--max-batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--forms", default="tensor,upload")
    parser.add_argument("--skip-overload", action="store_true")
    asked = parser.parse_args()
    whole: Result = {"max_batch": asked.max_batch, "seconds": asked.seconds, "rounds": asked.rounds}
    whole["load_average"] = os.getloadavg()
    whole["workloads"] = []
    for form in filter(None, asked.forms.split(",")):
        told = summary(throughput(asked.bundle, form, asked.max_batch, asked.seconds, asked.rounds))
        whole["workloads"].append(told)
        for key, value in told.items():
            print(f"{key:32}{value}", flush=True)
        print()
    if not asked.skip_overload:
        whole["overload"] = overload(asked.bundle, asked.max_batch, asked.seconds)
        for key, value in whole["overload"].items():
            print(f"overload {key:23}{value}", flush=True)
    print(json.dumps(whole))


if __name__ == "__main__":
    main()
