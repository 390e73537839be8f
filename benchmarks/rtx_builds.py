"""Students of every family, in every precision, through TensorRT-RTX's parser and builder.

    python benchmarks/rtx_builds.py [MODEL:SIZE ...] [--capabilities 8.0,8.6,8.9,12.0]

Needs no GPU, and TensorRT-RTX (pip install "mldr-deploy[tensorrt-rtx]"). The students have random
weights and are calibrated on a few digits: what is shown is that NVIDIA's library takes the graphs
that we write, what it was asked for, how long it builds and how large the engine is; not how fast
or how exact it runs. Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".src"))

import torch

from mldr_deploy.bundle.engine import Profile
from mldr_deploy.bundle.precisions import PRECISIONS
from mldr_deploy.bundle.preprocess import Preprocessing
from mldr_deploy.bundle.processor import processor
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.bundle.trained import TrainedModel
from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import load_dataset
from mldr_deploy.errors import MldrError
from mldr_deploy.export.artifact_kind import ExportContext
from mldr_deploy.export.calibration import Calibration, CalibrationConfig
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.kinds import KINDS
from mldr_deploy.export.precision.precision_config import QuantizeConfig
from mldr_deploy.export.tensorrt.engine_config import EngineConfig
from mldr_deploy.export.tensorrt.lint import lint_file
from mldr_deploy.export.tensorrt.rtx import build_rtx_plan
from mldr_deploy.export.trained_student import Student
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.family import family
from mldr_deploy.models.model_registry import create_model
from mldr_deploy.runtimes.tensorrt_library import require_rtx

MODELS = (
    *("edgenext_xx_small:32", "mobilenetv3_small_050:64", "mobilenetv2_050:64", "resnet18:64"),
    *("convnext_atto:64", "deit_tiny_patch16_224:224", "mixer_s32_224:224"),
    *("swin_tiny_patch4_window7_224:224", "vim_pico_patch4_32:32"),
)
BUILDABLE = tuple(name for name, row in PRECISIONS.items() if "tensorrt" in row.runs_on)
MAX_BATCH = 8


@dataclass(frozen=True)
class Built:
    """One row: an engine, or why there is none."""

    model: str
    family: str
    precision: str
    lint: str
    asked: dict[str, int]
    megabytes: float | None
    seconds: float
    refusal: str | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL:SIZE")
    parser.add_argument("--capabilities", default="8.0,8.6,8.9,12.0")
    given = parser.parse_args()
    config = EngineConfig(capabilities=tuple(given.capabilities.split(",")))
    library = require_rtx()
    print(f"{library}, compute capability {given.capabilities}, batch 1 to {MAX_BATCH}")
    print("| model | precision | asked of the builder | MB | s |\n|---|---|---|---|---|")
    rows = []
    for named in given.models:
        name, size = named.rsplit(":", 1)
        with tempfile.TemporaryDirectory() as folder:
            for row in builds(name, int(size), Path(folder), config):
                size_text = "refused" if row.megabytes is None else f"{row.megabytes:.2f}"
                asked = ", ".join(f"{count} {kind}" for kind, count in row.asked.items())
                cells = (f"{row.model}, {size} px", row.precision, row.refusal or asked, size_text)
                print("|", " | ".join(cells), f"| {row.seconds:.1f} |", flush=True)
                rows.append(asdict(row))
    summary = {
        "benchmark": "rtx_builds",
        "machine": processor(),
        "library": str(library),
        "capabilities": given.capabilities,
        "built": sum(row["refusal"] is None for row in rows),
        "rows": rows,
    }
    print(json.dumps(summary))


def builds(name: str, size: int, folder: Path, config: EngineConfig) -> Iterator[Built]:
    """The student ``name`` in every precision, written to ``folder`` and built."""
    context = untrained(name, size, folder)
    for precision in BUILDABLE:
        with contextlib.redirect_stdout(sys.stderr):
            KINDS["onnx", precision].write(context)
        yield build(context.onnx(precision), name, context.student.record.family, precision, config)


def build(onnx: Path, name: str, kind: str, precision: str, config: EngineConfig) -> Built:
    """One engine of one ONNX file."""
    profile = Profile(min=1, opt=1, max=MAX_BATCH)
    found = str(lint_file(onnx, profile, rtx=True))
    begin = time.perf_counter()
    asked: dict[str, int] = {}
    megabytes, refusal = None, None
    try:
        plan = build_rtx_plan(
            require_rtx(), onnx, PRECISIONS[precision].computes_in, profile, config, Silent()
        )
        asked, megabytes = plan.requested.multiplies, len(plan.content) / 1e6
    except MldrError as error:
        refusal = str(error)
    seconds = time.perf_counter() - begin
    return Built(name, kind, precision, found, asked, megabytes, seconds, refusal)


def untrained(name: str, size: int, folder: Path) -> ExportContext:
    """What the writers of ONNX files take, for a student of random weights and a few digits."""
    torch.manual_seed(0)
    dataset = load_dataset(DataConfig(image_size=size))
    config = ModelConfig(name=name)
    model = create_model(config, num_classes=len(dataset.classes), image_size=size).eval()
    spec = Preprocessing(size=(size, size), mean=dataset.mean, std=dataset.std)
    record = TrainedModel(
        model=config.model_dump(mode="json"),
        num_classes=len(dataset.classes),
        image_size=size,
        classes=[*dataset.classes],
        preprocessing=spec,
        family=family(model),
        parameters=sum(p.numel() for p in model.parameters()),
        data=DataConfig(image_size=size).model_dump(mode="json"),
        data_fingerprint=dataset.fingerprint,
    )
    export = ExportConfig(
        max_batch=MAX_BATCH,
        precisions=BUILDABLE,
        calibration=CalibrationConfig(images=8),
        quantize=QuantizeConfig(
            methods=("minmax",), validation_images=8, effect_images=8, target_drop=100
        ),
    )
    calibration = Calibration(dataset.train, spec, export.calibration)
    return ExportContext(Student(model, record), folder, export, calibration, dataset.val, Silent())


if __name__ == "__main__":
    main()
