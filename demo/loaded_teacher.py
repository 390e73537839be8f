"""The teacher of a run, in PyTorch: the only part of the demo that loads torch."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..bundle.preprocess import Preprocessing
from ..bundle.reader import Bundle
from ..bundle.trained import RECORD, TrainedModel, load_trained, read_trained
from ..errors import MldrError, Unavailable
from ..runtimes.model_file import ModelFile
from ..runtimes.pytorch import PyTorch
from ..runtimes.runtime import RuntimeOptions
from .turns import Turns

_INSIDE = ("", "trained", "teacher/trained")  # where a run, a stage and a model folder hold it


class LoadedTeacher(Turns):
    """A trained teacher, loaded."""

    def __init__(self, folder: Path, record: TrainedModel, runtime: PyTorch) -> None:
        super().__init__(runtime)
        self.folder, self.record = folder, record

    @property
    def name(self) -> str:
        """Name of the architecture."""
        return str(self.record.model.get("name", "teacher"))

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of the teacher, which may differ from the student's."""
        return self.record.preprocessing


def load_teacher(path: Path, bundle: Bundle, options: RuntimeOptions) -> LoadedTeacher:
    """The teacher of the run in ``path``.

    Raises MldrError when there is none, it is damaged, or it tells other classes apart than the
    bundle; Unavailable without torch.
    """
    folder = trained_folder(path)
    record = read_trained(folder)
    _require_same_classes(record.classes, bundle.manifest.labels, folder)
    if find_spec("torch") is None:
        raise Unavailable("--teacher needs torch, the student does not: pip install torch timm")
    runtime = PyTorch(ModelFile(folder, network=lambda: _network(folder)), options)
    runtime.load()
    teacher = LoadedTeacher(folder, record, runtime)
    height, width = record.preprocessing.size
    import numpy as np

    teacher(np.zeros((1, 3, height, width), np.float32))
    return teacher


def _network(folder: Path) -> Any:
    from ..models.rebuild import rebuild

    record, tensors = load_trained(folder)
    return rebuild(record.model, record.num_classes, record.image_size, tensors, str(folder))


def trained_folder(path: Path) -> Path:
    """The folder in ``path`` that holds the teacher. Raises MldrError where there is none."""
    for inside in _INSIDE:
        if (path / inside / RECORD).is_file():
            return path / inside
    if not path.is_dir():
        raise MldrError(f"--teacher {path}: there is no such folder")
    raise MldrError(
        f"--teacher {path} holds no trained teacher ({RECORD} is neither in it nor in teacher/"
        "trained): give the --out of distill-and-export or train-teacher"
    )


def _require_same_classes(
    teacher_classes: Sequence[str], student_classes: Sequence[str], folder: Path
) -> None:
    if [*teacher_classes] == [*student_classes]:
        return
    if len(teacher_classes) != len(student_classes):
        difference = f"{len(teacher_classes)} classes where the bundle has {len(student_classes)}"
    else:
        pairs = enumerate(zip(teacher_classes, student_classes, strict=True))
        position, (name, label) = next((k, pair) for k, pair in pairs if pair[0] != pair[1])
        difference = f"class {position} is {name!r} where the bundle has {label!r}"
    raise MldrError(
        f"{folder} is not this student's teacher ({difference}): give the run it learned in"
    )
