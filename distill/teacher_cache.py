"""The teacher's logits for every view, computed once and stored.

FOLDER/logits.npy   float16 [rows, B, C]: row r is the batch of `Views` row r, B the global batch;
                    [rows, B, C + F] where its pooled features of width F are kept behind them
FOLDER/cache.json   identity and shape of the logits
FOLDER/rows-R.json  how many rows the process of rank R has written, and the SHA-256 of each block

A plain NumPy file, mapped into memory: no code in it, and nothing is read that is not asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..bundle.atomic import writing
from ..bundle.lock import lock
from ..bundle.progress import Progress
from ..bundle.sealed import unsealed, write_sealed
from ..bundle.wording import cause
from ..errors import MldrError
from .task import FrozenTeacher
from .views import Views

LOGITS = "logits.npy"
RECORD = "cache.json"
_EVERY = 50  # rows between two notes of how far it is
# Largest difference, in logits, between a stored row and the teacher asked again: half a unit in
# the last place of float16 (2^-11 relative), and what bfloat16 kernels differ by among themselves.
_RELATIVE, _ABSOLUTE = 2e-2, 5e-2

Block = tuple[int, str]  # the row that it ends before, SHA-256 of the process's part of it
Answer = Callable[[Tensor], Tensor]  # images [b, 3, S, S] of 0..255 -> what is kept of them


@dataclass(frozen=True)
class RowShare:
    """The part of every row that belongs to one process."""

    rank: int
    world: int

    def columns(self, batch: int) -> slice:
        """This process's positions in a global batch of ``batch`` images."""
        width = batch // self.world
        return slice(self.rank * width, (self.rank + 1) * width)


