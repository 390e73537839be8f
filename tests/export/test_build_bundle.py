from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from PIL import Image
from safetensors.numpy import load_file

from mldr_deploy.bundle.preprocess import preprocess
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.bundle.targets import TARGETS, Target
from mldr_deploy.bundle.trained import load_trained, save_trained
from mldr_deploy.errors import MldrError, Unavailable
from mldr_deploy.export import build_bundle as building
from mldr_deploy.export import kinds
from mldr_deploy.export.artifact_kind import ExportContext, Written
from mldr_deploy.export.build_bundle import build_bundle
from mldr_deploy.export.calibration import Calibration, CalibrationConfig
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.recheck import check_bundle

CONFIG = ExportConfig(max_batch=32)


def test_what_is_in_a_bundle(run: Any, exported: Bundle) -> None:
    assert exported
    names = {path.name for path in exported.path.iterdir()}
    files = {"student.onnx", "weights.safetensors", "golden.npz", "MODEL_CARD.md", "infer.py"}
    files |= {"quality.json", "quality.png", "mistakes.png"}
    assert names == {"manifest.json", "timm", *files}
    files |= {"timm/config.json", "timm/model.safetensors", "timm/README.md"}
    assert {entry.file for entry in exported.manifest.files} == files
    manifest = open_bundle(exported.path).manifest
    assert manifest.labels == [*run.dataset.classes]
    assert manifest.input.shape == ["batch", 3, 32, 32]
    assert manifest.output.shape == ["batch", 10]
    assert manifest.preprocessing == run.record.preprocessing
    artifact = exported.artifact()
    assert (artifact.format, artifact.precision, artifact.opset) == ("onnx", "fp32", 20)
    assert artifact.status == "passed" and artifact.fault is None
    assert artifact.parity.samples == len(run.dataset.test)
    assert [check.batch for check in artifact.parity.batches] == [1, 2, 32]
    provenance = manifest.provenance
    assert provenance["teacher"] == "t"
    assert provenance["training"] == run.record.provenance
    assert provenance["export"]["versions"]["onnxruntime"] == onnxruntime.__version__


def test_the_weights_are_the_trained_ones(run: Any, exported: Bundle) -> None:
    _, trained = load_trained(run.folder)
    shipped = load_file(exported.path / "weights.safetensors")
    assert shipped.keys() == trained.keys()
    assert all(np.array_equal(shipped[name], trained[name]) for name in trained)


