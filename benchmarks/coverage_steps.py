"""What coverage.py does with one model, in a process of its own."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".src"))

from mldr_deploy.distill.phase import Phase
from mldr_deploy.errors import MldrError

CLASSES, IMAGES, BATCH = 8, 16, 8  # images a split; two steps
SIDES = (64, 96, 128, 160, 192, 224, 240, 256, 288, 331)
# What a class may call the number of its blocks; four blocks, or one a stage, hold every layer.
SHALLOW: dict[str, Any] = {
    "depth": 4,
    "num_blocks": 4,
    "depths": (1, 1, 1, 1),
    "layers": (1, 1, 1, 1),
    "block_config": (1, 1, 1, 1),
}
TEACHER = "resnet10t"


def examine(candidate: dict[str, Any], work: Path, pictures: Path, pipe: Any) -> None:
    """All steps with one model; what is known is sent as it becomes known."""
    import torch

    warnings.simplefilter("ignore")
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  for the life of this process
    torch.set_num_threads(1)
    shutil.rmtree(work, ignore_errors=True)
    began = time.process_time()
    try:
        for step in (build, distil, settle, teach, export, prove):
            pipe.send({"failed_at": step.__name__})
            pipe.send(step(candidate, work, pictures))
        pipe.send({"passed": True, "failed_at": None})
    except MldrError as error:
        pipe.send({"reason": " ".join(str(error).split()), "told": True})
    except Exception as error:  # an escape is a defect of ours: the row says so
        text = " ".join(str(error).split())[:300]
        pipe.send({"reason": f"{type(error).__name__}: {text}", "told": False})
    pipe.send({"cpu_seconds": round(time.process_time() - began, 1)})


def build(candidate: dict[str, Any], work: Path, pictures: Path) -> dict[str, Any]:
    """Choose arguments and the image side, and plan the stages."""
    from mldr_deploy.models.architecture_config import ModelConfig
    from mldr_deploy.models.family import family
    from mldr_deploy.models.model_registry import create_model
    from mldr_deploy.models.size import takes_size
    from mldr_deploy.models.stages import plan_stages

    bare = ModelConfig(name=candidate["model"])
    several = [*shallower(bare), bare] if candidate["shallow"] else [bare]
    smaller = [c.model_copy(update={"patch_size": p}) for c in several for p in (8, 4)]
    tries = ((side, config) for side in SIDES for config in (*several, *smaller))
    works = (t for t in tries if takes_size(t[1], num_classes=CLASSES, image_size=t[0]))
    side, config = next(works, (SIDES[-1], bare))
    candidate |= {"config": config, "image_size": side}
    told = {"image_size": side, "arguments": config.model_dump(exclude_defaults=True)}
    told["arguments"].pop("name")
    model = create_model(config, num_classes=CLASSES, image_size=side)
    plan = plan_stages(model, side)
    return told | {
        "family": family(model),
        "parameters_here": sum(p.numel() for p in model.parameters()),
        "layout": plan.layout,
        "stages": [[s.channels, s.height, s.width] for s in plan.shapes],
    }


def shallower(model: Any) -> list[Any]:
    """The model with fewer blocks, by the arguments that its class has."""
    import timm
    import torch

    with torch.device("meta"):
        known = inspect.signature(type(timm.create_model(model.name)).__init__).parameters
    named = [{name: value} for name, value in SHALLOW.items() if name in known]
    return [model.model_copy(update={"options": options}) for options in named]


def distil(candidate: dict[str, Any], work: Path, pictures: Path) -> dict[str, Any]:
    """Two steps as the student, with a recipe's defaults: bf16 autocast, channels last."""
    from accelerate import Accelerator

    from mldr_deploy.bundle.progress import Silent
    from mldr_deploy.data.data_config import DataConfig
    from mldr_deploy.data.dataset import load_dataset
    from mldr_deploy.distill import training_run
    from mldr_deploy.distill.methods.method_registry import MethodConfig
    from mldr_deploy.distill.phase import Training
    from mldr_deploy.distill.teacher_loading import load_teacher
    from mldr_deploy.distill.training_config import OptimizerConfig, ScheduleConfig, TrainConfig

    began = time.process_time()
    data = DataConfig(
        source=f"folder:{pictures}",
        image_size=candidate["image_size"],
        batch_size=BATCH,
        val_fraction=0,
        workers=1,
    )
    training = Training(
        train=TrainConfig(epochs=1, checkpoint_steps=0),
        optimizer=OptimizerConfig(lr=0.01, momentum=0),
        schedule=ScheduleConfig(name="constant"),
    )
    dataset = load_dataset(data)
    phase = Phase(data, dataset, Accelerator(cpu=True), work, "coverage", {}, Silent())
    teacher = load_teacher(fresh(TEACHER), phase)
    trained = training_run.distill(phase, candidate["config"], teacher, MethodConfig(), training)
    candidate |= {"phase": phase, "dataset": dataset, "trained": trained}
    last = json.loads((work / "metrics.jsonl").read_text().splitlines()[-1])
    return {"losses": last, "step_seconds": round(time.process_time() - began, 1)}


