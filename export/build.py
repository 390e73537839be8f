"""From a finished training run to a proven bundle."""

from __future__ import annotations

import datetime
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bundle.atomic import atomic_folder, write_json
from ..bundle.golden import FILE as GOLDEN
from ..bundle.golden import Golden, prepare, save_golden
from ..bundle.manifest import FILE as MANIFEST
from ..bundle.manifest import Artifact, Manifest, Runnable, TensorSpec, describe
from ..bundle.progress import Progress, Silent
from ..bundle.reader import Bundle, open_bundle
from ..bundle.tensors import write_tensors
from ..bundle.trained import WEIGHTS
from ..errors import MldrError, Unavailable
from .calibration import Calibration
from .config import ExportConfig
from .job import Job
from .kinds import KINDS, Key, plan
from .onnx_export import INPUT, OUTPUT
from .prove import locate, prove, worst_inputs
from .runner import TorchRunner
from .student import Student, load_student

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..data.split import Split

_VERSIONS = ("torch", "timm", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow")


def build_bundle(
    trained: Path,
    out: Path,
    config: ExportConfig | None = None,
    *,
    dataset: Dataset,
    provenance: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Export the student in ``trained``, prove it on the test split, write the bundle ``out``.

    The bundle is written in one step, whatever the gates say; it is false when an artifact failed
    its gate, and the manifest then says so, with the node that bisect found. What this machine
    cannot make is left out and told in ``manifest.unavailable``. Raises MldrError when the run does
    not rebuild, does not export, or was trained on another data set.
    """
    config, progress = config or ExportConfig(), progress or Silent()
    student = load_student(trained)
    _require_same_data(student, dataset, trained)
    with atomic_folder(out, replaces=MANIFEST) as folder:
        job = _job(student, folder, config, dataset, progress)
        artifacts, unavailable = _artifacts(job, dataset.test)
        tensors = {name: value.numpy() for name, value in student.model.state_dict().items()}
        write_tensors(folder / WEIGHTS, tensors)
        save_golden(folder / GOLDEN, _golden(student, dataset, config.golden))
        manifest = _manifest(job, artifacts, unavailable, provenance or {})
        write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return open_bundle(out, allow_failed=True)


def _require_same_data(student: Student, dataset: Dataset, trained: Path) -> None:
    record = student.record
    if record.data_fingerprint != dataset.fingerprint or record.classes != [*dataset.classes]:
        raise MldrError(
            f"{trained} was trained on other data than {dataset.source} as it is now: parity is "
            "proven on the test split of the same data set; restore it or train again"
        )


def _job(
    student: Student, folder: Path, config: ExportConfig, dataset: Dataset, progress: Progress
) -> Job:
    preprocessing = student.record.preprocessing
    calibration = Calibration(dataset.train, preprocessing, config.calibration)
    return Job(student, folder, config, calibration, dataset.val, progress)


def _artifacts(job: Job, test: Split) -> tuple[list[Artifact], list[str]]:
    """Everything that the configuration asks for, and why some of it is not there."""
    artifacts, unavailable = [], []
    for key in plan(job.config):
        try:
            artifacts.append(_artifact(job, key, test))
        except Unavailable as error:
            unavailable.append(f"{key[0]} {key[1]}: {error}")
    return artifacts, unavailable


def _artifact(job: Job, key: Key, test: Split) -> Artifact:
    """Write one artifact, measure it on the whole test split, and look into a failure."""
    (target, precision), kind, config = key, KINDS[key], job.config
    gate = config.gates.of(precision)
    job.progress.start(f"export {target} {precision}", None)
    written = kind.write(job)
    job.progress.finish()
    entry = describe(job.folder, written.file)
    runnable = Runnable(**entry.model_dump(), engine=written.engine)
    model, spec = job.student.model, job.preprocessing
    runs = kind.run(job.folder, runnable, config.threads)
    with TorchRunner(model) as reference, runs as runner:
        parity = prove(
            reference,
            runner,
            test,
            spec,
            precision=precision,
            gate=gate,
            max_batch=config.max_batch,
            progress=job.progress,
        )
    fault = None
    if not parity and config.bisect and kind.is_graph:
        inputs = worst_inputs(test, spec, parity)
        fault = locate(model, job.folder / entry.file, inputs, config, gate, job.progress)
    return Artifact(
        **runnable.model_dump(),
        format=target,
        precision=precision,
        opset=written.opset,
        status="passed" if parity else "failed",
        parity=parity,
        fault=fault,
        emulated=kind.emulated,
        islands=list(written.islands),
        beside=[describe(job.folder, file) for file in written.beside],
        quantization=written.quantization,
    )


def _golden(student: Student, dataset: Dataset, count: int) -> Golden:
    """``count`` images spread over the test split, and what the PyTorch student says to them."""
    test, spec = dataset.test, student.record.preprocessing
    if len(test) < 8:
        raise MldrError(f"{dataset.source} has {len(test)} test images, a bundle needs 8 at least")
    index = np.unique(np.linspace(0, len(test) - 1, min(count, len(test))).round().astype(np.int64))
    pixels, inputs, sources = prepare([np.asarray(test.image(int(i))) for i in index], spec)
    with TorchRunner(student.model) as reference:
        logits = reference(inputs)
    return Golden(index, test.labels[index], pixels, inputs, logits, tuple(sources))


def _manifest(
    job: Job, artifacts: list[Artifact], unavailable: list[str], provenance: dict[str, Any]
) -> Manifest:
    record, folder, config = job.student.record, job.folder, job.config
    return Manifest(
        labels=record.classes,
        input=TensorSpec(
            name=INPUT, dtype="float32", shape=["batch", 3, *record.preprocessing.size]
        ),
        output=TensorSpec(name=OUTPUT, dtype="float32", shape=["batch", record.num_classes]),
        max_batch=config.max_batch,
        preprocessing=record.preprocessing,
        artifacts=artifacts,
        unavailable=unavailable,
        weights=describe(folder, WEIGHTS),
        golden=describe(folder, GOLDEN),
        model=record.model,
        image_size=record.image_size,
        family=record.family,
        parameters=record.parameters,
        data=record.data,
        data_fingerprint=record.data_fingerprint,
        metrics=record.metrics,
        provenance={**provenance, "training": record.provenance, "export": _circumstances(config)},
    )


def _circumstances(config: ExportConfig) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    return {
        "time": now.isoformat(timespec="seconds"),
        "config": config.model_dump(mode="json"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {name: metadata.version(name) for name in _VERSIONS},
    }