def test_accuracy_is_that_of_the_model_on_the_test_split(run: Any, exported: Bundle) -> None:
    import torch

    spec, test = run.record.preprocessing, run.dataset.test
    mean, std = np.array(spec.mean), np.array(spec.std)
    inputs = ((test.pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.inference_mode():
        right = run.model.eval()(torch.from_numpy(inputs)).argmax(1).numpy() == test.labels
    expected = 100 * right.mean()
    assert 50 < expected < 100
    assert exported.artifact().parity.reference.top1 == pytest.approx(expected)
    assert exported.artifact().parity.artifact.top1 == pytest.approx(expected)


def test_the_student_s_quality_is_that_of_its_own_logits(run: Any, exported: Bundle) -> None:
    import torch

    def logits_of(split: Any) -> Any:
        inputs = torch.from_numpy(preprocess(list(split.pixels), run.record.preprocessing))
        with torch.inference_mode():
            return run.model.eval()(inputs).double()

    manifest, test, val = exported.manifest, run.dataset.test, run.dataset.val
    quality = manifest.quality
    assert quality is not None and quality.fitted_on == len(val)
    logits, labels = logits_of(val), torch.from_numpy(val.labels)
    losses = {
        scale: float(torch.nn.functional.cross_entropy(logits / scale, labels))
        for scale in manifest.temperature * np.array([0.99, 1.0, 1.01])
    }
    assert min(losses, key=lambda scale: losses[scale]) == manifest.temperature
    logits, labels = logits_of(test), torch.from_numpy(test.labels)
    told = torch.nn.functional.cross_entropy(logits / manifest.temperature, labels)
    assert quality.calibrated.loss == pytest.approx(float(told), rel=1e-5)
    assert quality.top1 == pytest.approx(exported.artifact().parity.reference.top1)
    first = quality.mistakes[0]
    shares = (logits[first.index] / manifest.temperature).softmax(0)
    assert manifest.labels[int(shares.argmax())] == first.said != first.label
    assert first.label == manifest.labels[int(labels[first.index])]
    assert first.probability == pytest.approx(float(shares.max()), rel=1e-5)
    for name in ("quality.png", "mistakes.png"):
        with Image.open(exported.path / name) as picture:
            assert picture.width > 900


def test_the_student_is_held_against_naming_the_largest_class(run: Any, exported: Bundle) -> None:
    chance, labels = exported.manifest.chance, run.dataset.test.labels
    assert chance is not None and (chance.images, chance.largest) == (
        359,
        np.bincount(labels).max(),
    )
    assert 100 * chance.hits / 359 == pytest.approx(exported.artifact().parity.reference.top1)
    assert exported and not exported.manifest.at_chance


def test_golden_images_are_test_images_as_fed(run: Any, exported: Bundle) -> None:
    golden, test = exported.golden, run.dataset.test
    assert len(golden) == CONFIG.golden
    assert golden.index[0] == 0 and golden.index[-1] == len(test) - 1
    images = [test.image(int(index)) for index in golden.index]
    assert np.array_equal(golden.inputs, preprocess(images, run.record.preprocessing))
    assert np.array_equal(golden.label, test.labels[golden.index])
    session = onnxruntime.InferenceSession(exported.path / "student.onnx")
    (logits,) = session.run(["logits"], {"input": golden.inputs})
    np.testing.assert_allclose(logits, golden.logits, atol=1e-4)


@pytest.mark.slow
def test_a_failed_gate_marks_the_bundle_and_says_where(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = kinds.KINDS["onnx", "fp32"]

    def damaging(context: ExportContext) -> Written:
        written = healthy.write(context)
        path = context.folder / written.file
        proto = onnx.load(path)
        (weight,) = [t for t in proto.graph.initializer if t.name == "layer2.0.conv1.weight"]
        value = 1.5 * numpy_helper.to_array(weight)
        weight.CopyFrom(numpy_helper.from_array(value, weight.name))
        onnx.save(proto, path)
        return written

    with monkeypatch.context() as patch:
        patch.setitem(kinds.KINDS, ("onnx", "fp32"), dataclasses.replace(healthy, write=damaging))
        bundle = build_bundle(run.folder, tmp_path / "bundle", CONFIG, dataset=run.dataset)
    assert not bundle
    written = json.loads((tmp_path / "bundle/manifest.json").read_text())["artifacts"][0]
    assert written["status"] == "failed"
    assert written["fault"]["module"] == "layer2.0.bn1"
    assert "layer2.0.conv1.weight" in written["fault"]["weights"]
    assert any("|dlogit|" in failure for failure in written["parity"]["failures"])
    with pytest.raises(MldrError, match="failed its parity gate"):
        open_bundle(tmp_path / "bundle")
    result = check_bundle(tmp_path / "bundle", dataset=run.dataset)
    assert not result
    assert result.faults["student.onnx"].module == "layer2.0.bn1"
    assert "FAILED  student.onnx at export" in str(result)
    assert "from PyTorch module layer2.0.bn1 (BatchNorm2d)" in str(result)


def test_what_this_machine_cannot_make_is_told_and_the_rest_is_written(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(context: ExportContext) -> Written:
        assert context.onnx().is_file()
        raise Unavailable("no such library")

    absent = dataclasses.replace(kinds.KINDS["onnx", "fp32"], write=impossible)
    monkeypatch.setitem(TARGETS, "elsewhere", Target("elsewhere", ("fp32",)))
    monkeypatch.setitem(kinds.KINDS, ("elsewhere", "fp32"), absent)
    config = CONFIG.model_copy(update={"targets": ("elsewhere",)})
    bundle = build_bundle(run.folder, tmp_path / "bundle", config, dataset=run.dataset)
    assert bundle
    assert [artifact.file for artifact in bundle.manifest.artifacts] == ["student.onnx"]
    assert bundle.manifest.unavailable == ["elsewhere fp32: no such library"]
    # Again, everything is kept and nothing measured: the quality is still there, and the same.
    again = build_bundle(run.folder, tmp_path / "bundle", config, dataset=run.dataset)
    before, after = bundle.manifest.quality, again.manifest.quality
    assert before is not None and after is not None
    assert (after.weakest, after.confused) == (before.weakest, before.confused)
    assert after.calibrated.loss == pytest.approx(before.calibrated.loss, rel=1e-5)


def test_calibration_sees_real_training_images_through_the_one_preprocessing(run: Any) -> None:
    spec, train = run.record.preprocessing, run.dataset.train
    calibration = Calibration(train, spec, CalibrationConfig(images=50))
    fed = np.concatenate(list(calibration.batches(16)))
    assert len(np.unique(calibration.rows)) == len(calibration) == len(fed) == 50
    assert train.pixels is not None
    mean, std = np.array(spec.mean), np.array(spec.std)
    expected = (train.pixels[calibration.rows] / 255 - mean) / std
    np.testing.assert_allclose(fed, expected.transpose(0, 3, 1, 2), atol=1e-5)
    assert len(Calibration(train, spec, CalibrationConfig(images=65536))) == len(train)


def test_other_data_than_trained_on(run: Any, tmp_path: Path) -> None:
    other = dataclasses.replace(run.dataset, fingerprint="0" * 64)
    with pytest.raises(MldrError, match="was trained on other data than digits as it is now"):
        build_bundle(run.folder, tmp_path / "bundle", CONFIG, dataset=other)
    assert not (tmp_path / "bundle").exists()


def test_classes_in_another_order(run: Any, tmp_path: Path) -> None:
    _, tensors = load_trained(run.folder)
    swapped = run.record.model_copy(update={"classes": [*run.record.classes[::-1]]})
    save_trained(tmp_path / "student", swapped, tensors)
    with pytest.raises(MldrError, match="class 0 is called '9' and is '0' in digits"):
        build_bundle(tmp_path / "student", tmp_path / "bundle", CONFIG, dataset=run.dataset)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mean", (0.5, 0.5, 0.5), r"preprocessing\.mean is \[0\.5, 0\.5, 0\.5\] where training"),
        ("channel_order", "bgr", r"preprocessing\.channel_order is 'bgr' where training evaluated"),
        ("interpolation", "nearest", r"preprocessing\.interpolation is 'nearest' where training"),
    ],
)
def test_preprocessing_that_is_not_the_trainings(
    run: Any, tmp_path: Path, key: str, value: object, message: str
) -> None:
    _, tensors = load_trained(run.folder)
    other = run.record.preprocessing.model_copy(update={key: value})
    save_trained(
        tmp_path / "student", run.record.model_copy(update={"preprocessing": other}), tensors
    )
    with pytest.raises(MldrError, match=message):
        build_bundle(tmp_path / "student", tmp_path / "bundle", CONFIG, dataset=run.dataset)


def test_weights_that_are_not_the_evaluated_ones(run: Any, tmp_path: Path) -> None:
    _, tensors = load_trained(run.folder)
    tensors["fc.weight"] = 1.01 * tensors["fc.weight"]
    save_trained(tmp_path / "student", run.record, tensors)
    message = r"validation loss [\d.]+ where training recorded [\d.]+ \(off by .*other weights were"
    with pytest.raises(MldrError, match=message):
        build_bundle(tmp_path / "student", tmp_path / "bundle", CONFIG, dataset=run.dataset)
    assert not (tmp_path / "bundle").exists()


def test_weights_that_do_not_fit_the_model(run: Any, tmp_path: Path) -> None:
    _, tensors = load_trained(run.folder)
    del tensors["fc.bias"]
    save_trained(tmp_path / "student", run.record, tensors)
    with pytest.raises(MldrError, match=r"weights do not fit test_resnet .*fc\.bias") as caught:
        build_bundle(tmp_path / "student", tmp_path / "bundle", CONFIG, dataset=run.dataset)
    assert "\n" not in str(caught.value)


def test_a_model_configuration_of_another_version(run: Any, tmp_path: Path) -> None:
    _, tensors = load_trained(run.folder)
    record = run.record.model_copy(update={"model": {"name": "test_resnet", "wings": 2}})
    save_trained(tmp_path / "student", record, tensors)
    with pytest.raises(MldrError, match=r"model\.wings: Extra inputs are not permitted"):
        build_bundle(tmp_path / "student", tmp_path / "bundle", CONFIG, dataset=run.dataset)


def test_too_few_test_images(run: Any, tmp_path: Path) -> None:
    few = dataclasses.replace(run.dataset, test=run.dataset.test.subset(np.arange(7)))
    with pytest.raises(MldrError, match="digits has 7 test images, a bundle needs 8 at least"):
        build_bundle(run.folder, tmp_path / "bundle", CONFIG, dataset=few)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_the_earlier_bundle(
    run: Any, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (copied / "manifest.json").read_bytes()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "_golden", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_bundle(run.folder, copied, CONFIG, dataset=run.dataset)
    assert (copied / "manifest.json").read_bytes() == before
    assert [path.name for path in copied.parent.iterdir()] == ["copied"]
    assert open_bundle(copied)


def test_a_folder_with_other_files_is_not_replaced(run: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(MldrError, match=r"holds other files \(there is no manifest\.json"):
        build_bundle(run.folder, tmp_path, CONFIG, dataset=run.dataset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"opset": 17}, "greater than or equal to 18"),
        ({"max_batch": 1}, "greater than or equal to 2"),
        ({"golden": 7}, "greater than or equal to 8"),
        ({"precisions": ("fp4",)}, "'fp32', 'fp16'"),
        ({"precisions": ()}, "at least 1 item"),
        ({"precisions": ("fp32", "fp32")}, "each once"),
        ({"gates": {"fp32": {"max_dlogit": -1}}}, "greater than or equal to 0"),
        ({"speed": 1}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_configurations(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExportConfig(**change)


def test_no_module_of_export_is_heavy_to_import() -> None:
    import subprocess

    program = (
        "import importlib, pkgutil, sys, mldr_deploy.export as package\n"
        "for module in pkgutil.iter_modules(package.__path__):\n"
        "    importlib.import_module(f'mldr_deploy.export.{module.name}')\n"
        "print([n for n in ('torch', 'timm', 'onnx', 'onnxruntime') if n in sys.modules])\n"
    )
    root = Path(sys.modules["mldr_deploy"].__path__[0]).parent
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