def fresh(name: str) -> Any:
    """A model by name, its weights random."""
    from mldr_deploy.models.architecture_config import ModelConfig

    return ModelConfig(name=name)


def settle(candidate: dict[str, Any], work: Path, pictures: Path) -> dict[str, Any]:
    """Give batch norms the statistics that two steps have not: those of the training images.

    Else activations grow from layer to layer in eval mode (DLA's logits differed by 22), and no
    fp32 arithmetic meets an absolute tolerance.
    """
    from torch.optim.swa_utils import update_bn

    from mldr_deploy.bundle.trained import load_trained, save_trained
    from mldr_deploy.data.loader import EvalBatches
    from mldr_deploy.export.trained_student import load_student

    student = load_student(candidate["trained"])
    split, spec = candidate["dataset"].train, student.record.preprocessing
    update_bn([(x,) for x, _ in EvalBatches(split, spec, IMAGES, "cpu")], student.model)
    record, _ = load_trained(candidate["trained"])
    after = {name: tensor.numpy() for name, tensor in student.model.state_dict().items()}
    save_trained(candidate["trained"], record, after)
    return {}


def teach(candidate: dict[str, Any], work: Path, pictures: Path) -> dict[str, Any]:
    """As the teacher, from the folder that it was trained into: its answers, and what they need."""
    import torch

    from mldr_deploy.distill.methods.base import Pair
    from mldr_deploy.distill.methods.method_registry import MethodConfig, create_method
    from mldr_deploy.distill.teacher_loading import load_teacher
    from mldr_deploy.models.model_registry import create_model
    from mldr_deploy.models.stages import plan_stages

    weights = str(candidate["trained"])
    config, side = candidate["config"], candidate["image_size"]
    teacher = load_teacher(config.model_copy(update={"weights": weights}), candidate["phase"])
    pixels = torch.randint(0, 256, (2, 3, side, side)).float()
    logits = teacher(pixels).logits
    if logits.shape != (2, CLASSES) or not logits.isfinite().all():
        raise MldrError(f"teacher: its logits are {logits}")
    student = create_model(fresh(TEACHER), num_classes=CLASSES, image_size=side)
    create_method(MethodConfig(), Pair(CLASSES, plan_stages(student, side), teacher.plan))
    return {"teaches": True}


def export(candidate: dict[str, Any], work: Path, pictures: Path) -> dict[str, Any]:
    """The bundle of the student, and what its parity says."""
    import numpy as np
    import onnx

    from mldr_deploy.export.build_bundle import build_bundle
    from mldr_deploy.export.export_config import ExportConfig

    watch, config = Stopwatch(), ExportConfig(max_batch=5, threads=1, bisect=False)
    bundle = build_bundle(
        candidate["trained"], work / "bundle", config, dataset=candidate["dataset"], progress=watch
    )
    (artifact,) = bundle.manifest.artifacts
    candidate["parity"] = parity = artifact.parity
    graph = onnx.load(bundle.path / artifact.file, load_external_data=False).graph
    with np.load(bundle.path / "golden.npz") as golden:
        largest = float(np.abs(golden["logits"]).max())
    return {
        "export_seconds": round(watch.seconds("export"), 1),
        "nodes": len(graph.node),
        "max_dlogit": parity.max_dlogit,
        "batches": {check.batch: check.max_dlogit for check in parity.batches},
        "largest_logit": largest,
        "images": parity.samples,
    }


def prove(candidate: dict[str, Any], work: Path, pictures: Path) -> dict[str, Any]:
    """The gate that parity was held against."""
    if not candidate["parity"]:
        raise MldrError("; ".join(candidate["parity"].failures))
    return {}


class Stopwatch:
    """A `Progress` that keeps the processor time of each task."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._stop: Callable[[], None] = lambda: None

    def start(self, name: str, total: int | None) -> None:
        """The clock of ``name`` starts."""
        began = time.process_time()
        self._stop = lambda: self._spent.update({name: time.process_time() - began})

    def advance(self, n: int = 1, **info: float | str) -> None:
        """Nothing to show."""

    def finish(self) -> None:
        """And stops."""
        self._stop()

    def note(self, text: str) -> None:
        """Nothing to show."""

    def seconds(self, beginning: str) -> float:
        """What tasks spent whose names begin so."""
        return sum(s for name, s in self._spent.items() if name.startswith(beginning))
