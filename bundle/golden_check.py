"""Whether this device's kernels answer as proven: python check_phone.py, on the device itself.

The machine of the export proved the files; only here its golden pictures meet the kernels that will
run them. Needs numpy and executorch. Exit code 1 where a file answers otherwise.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def answers(file: Path, inputs: Any) -> Any:
    """The logits [K, C] of ``inputs`` [K, 3, H, W], one image at a time."""
    import torch
    from executorch.runtime import Runtime

    method: Any = Runtime.get().load_program(file).load_method("forward")
    return np.stack([method.execute([torch.tensor(i[None])])[0].numpy()[0].copy() for i in inputs])


if __name__ == "__main__":
    folder, wrong = Path(__file__).parent, 0
    golden = np.load(folder / "golden.npz", allow_pickle=False)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for artifact in (a for a in manifest["artifacts"] if a["format"] == "executorch"):
        parity = artifact["parity"]
        limit = parity["gate"]["max_dlogit"] or max(2 * parity["max_dlogit"], 1e-3)
        largest = abs(answers(folder / artifact["file"], golden["inputs"]) - golden["logits"]).max()
        holds = artifact["status"] == "passed" and bool(largest <= limit)
        wrong += not holds
        word = "ok" if holds else "FAILED"
        print(f"{word} {artifact['file']}: |dlogit| {largest:.3g}, allowed {limit:.3g}")
    sys.exit(wrong > 0)