class TeacherCache:
    """Logits by row. `open` makes or finds them, `fill` writes what is missing."""

    content: ClassVar[str] = "teacher's logits"  # for messages
    file: ClassVar[str] = LOGITS
    key: ClassVar[str] = "train.teacher_views"  # that says how much room they take

    def __init__(self, folder: Path, identity: str, logits: NDArray[np.float16], share: RowShare):
        self.folder, self.identity = folder, identity
        self._logits, self._share = logits, share
        self._columns = share.columns(logits.shape[1])
        self._blocks: list[Block] = []  # of the rows that are written

    @classmethod
    def open(
        cls, folder: Path, identity: str, shape: tuple[int, int, int], share: RowShare
    ) -> Self:
        """The cache of ``identity`` in ``folder``, with room for ``shape`` = (rows, B, C).

        The first process calls this before the others; `locked` keeps other runs away. Raises
        MldrError when the folder holds something else, or the disk has no room for it.
        """
        path = folder / cls.file
        if (folder / RECORD).is_file():
            cls._require(folder, identity)
        else:
            cls._make_room(path, identity, shape)
        try:
            logits = np.load(path, mmap_mode="r+", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise cls._stale(folder, f"{cls.file} cannot be read ({cause(error)})") from error
        if logits.shape != shape or logits.dtype != np.float16:
            is_there = f"{cls.file} is {logits.dtype} {logits.shape}"
            raise cls._stale(folder, f"{is_there}, not float16 {shape}")
        return cls(folder, identity, logits, share)

    def fill(
        self,
        views: Views,
        rows: int,
        answer: Answer,
        progress: Progress,
        side: int | None = None,
        check: Answer | None = None,
    ) -> None:
        """Ask the teacher for what is missing of this process's part of the first ``rows``.

        ``side``: the size at which it sees the views; None: the student's. ``check``: what the
        spot check asks, if not ``answer``.

        May be interrupted, and goes on from there.

        What is there is hashed: from the first damaged block on all is asked again, with a note.
        Its first row is spot-checked. Raises MldrError when the teacher now says something else, as
        after an upgrade that changed an augmentation, and when an answer is not finite.
        """
        filled_rows, side = self._intact(progress), side or views.side
        if filled_rows:
            self._spot_check(views, check or answer, side)
        if filled_rows >= rows:
            return
        progress.start(self.content, rows)
        progress.advance(filled_rows)
        try:
            for view in range(filled_rows // views.steps_per_epoch, rows // views.steps_per_epoch):
                start = filled_rows - view * views.steps_per_epoch
                for batch in views.epoch(view, start, (side,)):
                    self._logits[batch.row, self._columns] = _halves(answer(batch.images))
                    filled_rows = batch.row + 1
                    progress.advance()
                    if filled_rows % _EVERY == 0 or filled_rows == rows:
                        self._note(filled_rows)
        except KeyboardInterrupt:
            self._note(filled_rows)
            raise
        finally:
            progress.finish()

    def row(self, row: int, device: torch.device) -> Tensor:
        """This process's part of a row, float32 [b, C] or [b, C + F]."""
        stored = torch.from_numpy(np.array(self._logits[row, self._columns]))
        if device.type == "cuda":
            stored = stored.pin_memory()
        return stored.to(device, non_blocking=True).float()

    def _spot_check(self, views: Views, answer: Answer, side: int) -> None:
        batch = next(iter(views.epoch(0, sides=(side,))))
        current = answer(batch.images).float().cpu()
        stored = torch.from_numpy(np.array(self._logits[batch.row, self._columns])).float()
        if not torch.allclose(stored, current, rtol=_RELATIVE, atol=_ABSOLUTE):
            worst = (stored - current).abs().max().item()
            raise self._stale(self.folder, f"the teacher now differs by up to {worst:.3g}")

    @property
    def _progress_file(self) -> Path:
        return self.folder / f"rows-{self._share.rank}.json"

    def _intact(self, progress: Progress) -> int:
        """The number of rows, from the first on, that are as they were written."""
        self._blocks = []
        start, file = 0, self.folder / self.file
        for end, sha in self._recorded(progress):
            if self._hash(start, end) != sha:
                progress.note(
                    f"{file} is damaged after row {start}: the rows from there are asked again"
                )
                break
            self._blocks.append((end, sha))
            start = end
        return start

    def _recorded(self, progress: Progress) -> list[Block]:
        """The blocks that are noted; one of all rows where an older release noted no hashes."""
        try:
            record, _ = unsealed(self._progress_file.read_bytes())
            if "blocks" not in record:
                rows = int(record["rows"])
                return [(rows, self._hash(0, rows))]
            return [(int(end), str(sha)) for end, sha in record["blocks"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            progress.note(
                f"{self._progress_file} is damaged ({cause(error)}): all rows are asked again"
            )
            return []

    def _hash(self, start: int, end: int) -> str:
        """The SHA-256 of this process's part of the rows from ``start`` to before ``end``."""
        return hashlib.sha256(self._logits[start:end, self._columns].tobytes()).hexdigest()

    def _note(self, rows: int) -> None:
        """Record that ``rows`` rows are filled, once they are on the disk."""
        assert isinstance(self._logits, np.memmap)
        with writing(self.folder / self.file):
            self._logits.flush()
        start = self._blocks[-1][0] if self._blocks else 0
        if rows > start:
            self._blocks.append((rows, self._hash(start, rows)))
        write_sealed(self._progress_file, {"rows": rows, "blocks": self._blocks})

    @classmethod
    def _make_room(cls, path: Path, identity: str, shape: tuple[int, int, int]) -> None:
        """A file of the whole size, so that a full disk is met now; the record last."""
        folder = path.parent
        need = int(np.prod(shape, dtype=np.int64)) * 2
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
            if need > free:
                raise MldrError(
                    f"the {cls.content} take {need / 1e6:.0f} MB, {folder} has {free / 1e6:.0f} MB "
                    f"free: lower {cls.key}, or choose another --out"
                )
            for old in folder.glob("rows-*.json"):
                old.unlink()
            logits = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
            with path.open("r+b") as file:
                _allocate(file.fileno(), path.stat().st_size)
            logits.flush()
            write_sealed(folder / RECORD, {"identity": identity, "shape": list(shape)})
        except OSError as error:
            path.unlink(missing_ok=True)
            raise MldrError(
                f"the {cls.content} ({need / 1e6:.0f} MB) cannot be written to {folder} "
                f"({error.strerror}): lower {cls.key}, or choose another --out"
            ) from error

    @classmethod
    def _require(cls, folder: Path, identity: str) -> None:
        try:
            stored_identity = unsealed((folder / RECORD).read_bytes())[0]["identity"]
        except (OSError, ValueError, KeyError) as error:
            raise cls._stale(folder, f"{RECORD} is damaged") from error
        if stored_identity != identity:
            raise cls._stale(folder, "they are of another teacher, data, augmentation or seed")

    @classmethod
    def _stale(cls, folder: Path, reason: str) -> MldrError:
        return MldrError(
            f"the {cls.content} in {folder} are not usable: {reason}; delete that folder"
        )


@contextmanager
def locked(folder: Path, rank: int, progress: Progress) -> Iterator[None]:
    """Wait until no other run's process of this ``rank`` is filling ``folder``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / f".lock-{rank}").open("wb")
    except OSError as error:
        raise MldrError(f"{folder} cannot be written ({error.strerror})") from error
    with file:
        if not lock(file):
            progress.note("another run is asking the same teacher: waiting for its logits")
            lock(file, wait=True)
        yield


def cache_identity(
    teacher: FrozenTeacher, *, without: str | None = None, **circumstances: Any
) -> str:
    """A hash of the teacher's weights and preprocessing, and of what decides the pixels.

    ``without``: the module whose weights have no say.
    """
    digest = hashlib.sha256()
    weights = teacher.model.state_dict().items()
    for name, tensor in sorted(weights, key=lambda item: item[0]):
        if without and name.startswith(f"{without}."):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    conventions = {"decoding", "rounding"}  # one value each, which older caches do not state
    spec = teacher.preprocessing.model_dump(mode="json", exclude=conventions)
    parts = {"preprocessing": spec, **circumstances}
    digest.update(json.dumps(parts, sort_keys=True).encode())
    return digest.hexdigest()


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):  # else a full disk is met while filling
        os.posix_fallocate(descriptor, 0, size)


def _halves(logits: Tensor) -> NDArray[np.float16]:
    """float16, saturated: a logit beyond 65504 decides any softmax anyway.

    Raises MldrError for NaN and infinity, which say that the teacher is broken.
    """
    exact, limit = logits.float().cpu(), torch.finfo(torch.float16).max
    if not exact.isfinite().all():
        raise MldrError(
            "the teacher answers with NaN or infinity to training images: set "
            "train.teacher_precision=fp32, or give other teacher.weights"
        )
    halves: NDArray[np.float16] = exact.clamp(-limit, limit).half().numpy()
    return halves
