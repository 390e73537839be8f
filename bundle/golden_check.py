"""Whether this device's kernels answer as proven: python check_phone.py, on the device itself.

The machine of the export proved the files; only here its golden pictures meet the kernels that will
run them. Needs numpy and executorch, or ai-edge-litert. Exit code 1 where a file answers otherwise.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def executorch(file: Path) -> Any:
    """What gives logits [C] of an input [1, 3, H, W]."""
    import torch
    from executorch.runtime import Runtime

    method: Any = Runtime.get().load_program(file).load_method("forward")
    return lambda fed: method.execute([torch.tensor(fed)])[0].numpy()[0].copy()


def litert(file: Path) -> Any:
    """What gives logits [C] of an input [1, 3, H, W]."""
    from ai_edge_litert.interpreter import Interpreter

    network = Interpreter(str(file))
    network.allocate_tensors()

    def answer(fed: Any) -> Any:
        network.set_tensor(network.get_input_details()[0]["index"], fed)
        network.invoke()
        return network.get_tensor(network.get_output_details()[0]["index"])[0]

    return answer


LIBRARIES = {"executorch": executorch, "litert": litert}

if __name__ == "__main__":
    folder, wrong = Path(__file__).parent, 0
    golden = np.load(folder / "golden.npz", allow_pickle=False)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for artifact in (a for a in manifest["artifacts"] if a["format"] in LIBRARIES):
        parity = artifact["parity"]
        limit = parity["gate"]["max_dlogit"] or max(2 * parity["max_dlogit"], 1e-3)
        answer = LIBRARIES[artifact["format"]](folder / artifact["file"])
        logits = np.stack([answer(fed[None]) for fed in golden["inputs"]])
        largest = abs(logits - golden["logits"]).max()
        holds = artifact["status"] == "passed" and bool(largest <= limit)
        wrong += not holds
        word = "ok" if holds else "FAILED"
        print(f"{word} {artifact['file']}: |dlogit| {largest:.3g}, allowed {limit:.3g}")
    sys.exit(wrong > 0)
