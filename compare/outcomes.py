"""The work of a comparison's runs, and the outcome of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..bundle.atomic import sha256
from ..bundle.preprocess import Preprocessing
from ..bundle.sealed import unsealed
from ..bundle.tensors import read_tensors, write_tensors
from ..bundle.trained import load_trained, read_trained
from ..bundle.wording import cause
from ..data.loader import EvalBatches
from ..distill.evaluate import best_classes
from ..errors import MldrError
from ..export.measure_latency import milliseconds_per_image
from ..export.trained_student import load_student
from ..pipeline.phases import Pipeline
from ..pipeline.summary import machine
from ..runtimes.model_file import ModelFile
from ..runtimes.onnxruntime_cpu import OnnxRuntimeCpu

PICTURES = "data_fingerprint"  # of the data set that the work was done with; older outcomes: none
_PREDICTIONS, _PREDICTIONS_HASH = "test.safetensors", "predictions_sha256"
_AGAIN = "delete {}, and the same command carries that run out again"
_EVAL_BATCH = 250
_TOP = 5

Outcome = dict[str, Any]  # values of JSON


def teacher_outcome(pipeline: Pipeline) -> Outcome:
    """Train a teacher; its accuracy on test."""
    config = pipeline.recipe.teacher
    assert config is not None
    trained = pipeline.teacher()
    pictures = _pictures(pipeline, trained)
    teacher, _ = pipeline.worthy_teacher(trained)
    predictions = _predictions(pipeline, teacher.model, teacher.preprocessing)
    return {
        **_scores(predictions, pipeline.dataset.test.labels),
        PICTURES: pictures,
        "parameters": sum(p.numel() for p in teacher.model.parameters()),
        "model": config.model.model_dump(mode="json"),
    }


def taught_outcome(pipeline: Pipeline) -> Outcome:
    """The same, with its answers to the student's pictures kept for every run that shares them."""
    outcome = teacher_outcome(pipeline)
    pipeline.keep_logits()
    return outcome


def student_outcome(pipeline: Pipeline) -> Outcome:
    """Train a student and write its predictions; its accuracy on test."""
    trained = pipeline.student()
    pictures = _pictures(pipeline, trained)
    student = load_student(trained)
    record = student.record
    predictions = _predictions(pipeline, student.model, record.preprocessing)
    tensors = {"best_classes": predictions.astype(np.int32)}
    file = pipeline.space.out / _PREDICTIONS
    write_tensors(file, tensors)
    return {
        _PREDICTIONS_HASH: sha256(file),
        **_scores(predictions, pipeline.dataset.test.labels),
        PICTURES: pictures,
        "parameters": record.parameters,
        "family": record.family,
        "model": record.model,
        **record.metrics,
    }


def tuning_outcome(pipeline: Pipeline) -> Outcome:
    """Train a student; its accuracy on the validation split alone."""
    trained = pipeline.student()
    return {PICTURES: _pictures(pipeline, trained), **load_trained(trained)[0].metrics}


def export_outcome(pipeline: Pipeline) -> Outcome:
    """Export a finished student; milliseconds an image in ONNX Runtime on the CPU."""
    bundle = pipeline.bundle()
    with OnnxRuntimeCpu(ModelFile.of(bundle, bundle.manifest.artifacts[0])) as runtime:
        single = milliseconds_per_image(runtime, bundle.golden.inputs, 1)
    return {
        "milliseconds_batch_1": round(single, 4),
        "passed": bool(bundle),
        PICTURES: bundle.manifest.data_fingerprint,
        "machine": machine(),
    }


def read_outcome(file: Path) -> Outcome:
    """The outcome of finished work. Raises MldrError where the file is not as it was written."""
    try:
        return unsealed(file.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise MldrError(f"{file} is damaged ({cause(error)}): {_AGAIN.format(file.name)}") from None


def read_predictions(folder: Path, outcome: Outcome) -> NDArray[np.int32]:
    """The five best classes of each test image, best first: [N, 5]; ``folder``: the student's.

    Raises MldrError where they are not those of its ``outcome``.
    """
    file = folder / _PREDICTIONS
    predictions: NDArray[np.int32] = read_tensors(file)["best_classes"]
    if outcome.get(_PREDICTIONS_HASH, sha256(file)) != sha256(file):  # older outcomes have none
        raise MldrError(f"{file} is not what was written: {_AGAIN.format('result.json beside it')}")
    return predictions


def _pictures(pipeline: Pipeline, trained: Path | None) -> str:
    """The fingerprint of the data. Raises MldrError where ``trained`` has learned from others."""
    dataset = pipeline.dataset
    if trained is not None and read_trained(trained).data_fingerprint != dataset.fingerprint:
        raise MldrError(
            f"{trained} was trained on other pictures than {dataset.source} as it is now: choose "
            "another --out, or delete that run's folder"
        )
    return dataset.fingerprint


def _predictions(
    pipeline: Pipeline, model: nn.Module, preprocessing: Preprocessing
) -> NDArray[np.int64]:
    test, device = pipeline.dataset.test, pipeline.accelerator.device
    threads = pipeline.recipe.data.workers
    batches = EvalBatches(test, preprocessing, _EVAL_BATCH, device, threads=threads)
    pipeline.progress.start("testing", len(test))
    best = best_classes(model.to(device), batches, k=_TOP, progress=pipeline.progress)
    pipeline.progress.finish()
    predictions: NDArray[np.int64] = best.numpy()
    return predictions


def _scores(predictions: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, float]:
    hits = predictions == labels[:, None]
    return {
        "test_top1": round(100 * float(hits[:, 0].mean()), 4),
        "test_top5": round(100 * float(hits.any(axis=1).mean()), 4),
        "test_images": len(labels),
    }
