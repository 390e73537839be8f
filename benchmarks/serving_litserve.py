"""The bundle's artifact in LitServe, for benchmarks/serving.py: BUNDLE MAX_BATCH PORT."""

import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
from fastapi import Request

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".src"))

from mldr_deploy.bundle.picture import open_picture
from mldr_deploy.bundle.reader import open_bundle
from mldr_deploy.runtimes.runtime import RuntimeOptions
from mldr_deploy.runtimes.runtime_choice import open_runtime


class Classifier(litserve.LitAPI):
    """A form with `file`: raw float32 tensor (`kind` tensor) or an encoded image."""

    def setup(self, device: str) -> None:
        options = RuntimeOptions(threads=1)
        self.runtime = open_runtime(
            open_bundle(Path(sys.argv[1])), "onnxruntime-cpu", None, options
        )
        self.runtime.load()
        self.shape = (3, *self.runtime.model.preprocessing.size)

    def decode_request(self, request: Request) -> Any:  # LitServe passes its form
        form: Any = request
        data = form["file"].file.read()
        if form["kind"] == "tensor":
            return np.frombuffer(data, "<f4").reshape(self.shape)
        return self.runtime.preprocess([open_picture(data)])[0]

    def batch(self, inputs: list[Any]) -> Any:
        return np.stack(inputs)

    def predict(self, x: Any) -> Any:
        return self.runtime(x if x.ndim == 4 else x[None])

    def unbatch(self, output: Any) -> list[Any]:
        return list(output)

    def encode_response(self, output: Any) -> Any:
        return {"logits": np.ravel(output).tolist()}


if __name__ == "__main__":
    api = Classifier(max_batch_size=int(sys.argv[2]), batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, timeout=30, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[3]), generate_client_file=False, log_level="error"
    )
