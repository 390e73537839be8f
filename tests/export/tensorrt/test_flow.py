"""The whole way on the doubles: build, inspect, parity, manifest, reload, rebuild, refusal."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import double
import double_cuda
import numpy as np
import onnx
import pytest

from mldr_deploy.bundle import atomic, sealed
from mldr_deploy.bundle.engine import AskedPrecision, PrecisionProof, Profile, RtxRecord
from mldr_deploy.bundle.manifest import BuiltEngine, describe, write_manifest
from mldr_deploy.bundle.progress import Silent
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.errors import MldrError, Unavailable
from mldr_deploy.export import rebuild_engine
from mldr_deploy.export.build_bundle import build_bundle
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.rebuild_engine import engine_here
from mldr_deploy.export.recheck import check_bundle
from mldr_deploy.profiler.layer_job import LayerJob
from mldr_deploy.profiler.layers import layers_of
from mldr_deploy.runtimes.model_file import ModelFile
from mldr_deploy.runtimes.runtime import RuntimeOptions
from mldr_deploy.runtimes.runtime_kinds import RUNTIMES
from mldr_deploy.runtimes.tensorrt import TensorRt

CONFIG = ExportConfig(max_batch=32, targets=("onnx", "tensorrt"))
PLAN = "engines/double-gpu-10.16.1.11.fp32.plan"
LAYERS = "engines/double-gpu-10.16.1.11.fp32.layers.json"


@pytest.fixture(scope="module")
def built(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with ONNX file and engine, exported on the doubles."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        cuda = double_cuda.installed(patch)
        patch.setitem(sys.modules, "tensorrt", double.FakeTensorRT(cuda))
        build_bundle(run.folder, folder / "bundle", CONFIG, dataset=run.dataset)
    return folder / "bundle"


@pytest.fixture
def bundle(trt: Any, built: Path, tmp_path: Path) -> Bundle:
    """A copy of it, on the same machine."""
    return open_bundle(Path(shutil.copytree(built, tmp_path / "bundle")))


def listing(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_export_writes_a_proven_engine(bundle: Bundle, run: Any) -> None:
    assert bundle and bundle.manifest.unavailable == []
    onnx, engine = bundle.manifest.artifacts
    assert (engine.format, engine.precision, engine.file) == ("tensorrt", "fp32", PLAN)
    assert engine.opset is None and engine.status == "passed"
    assert engine.parity.samples == len(run.dataset.test)
    assert [check.batch for check in engine.parity.batches] == [1, 2, 32]
    record = engine.engine
    assert record is not None
    assert record.machine.gpu == "Double GPU" and record.machine.tensorrt == "10.16.1.11"
    assert (record.profile.min, record.profile.opt, record.profile.max) == (1, 1, 32)
    assert (record.source, record.source_sha256) == (onnx.file, onnx.sha256)
    assert record.proof and record.proof.compute["fp32"] > 5
    assert [entry.file for entry in engine.beside] == [LAYERS]
    assert json.loads((bundle.path / LAYERS).read_text())["Layers"]


def test_the_engine_is_read_back_and_runs(bundle: Bundle) -> None:
    again = open_bundle(bundle.path)
    with TensorRt(ModelFile.of(again, again.artifact("fp32", "tensorrt"))) as runner:
        logits = runner(again.golden.inputs)
    np.testing.assert_allclose(logits, again.golden.logits, atol=1e-3)


def test_check_proves_the_engine_again(bundle: Bundle, run: Any, cuda: Any) -> None:
    result = check_bundle(bundle.path, dataset=run.dataset)
    assert result, str(result)
    assert result.parity[PLAN].samples == len(run.dataset.test)
    cuda.gpu = "Another GPU"
    result = check_bundle(bundle.path)
    assert result, str(result)
    assert f"skipped {PLAN}: {PLAN}: built for Double GPU, here is Another GPU" in str(result)


@pytest.mark.parametrize("version", ["10.16.1.11", "11.4.0.106"])  # the inspector's words differ
def test_time_per_layer_with_the_inspector_s_precision(
    exported: Bundle, trt: Any, tmp_path: Path, version: str
) -> None:
    trt.__version__ = version
    path = Path(shutil.copytree(exported.path, tmp_path / "served"))
    made = engine_here(path, "fp32")
    options = RuntimeOptions(threads=1)
    job = LayerJob(RUNTIMES["tensorrt"], open_bundle(path), made, options, calls=3)
    measured = layers_of(job)
    assert measured.note == "TensorRT's IProfiler, mean of 3 calls without CUDA graphs"
    nodes = {node.name for node in onnx.load(path / "student.onnx").graph.node}
    assert {row.name for row in measured.rows} == nodes
    products = [row for row in measured.rows if row.kind in ("CaskConvolution", "gemm")]
    assert len(products) > 5 and {row.precision for row in products} == {"fp32"}
    last = measured.rows[0]  # the double says 0.25 ms more of every layer
    assert last.milliseconds == pytest.approx(0.25 * len(nodes))


def test_a_tampered_engine_is_refused(bundle: Bundle, trt: Any) -> None:
    plan = bundle.path / PLAN
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(content)
    before = trt.loaded
    with pytest.raises(MldrError, match=r"\.plan was changed after export"):
        open_bundle(bundle.path)
    held = open_bundle(bundle.path, verify=False)  # and changed after it was verified
    with pytest.raises(MldrError, match="is not the engine that the manifest lists"):
        TensorRt(ModelFile.of(held, held.artifact("fp32", "tensorrt"))).load()
    assert trt.loaded == before


def test_tampered_layers_are_noticed(bundle: Bundle) -> None:
    (bundle.path / LAYERS).write_text("{}")
    with pytest.raises(MldrError, match=r"layers\.json was changed after export"):
        open_bundle(bundle.path)


def test_an_engine_that_is_not_listed_is_not_loaded(bundle: Bundle) -> None:
    onnx = bundle.artifact("fp32", "onnx")
    with pytest.raises(MldrError, match=r"student\.onnx is no TensorRT engine"):
        TensorRt(ModelFile.of(bundle, onnx)).load()


@pytest.mark.parametrize(
    ("gpu", "version", "reason"),
    [
        ("Another GPU", "10.16.1.11", "built for Double GPU, here is Another GPU"),
        ("Double GPU", "11.4.0.106", "built with TensorRT 10.16.1.11, here is 11.4.0.106"),
    ],
)
def test_another_machine_rebuilds(
    bundle: Bundle, run: Any, trt: Any, cuda: Any, gpu: str, version: str, reason: str
) -> None:
    cuda.gpu, trt.__version__ = gpu, version
    before = listing(bundle.path)
    with pytest.raises(Unavailable, match=f"{reason}: `mldr-deploy build-engine"):
        TensorRt(ModelFile.of(bundle, bundle.artifact("fp32", "tensorrt"))).load()
    made = engine_here(bundle.path, "fp32", dataset=run.dataset)
    assert made.status == "passed" and made.parity.samples == len(run.dataset.test)
    after = listing(bundle.path)
    unchanged = {name: data for name, data in before.items() if name != "manifest.json"}
    assert {name: after[name] for name in unchanged} == unchanged
    again = open_bundle(bundle.path)
    assert [a.format for a in again.manifest.artifacts] == ["onnx", "tensorrt", "tensorrt"]
    assert again.manifest.artifacts[-1] == made
    with TensorRt(ModelFile.of(again, made)) as runner:
        np.testing.assert_allclose(runner(again.golden.inputs), again.golden.logits, atol=1e-3)
    loaded = trt.loaded
    assert engine_here(bundle.path, "fp32") == made  # the second time it is there
    assert trt.loaded == loaded


def test_without_data_the_golden_images_prove_it(
    exported: Bundle, trt: Any, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(exported.path, tmp_path / "served"))
    made = engine_here(path, "fp32")
    assert made.status == "passed" and made.parity.samples == len(exported.golden)
    assert open_bundle(path).artifact("fp32", "tensorrt") == made


def test_an_engine_that_gives_other_logits_fails(
    exported: Bundle, trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = double.FakeTensorRT.layers
    path = Path(shutil.copytree(exported.path, tmp_path / "served"))

    def damaging(self: Any, proto: Any, typed: bool) -> Any:
        from onnx import numpy_helper

        (weight,) = [t for t in proto.graph.initializer if t.name == "fc.weight"]
        value = numpy_helper.to_array(weight)[::-1].copy()
        weight.CopyFrom(numpy_helper.from_array(value, weight.name))
        return genuine(self, proto, typed)

    monkeypatch.setattr(double.FakeTensorRT, "layers", damaging)
    made = engine_here(path, "fp32")
    assert made.status == "failed"
    assert any("agreement" in failure for failure in made.parity.failures)
    with pytest.raises(MldrError, match="failed its parity gate"):
        open_bundle(path).artifact("fp32", "tensorrt")


def test_a_silently_fp32_engine_fails(
    run: Any, trt: Any, cuda: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An "fp16" engine whose layers are fp32: right logits, and refused all the same."""
    config = CONFIG.model_copy(update={"precisions": ("fp16",), "targets": ("tensorrt",)})
    honest = build_bundle(run.folder, tmp_path / "honest", config, dataset=run.dataset)
    (engine,) = [a for a in honest.manifest.artifacts if a.format == "tensorrt"]
    assert engine.status == "passed" and engine.engine is not None
    assert engine.engine.proof.compute.get("fp16", 0) > 5
    trt.silently_fp32, cuda.gpu = True, "Another GPU"
    lying = engine_here(honest.path, "fp16", dataset=run.dataset)
    assert lying.status == "failed" and not open_bundle(honest.path, allow_failed=True)
    assert lying.parity.disagreements <= 2  # the logits alone would have passed
    assert any("fp16 NOT proven: 0 of" in failure for failure in lying.parity.failures)


