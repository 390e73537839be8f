"""A situation, and the small real inputs that situations are made of: scikit-learn's digits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

DIGITS = load_digits()
RECIPE = """name = "r"
[data]
source = "folder:photos"
image_size = 32
batch_size = 8
[student]
name = "resnet10t"
[method]
name = "scratch"
[train]
epochs = 1
[export]
golden = 8
latency_seconds = 0
"""


@dataclass(frozen=True)
class Situation:
    """One thing that people have; ``probe`` makes it where it stands and says what happened."""

    kind: str
    name: str
    right: str  # regular expression that a right outcome holds
    probe: Callable[[], str]

    def holds(self, said: str) -> bool:
        """Whether ``said`` is right; a traceback never is."""
        return "Traceback" not in said and re.search(self.right, said) is not None


def digit(label: int, number: int, side: int = 32) -> Image.Image:
    """The picture ``number`` of ``label``, RGB [side, side]."""
    pixels = DIGITS.images[DIGITS.target == label][number]
    grey = Image.fromarray((pixels * 15.9).astype(np.uint8))
    return grey.resize((side, side)).convert("RGB")


def photos(classes: Sequence[str] = ("cat", "dog", "owl"), train: int = 16, val: int = 6) -> Path:
    """photos/train and photos/val with a folder a class: 48 and 18 pictures by default."""
    for label, name in enumerate(classes):
        for number in range(train + val):
            split = "train" if number < train else "val"
            path = Path("photos", split, name, f"{number:03}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            digit(label, number).save(path)
    return Path("photos")


def taken(source: str, **keys: object) -> str:
    """How many pictures the product takes from ``source``, or why it refuses."""
    from mldr_deploy.data.data_config import DataConfig
    from mldr_deploy.data.dataset import load_dataset
    from mldr_deploy.errors import MldrError

    try:
        found = load_dataset(DataConfig.model_validate({"source": source, "batch_size": 4, **keys}))
    except MldrError as error:
        return f"refused: {error}"
    learnt = len(found.train) + len(found.val)
    return f"{', '.join(found.classes)}: train+val {learnt}, test {len(found.test)}"


def command(*words: str, env: Mapping[str, str] | None = None, seconds: float = 300) -> str:
    """Exit code and last line of ``mldr-deploy words``."""
    done = subprocess.run(
        [sys.executable, "-m", "mldr_deploy", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=seconds,
        check=False,
    )
    text = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace").replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    crash = "Traceback: " if "Traceback (most recent call last)" in text else ""
    return f"exit {done.returncode}; {crash}{lines[-1] if lines else ''}"


def recipe(**changes: str) -> str:
    """r.toml as above, with ``changes`` of whole lines (key -> line)."""
    text = RECIPE
    for key, line in changes.items():
        text = re.sub(rf"(?m)^{key} = .*$", line, text)
    Path("r.toml").write_text(text, encoding="utf-8")
    return "r.toml"


def digits_run() -> str:
    """A finished run of the default recipe in ./run, made short. Its outcome."""
    keys = ("train.epochs=1", "teacher.train.epochs=2", "export.latency_seconds=0")
    sets = [word for key in keys for word in ("--set", key)]
    return command("distill-and-export", "--out", "run", "-q", *sets)
