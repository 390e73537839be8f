"""The phases of a recipe's run, each skipped where its finished output already lies there.

Under torchrun or accelerate launch every process trains; the first one alone exports and reports.
"""

from __future__ import annotations

import os
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator

from ..bundle.atomic import sha256
from ..bundle.data_report import KEY as DATA_REPORT
from ..bundle.progress import Progress
from ..bundle.reader import Bundle, open_bundle
from ..bundle.trained import WEIGHTS, load_trained
from ..bundle.wording import counted
from ..data.dataset import Dataset, fingerprint, load_dataset
from ..distill import training_run
from ..distill.methods.method_registry import needs_teacher
from ..distill.phase import Phase, identity_of
from ..distill.task import FrozenTeacher
from ..distill.teacher_loading import load_teacher
from ..distill.trackers import require_trackers
from ..distill.training_config import TrainConfig
from ..distill.trial import require_worth
from ..errors import MldrError, Unavailable
from ..export.build_bundle import build_bundle
from ..models.architecture_config import ModelConfig
from ..models.published_weights import require_published
from .fitted import fitted
from .meeting import meeting, peer_threads, wait_notice
from .provenance import commit
from .recipe import Recipe, dump_recipe, is_idle
from .workspace import Workspace, flat, workspace

# Keys of the data that say where they are or what is refused, or that their fingerprint tells.
_INDIFFERENT_DATA = (
    *("root", "workers", "download", "check_images"),
    *("skip_share", "leak_share", "test_fraction"),
)


# Keys that are younger than checkpoints that are to be continued, and what those did.
_YOUNGER = {
    "crop_fraction": 1.0,
    "decay_everything": False,
    "form": "published",
    "standardise": "none",
    "class_weight": 1.0,
    "sample_weight": 1.0,
    "balance_from": 0,
    "view_seed": None,
}
Result = TypeVar("Result")
LoadDataset = Callable[..., Dataset]  # (config, progress=...), as `load_dataset`


