"""The end of a training phase: the best weights and their record, and nothing unfinished."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from .. import __version__
from ..bundle.evidence import Evidence
from ..bundle.trained import TrainedModel, save_trained
from ..data.loader import EvalBatches
from ..models.family import family
from .checkpoint import Tensors, TrainingState
from .execution import Execution
from .network import Network
from .phase import Phase
from .trained_folder import TRAINED
from .training_log import draw_curves, first_and_last_loss, read_metrics


def finish(
    phase: Phase,
    network: Network,
    val_batches: EvalBatches,
    tensors: Tensors,
    state: TrainingState,
    execution: Execution,
) -> Path:
    """Write the folder `TRAINED` with ``tensors``; remove what only an unfinished phase needs."""
    accelerator, trained = phase.accelerator, phase.folder / TRAINED
    if accelerator.is_main_process:
        record = TrainedModel(
            model=network.config.model_dump(mode="json"),
            num_classes=len(phase.dataset.classes),
            image_size=phase.data.image_size,
            classes=list(phase.dataset.classes),
            preprocessing=val_batches.preprocessing,
            family=family(network.model),
            parameters=sum(p.numel() for p in network.model.parameters()),
            data=phase.data.model_dump(mode="json"),
            data_fingerprint=phase.dataset.fingerprint,
            metrics={**_metrics(state), **first_and_last_loss(read_metrics(phase.folder))},
            evidence=_evidence(state, val_batches),
            provenance={
                **phase.provenance,
                "identity": phase.identity,
                "precision": execution.precision,
                **_environment(accelerator, execution),
            },
        )
        # The curves first: a phase is finished once `trained` is there.
        draw_curves(phase.folder, network.config.name)
        save_trained(trained, record, {name: t.numpy() for name, t in tensors.items()})
        for unfinished in ("checkpoints", "features"):
            shutil.rmtree(phase.folder / unfinished, ignore_errors=True)
    accelerator.wait_for_everyone()
    return trained


def _metrics(state: TrainingState) -> dict[str, float]:
    assert state.best_epoch is not None
    measured = {
        "best_epoch": float(state.best_epoch),
        "train_seconds": round(state.seconds, 3),
    }
    return measured if state.best_top1 is None else {**measured, "val_top1": state.best_top1}


def _evidence(state: TrainingState, evaluated: EvalBatches) -> Evidence | None:
    """What export must find again; None without a validation split, or a loss that is finite."""
    if state.best_top1 is None or state.best_loss is None:
        return None
    return Evidence(
        images=evaluated.images,
        top1=state.best_top1,
        loss=state.best_loss,
        preprocessing=evaluated.preprocessing,
    )


def _environment(accelerator: Accelerator, execution: Execution) -> dict[str, Any]:
    threads = execution.threads
    return {
        "versions": {
            "mldr-deploy": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "timm")},
        },
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        "threads": threads[max(threads)] if threads else torch.get_num_threads(),
        "execution": execution.model_dump(mode="json"),
    }
