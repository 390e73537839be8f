"""The work of a comparison's runs, and the outcome of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.preprocess import Preprocessing
from ..bundle.tensors import read_tensors, write_tensors
from ..bundle.trained import load_trained
from ..data.loader import EvalBatches
from ..distill.evaluate import best_classes
from ..distill.fast_features import Frozen, fastest
from ..export.measure_latency import milliseconds_per_image
from ..export.trained_student import load_student
from ..pipeline.phases import Pipeline
from ..pipeline.summary import machine
from ..runtimes.model_file import ModelFile
from ..runtimes.onnxruntime_cpu import OnnxRuntimeCpu

_PREDICTIONS = "test.safetensors"
_EVAL_BATCH = 250
_TOP = 5

Outcome = dict[str, Any]  # values of JSON


def teacher_outcome(pipeline: Pipeline) -> Outcome:
    """Train a teacher; its accuracy on test."""
    config = pipeline.recipe.teacher
    assert config is not None
    teacher = pipeline.worthy_teacher(pipeline.teacher())
    device, images = pipeline.accelerator.device, len(pipeline.dataset.test)
    teacher.model.to(device)
    logits = fastest(teacher, images, device, pipeline.progress, "logits")
    predictions = _predictions(pipeline, logits, teacher.preprocessing)
    return {
        **_scores(predictions, pipeline.dataset.test.labels),
        "parameters": sum(p.numel() for p in teacher.model.parameters()),
        "model": config.model.model_dump(mode="json"),
    }


def student_outcome(pipeline: Pipeline) -> Outcome:
    """Train a student and write its predictions; its accuracy on test."""
    student = load_student(pipeline.student())
    record = student.record
    model = student.model.to(pipeline.accelerator.device).eval()
    predictions = _predictions(pipeline, model, record.preprocessing)
    tensors = {"best_classes": predictions.astype(np.int32)}
    write_tensors(pipeline.space.out / _PREDICTIONS, tensors)
    return {
        **_scores(predictions, pipeline.dataset.test.labels),
        "parameters": record.parameters,
        "family": record.family,
        "model": record.model,
        **record.metrics,
    }


def tuning_outcome(pipeline: Pipeline) -> Outcome:
    """Train a student; its accuracy on the validation split alone."""
    return {**load_trained(pipeline.student())[0].metrics}


def export_outcome(pipeline: Pipeline) -> Outcome:
    """Export a finished student; milliseconds an image in ONNX Runtime on the CPU."""
    bundle = pipeline.bundle()
    with OnnxRuntimeCpu(ModelFile.of(bundle, bundle.manifest.artifacts[0])) as runtime:
        single = milliseconds_per_image(runtime, bundle.golden.inputs, 1)
    return {
        "milliseconds_batch_1": round(single, 4),
        "passed": bool(bundle),
        "machine": machine(),
    }


def read_predictions(folder: Path) -> NDArray[np.int32]:
    """The five best classes of each test image, best first: [N, 5]; ``folder``: the student's."""
    predictions: NDArray[np.int32] = read_tensors(folder / _PREDICTIONS)["best_classes"]
    return predictions


def _predictions(
    pipeline: Pipeline, frozen: Frozen, preprocessing: Preprocessing
) -> NDArray[np.int64]:
    test, device = pipeline.dataset.test, pipeline.accelerator.device
    threads = pipeline.recipe.data.workers
    batches = EvalBatches(test, preprocessing, _EVAL_BATCH, device, threads=threads)
    pipeline.progress.start("testing", len(test))
    best = best_classes(frozen, batches, _TOP, pipeline.progress)
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
