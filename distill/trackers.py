"""Where else a run's metrics go: TensorBoard, MLflow, Weights & Biases, by Accelerate's trackers.

metrics.jsonl is always written; a tracker that fails later is left out with a note, and training
goes on. MLflow and W&B are set up as their users know it: MLFLOW_TRACKING_URI, WANDB_MODE, ...
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from ..bundle.atomic import write_json, writing
from ..errors import Unavailable

TrackerName = Literal["tensorboard", "mlflow", "wandb"]
IDS = "trackers.json"  # of the runs, so that a resumed training goes on in them


class RunTrackers:
    """The trackers ``names`` of the run in ``folder``; ``step`` > 0: resumed there.

    The experiment (W&B: project) is called as the folder above, the run as the folder.
    ``settings`` are kept as the run's parameters. Raises Unavailable for a package that is missing.
    """

    def __init__(
        self,
        names: Sequence[TrackerName],
        folder: Path,
        *,
        step: int = 0,
        settings: Mapping[str, Any] | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        require_trackers(names)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._step, self._note = folder.resolve(), step, note
        self._ids: dict[str, str] = _stored_ids(folder) if step else {}
        self._trackers: dict[str, Any] = {}
        for name in names:
            if find_spec(name) is not None:
                self._attempt(name, partial(self._open, name, dict(settings or {})))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """The values of one step, by name."""
        for name, tracker in [*self._trackers.items()]:
            self._attempt(name, partial(tracker.log, dict(values), step=step))

    def close(self) -> None:
        """End the runs; they are shown as finished."""
        for name, tracker in [*self._trackers.items()]:
            self._attempt(name, tracker.finish)
        self._trackers = {}

    def _open(self, name: str, settings: dict[str, Any]) -> None:
        resumed = name in self._ids
        tracker = _created(name, self._folder, self._step, self._ids.get(name))
        if hasattr(tracker, "start"):  # older versions of Accelerate start by themselves
            tracker.start()
        self._trackers[name] = tracker
        if name == "tensorboard":
            return
        run = tracker.tracker
        self._ids[name] = run.info.run_id if name == "mlflow" else run.id
        write_json(self._folder / IDS, self._ids)
        if not resumed:
            tracker.store_init_configuration(settings)

    def _attempt(self, name: str, work: Callable[[], object]) -> None:
        """``work``; a tracker that fails is no reason to end a training."""
        try:
            work()
        except Exception as error:  # servers and disks fail in each library's own way
            failed = self._trackers.pop(name, None)
            with contextlib.suppress(Exception):  # a run that stays open is in the next one's way
                if failed is not None:
                    failed.finish()
            self._note(f"{name} is left out from here: {' '.join(str(error).split())[:200]}")


def require_trackers(names: Sequence[str]) -> None:
    """Raises Unavailable, with the command that installs it, for a tracker that is not here."""
    for name in names:
        if name != "tensorboard" and find_spec(name) is None:
            raise Unavailable(f"train.trackers names {name}, which is missing: pip install {name}")


def _created(name: str, folder: Path, step: int, run_id: str | None) -> Any:
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    experiment = folder.parent.name or "mldr-deploy"
    if name == "mlflow":
        return MLflowTracker(experiment_name=experiment, run_name=folder.name, run_id=run_id)
    if name == "wandb":
        return WandBTracker(
            experiment, name=folder.name, dir=str(folder), id=run_id, resume="allow"
        )
    # What came after the checkpoint's step happens again: purged.
    return TensorBoardTracker("tensorboard", folder, purge_step=step + 1 if step else None)


def _stored_ids(folder: Path) -> dict[str, str]:
    try:
        content = json.loads((folder / IDS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
