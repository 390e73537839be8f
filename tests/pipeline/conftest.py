"""The main job in small: a recipe that trains for seconds, and the command line in-process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mldr_deploy.cli.group import main

# Five steps an epoch, enough for a teacher and a student beyond chance; no stage is skipped.
RECIPE = """
name = "small"
[data]
batch_size = 256
[teacher]
name = "test_resnet"
[teacher.train]
epochs = 5
precision = "fp32"
[teacher.optimizer]
name = "adamw"
lr = 1e-2
[student]
name = "test_vit"
[train]
epochs = 2
precision = "fp32"
teacher_precision = "fp32"
log_steps = 1
[optimizer]
name = "adamw"
lr = 3e-3
weight_decay = 0.05
[augment]
flip = 0
[export]
max_batch = 8
bisect = false
"""

Command = Callable[..., Result]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe's file."""
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def command(small: Path) -> Command:
    """``command("distill", out, "--set", ...)`` on the small recipe, as a person gives it."""

    def run(name: str, out: Path, *arguments: str) -> Result:
        where = ["--recipe", str(small), "--out", str(out), "--device", "cpu"]
        return CliRunner().invoke(main, [name, *where, *arguments])

    return run