@pytest.mark.slow
def test_without_tensorrt_the_rest_is_written(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # importing it fails
    notes: list[str] = []

    class Noting:
        def start(self, name: str, total: int | None) -> None: ...

        def advance(self, n: int = 1, **info: float | str) -> None: ...

        def finish(self) -> None: ...

        def note(self, text: str) -> None:
            notes.append(text)

    bundle = build_bundle(
        run.folder, tmp_path / "bundle", CONFIG, dataset=run.dataset, progress=Noting()
    )
    assert bundle and [a.format for a in bundle.manifest.artifacts] == ["onnx"]
    (reason,) = bundle.manifest.unavailable
    assert reason == (
        'tensorrt fp32: TensorRT is not installed: pip install "mldr-deploy[tensorrt]"'
    )
    assert any(note.startswith("lint student.onnx by ") for note in notes)
    assert not (bundle.path / "engines").exists()


def test_a_refused_build_changes_nothing(exported: Bundle, trt: Any) -> None:
    trt.fails = "no kernel"
    before = listing(exported.path)
    with pytest.raises(Unavailable, match=r"TensorRT does not build student\.onnx: no kernel"):
        engine_here(exported.path, "fp32")
    assert listing(exported.path) == before


def test_no_onnx_file_of_that_precision(exported: Bundle, trt: Any) -> None:
    with pytest.raises(MldrError, match="holds no onnx int8-symmetric artifact, only onnx fp32"):
        engine_here(exported.path, "int8")


@pytest.mark.parametrize("fails_at", [PLAN, LAYERS, "manifest.json"])
def test_a_full_disk_leaves_the_bundle_as_it_was(
    exported: Bundle, trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    path = Path(shutil.copytree(exported.path, tmp_path / "served"))
    before = listing(path)

    def full(target: Path, data: bytes) -> None:
        if str(target).endswith(fails_at) and target.is_relative_to(path):
            raise MldrError(f"{target} cannot be written (No space left on device)")
        genuine(target, data)

    genuine = atomic.write_bytes
    for module in (atomic, sealed, rebuild_engine):
        monkeypatch.setattr(module, "write_bytes", full)
    with pytest.raises(MldrError, match="No space left on device"):
        engine_here(path, "fp32")
    assert listing(path) == before and not (path / "engines").exists()
    assert open_bundle(path)


def test_a_changed_onnx_file_is_not_built_from(exported: Bundle, trt: Any, tmp_path: Path) -> None:
    path = Path(shutil.copytree(exported.path, tmp_path / "served"))
    with (path / "student.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(MldrError, match=r"student\.onnx was changed after export"):
        engine_here(path, "fp32")


def test_golden_images_are_held_against_pytorchs_own_logits(exported: Bundle) -> None:
    asked: list[int] = []

    class StandIn:
        def __call__(self, inputs: Any) -> Any:
            asked.append(len(inputs))
            return np.zeros((len(inputs), 10), np.float32)

    golden = exported.golden
    reference = rebuild_engine.StoredLogits(golden, StandIn())
    assert np.array_equal(reference(golden.inputs[3:5]), golden.logits[3:5])
    assert asked == []
    assert not reference(1 - golden.inputs[:2]).any() and asked == [2]


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def with_rtx_engine(path: Path) -> str:
    """Add an engine of TensorRT-RTX, as far as a manifest knows it; its file."""
    manifest, file = open_bundle(path).manifest, "engines/rtx.fp32.plan"
    (path / file).write_bytes(b"an engine")
    onnx = manifest.artifacts[0]
    record = RtxRecord(
        version="1.7.1",
        capabilities=["8.9"],
        profile=Profile(min=1, opt=1, max=32),
        source=onnx.file,
        source_sha256=onnx.sha256,
        asked=AskedPrecision(claimed="fp32", multiplies={"fp32": 3}),
    )
    engine = BuiltEngine(**describe(path, file).model_dump(), precision="fp32", rtx=record)
    write_manifest(path, manifest.model_copy(update={"built": [engine]}))
    return file


@pytest.mark.slow
def test_a_precision_is_added_beside_engines_of_every_machine(
    bundle: Bundle, run: Any, trt: Any, cuda: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda.gpu = "Another GPU"
    other = engine_here(bundle.path, "fp32")
    cuda.gpu = "A third GPU"
    with monkeypatch.context() as patch:
        patch.setattr(PrecisionProof, "__bool__", lambda proof: False)
        failed = engine_here(bundle.path, "fp32")
    assert failed.status == "failed"
    rtx, notes, cuda.gpu = with_rtx_engine(bundle.path), Notes(), None
    config = ExportConfig(max_batch=32, precisions=("fp16",), bisect=False)
    added = build_bundle(run.folder, bundle.path, config, dataset=run.dataset, progress=notes)
    files = ["student.onnx", "student.fp16.onnx", PLAN, other.file]
    assert [artifact.file for artifact in added.manifest.artifacts] == files
    # The first was timed beside the files of its own export, which is no comparison any more.
    first = bundle.manifest.artifacts[1].model_copy(update={"latency": None})
    assert added.manifest.artifacts[2:] == [first, other]
    assert [engine.file for engine in added.manifest.built] == [rtx]
    assert open_bundle(bundle.path).unlisted == []
    (note,) = [text for text in notes.notes if "carried over" in text]
    assert note == f"not carried over: {failed.file} (failed its gate)"


@pytest.mark.slow
def test_an_export_over_a_bundle_with_engines(bundle: Bundle, run: Any, trt: Any) -> None:
    """On a machine without TensorRT it neither fails nor keeps engines of another ONNX file."""
    trt.cuda.gpu = None
    onnx_only = CONFIG.model_copy(update={"targets": ("onnx",)})
    rtx, notes = with_rtx_engine(bundle.path), Notes()
    again = build_bundle(run.folder, bundle.path, onnx_only, dataset=run.dataset, progress=notes)
    assert again and [a.format for a in again.manifest.artifacts] == ["onnx"]
    assert not (bundle.path / "engines").exists()
    reason = "the student.onnx that it was built from did not stay"
    assert notes.notes[-1] == f"not carried over: {PLAN} ({reason}), {rtx} ({reason})"
