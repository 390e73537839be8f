"""A model whose stages cannot be tapped: it teaches by its logits, and is refused as a student."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import timm
from click.testing import CliRunner

from mldr_deploy.cli.group import main
from mldr_deploy.distill import training_run
from mldr_deploy.distill.methods.method_registry import MethodConfig
from mldr_deploy.distill.phase import Phase, Training
from mldr_deploy.distill.teacher_loading import load_teacher
from mldr_deploy.distill.training_config import TrainConfig
from mldr_deploy.errors import MldrError
from mldr_deploy.models.architecture_config import ModelConfig

TRAINING = Training(train=TrainConfig(epochs=1, precision="fp32"))
RESNET, VIT = ModelConfig(name="test_resnet"), ModelConfig(name="test_vit")


@pytest.fixture(autouse=True)
def resnets_without_stages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delattr(timm.models.ResNet, "forward_intermediates")
    yield


def test_it_is_trained_and_teaches_by_its_logits(phase: Phase) -> None:
    folder = training_run.train_teacher(
        replace(phase, folder=phase.folder / "teacher"), RESNET, TRAINING
    )
    teacher = load_teacher(RESNET.model_copy(update={"weights": str(folder)}), phase)
    trained = training_run.distill(phase, VIT, teacher, MethodConfig(), TRAINING)
    assert (trained / "weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("method", "lacks"), [("fitnet", "the teacher's stages"), ("rkd", "the features")]
)
def test_methods_that_look_inside_the_teacher_say_so(phase: Phase, method: str, lacks: str) -> None:
    teacher = load_teacher(RESNET, phase)
    with pytest.raises(MldrError, match=f"method {method} compares {lacks}") as caught:
        training_run.distill(phase, VIT, teacher, MethodConfig(name=method), TRAINING)
    assert str(caught.value).endswith("choose another teacher.name or method.name")


@pytest.mark.parametrize("command", ["distill", "distill-and-export"])
def test_the_command_names_the_step_and_what_to_do(command: str, tmp_path: Path) -> None:
    """At once: before the teacher is trained."""
    given = ["--set", "student.name=test_resnet"]
    result = CliRunner().invoke(main, [command, "--out", str(tmp_path / "run"), "--quiet", *given])
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: stages: ResNet offers no intermediate features")
    assert "choose another model (`mldr-deploy models` lists those that work)" in line
    assert not (tmp_path / "run" / "teacher").exists()