class Pipeline:
    """One recipe in one folder. `teacher`, `student` and `bundle` carry out what they need."""

    def __init__(
        self,
        space: Workspace,
        accelerator: Accelerator,
        progress: Progress,
        load: LoadDataset | None,
    ) -> None:
        self.space, self.recipe, self._load = space, space.recipe, load or load_dataset
        self.accelerator, self.progress = accelerator, progress
        self._noted: set[str] = set()  # phases that a note was given of

    @cached_property
    def dataset(self) -> Dataset:
        """The recipe's data, read when the first phase needs them."""
        began = time.perf_counter()
        loaded = self._load(self.recipe.data, progress=self.progress)
        self._time("data", time.perf_counter() - began)
        return loaded

    @cached_property
    def _fingerprint(self) -> str | None:
        """What the data are now, without decoding a picture; None where they are not here."""
        if "dataset" in vars(self):
            return self.dataset.fingerprint
        try:
            return fingerprint(self.recipe.data)
        except MldrError as error:
            self.progress.note(f"the data are not compared with what was trained on: {error}")
            return None

    @cached_property
    def fitted(self) -> Recipe:
        """The recipe, fitted to the number of training pictures."""
        pictures, batch = len(self.dataset.train), self.recipe.data.batch_size
        recipe = fitted(self.recipe, pictures, self.accelerator.num_processes)
        if recipe.data.batch_size != batch:
            self.progress.note(
                f"data: {counted(recipe.data.batch_size, 'image')} a step instead of {batch}, for "
                f"{counted(pictures, 'training picture')}"
            )
        return recipe

    def teacher(self) -> Path | None:
        """The trained teacher's folder; None where the recipe names finished weights."""
        config = self.recipe.teacher
        if config is None:
            raise MldrError("the recipe has no [teacher] table: give it a name")
        if not config.is_trained_here:
            return None
        if self.space.trained("teacher") is None:
            require_published(config.model)

        def train(phase: Phase) -> Path:
            teacher = self.fitted.teacher
            assert teacher is not None
            return training_run.train_teacher(phase, teacher.model, teacher.training)

        return self._train("teacher", train)

    def student(self) -> Path:
        """The distilled student's folder, its teacher trained first where that is needed."""
        if (finished := self.space.trained("student")) is not None:
            return self._skip("student", finished)
        folder = self._student_s_teacher()
        distill = partial(self._distill, training_run.distill, folder)
        return self._train("student", distill)

    def keep_logits(self) -> None:
        """Ask the teacher, which is trained first, for what the student's training asks it."""
        folder = self._student_s_teacher()
        self._distill(training_run.keep_logits, folder, self.phase("student"))

    def _student_s_teacher(self) -> Path | None:
        """The folder of the student's teacher, trained where it is missing; None without one."""
        recipe = self.recipe
        has_teacher = needs_teacher(recipe.method)
        require_published(*self._beginnings(has_teacher))
        if has_teacher:
            assert recipe.teacher is not None
            phase, teacher = self.phase("student"), recipe.teacher.model
            side = recipe.teacher_data.image_size
            training_run.check_pair(
                phase, recipe.student, teacher, recipe.method, self.fitted.training, side
            )
        return self.teacher() if has_teacher else None

    def _distill(self, work: Callable[..., Result], folder: Path | None, phase: Phase) -> Result:
        """``work`` on the student with its teacher, whose folder is ``folder`` if it has one."""
        recipe, teacher = self.recipe, None
        if needs_teacher(recipe.method):
            teacher, top1 = self.worthy_teacher(folder)
            record = _teacher_record(folder) if folder else self._foreign_teacher(teacher, top1)
            phase = replace(phase, provenance={**phase.provenance, "teacher": record})
        return work(phase, recipe.student, teacher, recipe.method, self.fitted.training)

    def _beginnings(self, has_teacher: bool) -> Iterator[ModelConfig]:
        """The models that begin with weights: the student, and a teacher not trained yet."""
        yield self.recipe.student
        teacher = self.recipe.teacher if has_teacher else None
        if teacher and not (teacher.is_trained_here and self.space.trained("teacher")):
            yield teacher.model

    def bundle(self) -> Bundle:
        """The proven bundle; false when a parity gate failed."""
        trained = self.student()
        if (finished := self.space.bundle()) is not None:
            return open_bundle(self._skip("bundle", finished), allow_failed=True)
        began = time.perf_counter()
        built = build_bundle(
            trained,
            self.space.folder("bundle"),
            self.recipe.export,
            dataset=self.dataset,
            progress=self.progress,
        )
        self._time("export and parity", time.perf_counter() - began)
        return built

    def line(self, phase: str, trained: Path | None) -> str:
        """One line about a finished training phase."""
        if trained is None:
            return f"{phase}: nothing to train, the recipe names finished weights"
        record = load_trained(trained)[0]
        top1 = record.metrics.get("val_top1")
        score = "" if top1 is None else f", validation top-1 {top1:.2f} %"
        return f"{phase}: {record.model['name']}{score}, {trained}"

    def outcome(self, trained: Path | None) -> dict[str, Any]:
        """A finished training phase for programs; without a folder where nothing was trained."""
        if trained is None:
            return {"folder": None, "record": None}
        return {"folder": str(trained), "record": load_trained(trained)[0].model_dump(mode="json")}

    def load_teacher(self, trained: Path | None) -> FrozenTeacher:
        """The teacher from ``trained``, or from where the recipe says its weights are."""
        assert self.recipe.teacher is not None
        model, order = self.recipe.teacher.model, self.recipe.teacher.class_order
        if trained is not None:
            model = model.model_copy(update={"weights": str(trained), "fresh_head": False})
        return load_teacher(model, self.phase("teacher"), order)

    def worthy_teacher(self, trained: Path | None) -> tuple[FrozenTeacher, float | None]:
        """The teacher, checked: it is better than chance and means the data's classes.

        With its top-1 on validation, per cent; None where too few images are held out.

        Raises MldrError, with the remedy, where it is not.
        """
        config = self.recipe.teacher
        assert config is not None
        teacher = self.load_teacher(trained)
        description = f"teacher {config.name}" + (f" ({config.weights})" if trained is None else "")
        return teacher, require_worth(teacher, description, trained, self.phase("teacher"))

    def _foreign_teacher(self, teacher: FrozenTeacher, top1: float | None) -> dict[str, Any]:
        """What identifies a teacher whose weights came from elsewhere."""
        config = self.recipe.teacher
        assert config is not None
        return {
            "name": config.name,
            "weights": config.weights,
            "parameters": sum(p.numel() for p in teacher.model.parameters()),
            "metrics": {} if top1 is None else {"val_top1": top1},
        }

    def phase(self, name: str) -> Phase:
        """The training phase ``name``, teacher or student, of this run."""
        return Phase(
            data=self.fitted.teacher_data if name == "teacher" else self.fitted.data,
            dataset=self.dataset,
            accelerator=self.accelerator,
            folder=self.space.folder(name),
            identity=self._identity(name),
            provenance={
                "recipe": _plain(self.fitted),
                "commit": commit(),
                DATA_REPORT: self.dataset.report.model_dump(mode="json"),
            },
            progress=self.progress,
            logits=self.space.folder("logits"),
        )

    def _train(self, phase: str, work: Callable[[Phase], Path]) -> Path:
        if (finished := self.space.trained(phase)) is not None:
            return self._skip(phase, finished)
        self.progress.note(f"{phase}: {_subject(self.fitted, phase)}")
        self._noted.add(phase)
        opened, earlier = self.phase(phase), self.space.times().get(phase, 0.0)
        began = time.perf_counter()
        try:
            return work(opened)
        finally:  # an interrupted one goes on later
            self._time(phase, earlier + time.perf_counter() - began)

    def _skip(self, phase: str, finished: Path) -> Path:
        """``finished``, the output that lies there. Raises MldrError where it is of other data."""
        if phase != "bundle" and self._fingerprint not in (None, _learnt(finished)):
            raise MldrError(
                f"{finished} was trained on other data than {self.recipe.data.source} as it is "
                "now: restore them, choose another --out, or give --restart to train anew"
            )
        if phase not in self._noted:
            self.progress.note(f"{phase}: already there, {finished}")
        self._noted.add(phase)
        return finished

    def _identity(self, phase: str) -> str:
        """What a checkpoint must have come from to be continued: batch and epochs in numbers."""
        return identity_of(
            {
                **identifying(self.fitted, phase),
                "stage": phase,  # the key stays: older runs are continued
                "data": self.dataset.fingerprint,
                "processes": self.accelerator.num_processes,
            }
        )

    def _time(self, phase: str, seconds: float) -> None:
        if self.accelerator.is_main_process:
            self.space.record_time(phase, seconds)


