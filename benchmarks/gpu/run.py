"""Everything that needs an NVIDIA GPU, in two steps on a machine that is lent for minutes.

    python3 benchmarks/gpu/run.py STEP [--archive gpu.zip] [--folder build/gpu/results] [--rehearse]

Needs Python with PyTorch for CUDA, timm and what else images for training hold; the few packages
that they lack, and the data, come from `benchmarks/gpu/pack`. No installation and no network. Step
1 takes at most 3 minutes, step 2 at most 8.5 and needs all of the data; limits, parts and their
order are in schedule.py. Every figure is in the archive as soon as it is there. A part that fails
leaves its traceback there and the next one runs; the same command goes on with what is missing. The
card's settings are read and never changed. On a fresh machine unpack an earlier archive into FOLDER
to go on from it; runs of the comparison then begin anew.

--rehearse does the same on a CPU, at sizes that take seconds: no figure of it means anything. Exit
code 1 where a part has no result, 2 where the run could not begin. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".src"))
# Last, since names there, as coverage, are also those of packages.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from carried import prepend, use_data, use_wheels
from clocks import query
from results import Results
from runner import run_step
from scale import FULL, REHEARSAL, Scale

from mldr_deploy.errors import MldrError, Unavailable

BEGAN = time.time()
ROOT = Path(__file__).resolve().parents[2]
CARRIED = ROOT / "build" / "gpu" / "carried"
FOLDERS = {False: ROOT / "build" / "gpu" / "results", True: ROOT / "build" / "gpu" / "rehearsal"}


def main(number: int, folder: Path, archive: Path, carried: Path, scale: Scale) -> int:
    """Carry out a step; gives the exit code. Raises MldrError where it cannot begin."""
    prepend(ROOT / ".src")
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # asking for a GPU must not start CUDA here
    if scale.rehearsal:
        os.environ["OMP_NUM_THREADS"] = "1"
    use_wheels(carried, carried.parent / "site")
    if number == 2:
        use_data(carried, carried.parent / "data")
    results = Results(folder.resolve(), archive.resolve())
    results.require_same({"rehearsal": scale.rehearsal, "card": card(scale)})
    from schedule import MODULES, step_of

    for module in MODULES:
        import_module(module)
    states = run_step(step_of(number, scale, results), results, BEGAN)
    seconds = round(time.time() - BEGAN, 1)
    line = {"step": number, "seconds": seconds, "archive": str(archive), "parts": states}
    print(json.dumps(line))
    return 0 if set(states.values()) == {"done"} else 1


def card(scale: Scale) -> str | None:
    """The GPU's name; None in a rehearsal. Raises Unavailable where there is none.

    Asked of nvidia-smi, since forks must find CUDA untouched.
    """
    if scale.rehearsal:
        return None
    name = query(["name"])
    if not name:
        raise Unavailable(
            "nvidia-smi shows no GPU here: run this on a machine that has one, or rehearse it on "
            "the CPU with --rehearse"
        )
    return name


def stop(signum: int, frame: object) -> None:
    """SIGTERM ends the run in good order, as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", type=int, choices=(1, 2))
    parser.add_argument("--archive", type=Path, default=Path("gpu.zip"))
    parser.add_argument("--folder", type=Path, help="where figures gather")
    parser.add_argument("--carried", type=Path, default=CARRIED, help="what pack wrote")
    parser.add_argument("--rehearse", action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    try:
        chosen = REHEARSAL if given.rehearse else FULL
        folder = given.folder or FOLDERS[given.rehearse]
        code = main(given.step, folder, given.archive, given.carried.resolve(), chosen)
    except MldrError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what was imported takes seconds to end, and has nothing to end
