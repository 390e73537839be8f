"""export and check on a real trained folder: what they print, where they stop, exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result

from mldr_deploy.bundle.preprocess import Preprocessing, normalise
from mldr_deploy.bundle.sealed import write_sealed
from mldr_deploy.bundle.trained import TrainedModel, save_trained
from mldr_deploy.cli.group import main
from mldr_deploy.data.data_config import DataConfig
from mldr_deploy.data.dataset import Dataset, load_dataset
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.models.architecture_config import ModelConfig
from mldr_deploy.models.family import family
from mldr_deploy.models.model_registry import create_model

MODEL = ModelConfig(name="test_resnet")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@torch.inference_mode()
def nearest_mean(model: Any, dataset: Dataset, spec: Preprocessing) -> None:
    """Let the classifier name the class whose features' mean is nearest: far above chance."""
    pixels, labels = dataset.train.pixels, torch.from_numpy(dataset.train.labels)
    assert pixels is not None
    inputs = torch.from_numpy(normalise(pixels, spec))
    features = model.forward_head(model.forward_features(inputs), pre_logits=True)
    means = torch.stack([features[labels == label].mean(0) for label in range(10)])
    head = model.get_classifier()
    head.weight.copy_(means)
    head.bias.copy_(-means.square().sum(1) / 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as training leaves it: random convolutions, a classifier that knows the means."""
    torch.manual_seed(0)
    config = DataConfig(source="digits")
    dataset = load_dataset(config)
    model = create_model(MODEL, num_classes=10, image_size=32).eval()
    spec = Preprocessing(size=(32, 32), resize="squash", mean=dataset.mean, std=dataset.std)
    nearest_mean(model, dataset, spec)
    folder = tmp_path_factory.mktemp("run") / "student"
    record = TrainedModel(
        model=MODEL.model_dump(mode="json"),
        num_classes=10,
        image_size=32,
        classes=list(dataset.classes),
        preprocessing=spec,
        family=family(model),
        parameters=sum(p.numel() for p in model.parameters()),
        data=config.model_dump(mode="json"),
        data_fingerprint=dataset.fingerprint,
    )
    save_trained(folder, record, {k: v.numpy() for k, v in model.state_dict().items()})
    return folder


@pytest.fixture(scope="module")
def bundle(trained: Path) -> Path:
    out = trained.parent / "bundle"
    result = run("export", trained, "--out", out, "--max-batch", 32)
    assert result.exit_code == 0, result.output
    assert "parity fp32: passed on 359 images" in result.stdout
    assert f"bundle: {out}" in result.stdout
    return out


def test_the_bundle_runs_outside_this_package(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    session = onnxruntime.InferenceSession(str(bundle / manifest["artifacts"][0]["file"]))
    golden = np.load(bundle / "golden.npz", allow_pickle=False)
    (logits,) = session.run(None, {manifest["input"]["name"]: golden["inputs"]})
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-3)
    assert manifest["max_batch"] == 32


def test_check_proves_it_again_on_the_recorded_data(bundle: Path) -> None:
    result = run("check", bundle)
    assert result.exit_code == 0, result.output
    assert "parity fp32: passed on 359 images" in result.stdout
    assert "the bundle holds" in result.stdout


def test_golden_only_leaves_the_split_alone(bundle: Path) -> None:
    result = run("check", bundle, "--golden-only", "--quiet")
    assert result.exit_code == 0, result.output
    assert "golden logits" in result.stdout
    assert "on 359 images" not in result.stdout
    assert result.stderr == ""


def test_check_refuses_a_changed_file(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    weights = copy / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    result = run("check", copy)
    assert result.exit_code == 1
    assert f"Error: {weights} was changed after export" in result.stderr


def test_refusals_are_one_line(bundle: Path, trained: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "b")
    for result, message in [
        (run("export", tmp_path, *out), f"{tmp_path} holds no trained model"),
        (run("export", trained, *out, "--max-batch", 1), "export: max_batch = 1 is not allowed"),
        (run("export", trained, *out, "--opset", 5), "export: opset = 5 is not allowed"),
        (run("export", trained, *out, "--precision", "fp32,fp4"), "precisions.1 = 'fp4' is not"),
        (run("export", trained, *out, "--target", "coreml"), "targets.0 = 'coreml' is not allowed"),
        (run("export", bundle / "student.onnx", *out), "student.onnx holds no trained model"),
        (run("check", bundle, "--data", "nonsense"), "data: source = 'nonsense' is not allowed"),
        (run("check", bundle, "--data", f"folder:{tmp_path}"), f"{tmp_path}"),
    ]:
        assert (result.exit_code, result.stdout) == (1, ""), result.output
        assert message in result.stderr
        assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("source", ["folder:photos", "folder:{}/photos", "parquet:{}/a.parquet"])
@pytest.mark.parametrize("command", ["check", "export", "build-engine"])
def test_data_that_are_elsewhere_are_exit_code_2_and_name_the_option(
    command: str, source: str, bundle: Path, trained: Path, tmp_path: Path
) -> None:
    given = {"check": bundle, "export": trained, "build-engine": bundle}[command]
    copy, record = tmp_path / "copy", "model.json" if command == "export" else "manifest.json"
    shutil.copytree(given, copy)
    content = json.loads((copy / record).read_text(encoding="utf-8"))
    content["data"]["source"] = source.format(tmp_path)
    write_sealed(copy / record, content)
    more = ["--out", tmp_path / "b"] if command == "export" else []
    result = run(command, copy, *more, "-q")
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    kind = source.partition(":")[0]
    assert result.stderr.count("\n") == 1 and f"--data {kind}:PATH" in result.stderr
    named = run(command, copy, *more, "-q", "--data", f"folder:{tmp_path}/nowhere")
    assert (named.exit_code, "nowhere" in named.stderr) == (1, True)  # a wrong word, not a lack


def test_defaults_in_the_help_are_those_of_the_config() -> None:
    text = run("export", "--help").stdout
    config = ExportConfig()
    assert f"[default: {config.opset}]" in text
    assert f"[default: {config.max_batch}]" in text