@contextmanager
def pipeline(
    recipe: Recipe,
    out: Path | None,
    *,
    device: str,
    restart: bool,
    progress: Progress,
    shared: Mapping[str, Path] | None = None,
    load: LoadDataset | None = None,
) -> Iterator[Pipeline]:
    """A pipeline in ``out`` (default: runs/ and the recipe's name); ``shared`` as in `Workspace`.

    ``load`` reads the data, `load_dataset` where there is none.

    Raises MldrError when ``out`` holds another recipe's results, Busy when another process is at
    work there, Unavailable for a device that is not there.
    """
    folder = out or Path("runs") / recipe.name
    _require_apart(folder, recipe.data.source)
    require_trackers(_trackers(recipe))
    accelerator = _accelerator(device)
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()
        yield Pipeline(Workspace(folder, recipe, shared), accelerator, progress, load)
        return
    with workspace(folder, recipe, shared) as space:
        space.claim(restart=restart)
        accelerator.wait_for_everyone()
        yield Pipeline(space, accelerator, progress, load)


def _trackers(recipe: Recipe) -> tuple[str, ...]:
    return (*recipe.train.trackers, *(recipe.teacher.train.trackers if recipe.teacher else ()))


def _accelerator(device: str) -> Accelerator:
    device = device.strip().lower()
    kind = device.partition(":")[0]
    available = {
        "auto": True,
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if kind not in available:
        raise MldrError(f"--device {device}: allowed are auto, cpu, cuda, cuda:N and mps")
    if not available[kind]:
        raise Unavailable(f"--device {device}: PyTorch sees no such device; --device cpu works")
    if ":" in device:
        os.environ["ACCELERATE_TORCH_DEVICE"] = device
    if (threads := peer_threads(device)) is not None:
        # Accelerate would count the machine's cores, whatever a quota grants, and print a warning.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
    with wait_notice(device):
        try:
            return Accelerator(cpu=kind == "cpu")
        except (ValueError, RuntimeError) as error:
            if (awaited := meeting(device)) is None:
                raise
            line = " ".join(str(error).split())[:200]
            raise Unavailable(f"{awaited}; that failed: {line}") from error


def _learnt(trained: Path) -> str:
    """Hash of the data that ``trained`` learnt from."""
    return load_trained(trained)[0].data_fingerprint


def _require_apart(out: Path, source: str) -> None:
    """Refuse a folder of results among the pictures, which would be read as more of them."""
    place = Path(source.partition(":")[2])
    if ":" in source and place.is_dir() and out.resolve().is_relative_to(place.resolve()):
        raise MldrError(f"--out {out} lies inside the data, {source}: choose an --out elsewhere")


def _teacher_record(folder: Path) -> dict[str, Any]:
    """What identifies a teacher that was trained here."""
    record = load_trained(folder)[0]
    return {
        "name": record.model["name"],
        "parameters": record.parameters,
        "weights_sha256": sha256(folder / WEIGHTS),
        "metrics": record.metrics,
    }


def _subject(recipe: Recipe, phase: str) -> str:
    if phase == "teacher":
        assert recipe.teacher is not None
        return f"{recipe.teacher.name} on labels, {_length(recipe.teacher.train)}"
    teacher = recipe.teacher if needs_teacher(recipe.method) else None
    source = f" from {teacher.name}" if teacher else ""
    return f"{recipe.student.name}{source} by {recipe.method.name}, {_length(recipe.train)}"


def _length(train: TrainConfig) -> str:
    views = f"its head alone on {counted(train.head_views, 'view')}"
    epochs = counted(train.length, "epoch")
    return {"all": epochs, "head": views, "head-first": f"{views}, then {epochs}"}[train.parts]


def _matters(phase: str, key: str) -> bool:
    """Whether a recipe's key has a say in what a phase trains."""
    head, _, data_key = key.partition(".")
    if key in ("train.threads", "teacher.train.threads"):
        return False  # distill/execution.py keeps them
    if key in ("train.trackers", "teacher.train.trackers"):
        return False
    if head == "data":
        return data_key not in _INDIFFERENT_DATA
    teaching = head == "teacher"
    return teaching if phase == "teacher" else head not in ("name", "description", "export")


def identifying(recipe: Recipe, phase: str) -> dict[str, Any]:
    """The recipe's values, by dotted key, that a phase's checkpoints depend on."""
    return {
        key: value
        for key, value in flat(recipe.model_dump(mode="json")).items()
        if _matters(phase, key) and not is_idle(recipe, key) and not _as_before(key, value)
    }


def _as_before(key: str, value: Any) -> bool:
    """Whether a recipe's value is what was done before there was such a key."""
    name = key.rpartition(".")[2]
    return name in _YOUNGER and value == _YOUNGER[name]


def _plain(recipe: Recipe) -> dict[str, Any]:
    return tomllib.loads(dump_recipe(recipe))
