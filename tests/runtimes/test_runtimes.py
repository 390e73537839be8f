"""Every runtime of this machine gives PyTorch's logits; choosing one keeps its promises."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mldr_deploy.bundle.manifest import Artifact, describe
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.errors import MldrError, Unavailable
from mldr_deploy.runtimes import runtime_choice
from mldr_deploy.runtimes.model_file import ModelFile
from mldr_deploy.runtimes.runtime import RunError, Runtime, RuntimeOptions
from mldr_deploy.runtimes.runtime_choice import candidates, fastest, open_runtime, prove_golden
from mldr_deploy.runtimes.runtime_kinds import RUNTIMES, RuntimeKind

ROOT = Path(__file__).resolve().parents[2]
Edit = Callable[[Path, Callable[[dict[str, Any]], None]], Path]
ONE = RuntimeOptions(threads=1)
COMPILES = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")


def opened(bundle: Bundle, name: str) -> Runtime:
    reason = RUNTIMES[name].missing()
    if reason is not None:
        pytest.skip(reason)
    return open_runtime(bundle, name, options=ONE)


@pytest.mark.parametrize(
    "name",
    [
        "onnxruntime-cpu",
        "openvino",
        "pytorch",
        pytest.param("pytorch-compiled", marks=[pytest.mark.slow, COMPILES]),
    ],
)
def test_each_runtime_gives_the_students_logits(bundle: Bundle, name: str) -> None:
    golden = bundle.golden
    with opened(bundle, name) as runtime:
        for batch in (1, 3, 8, 1):
            inputs = golden.inputs[:batch]
            runtime.feed(inputs)
            runtime.compute()
            logits = runtime.fetch()
            assert logits.dtype == np.float32
            np.testing.assert_allclose(logits, golden.logits[:batch], atol=1e-4)
        again = runtime(golden.inputs[4:5])
        np.testing.assert_allclose(logits, golden.logits[:1], atol=1e-4)  # the caller owns it
        np.testing.assert_allclose(again, golden.logits[4:5], atol=1e-4)
        assert prove_golden(bundle, runtime) < 1e-4


def test_preprocess_is_the_bundles(bundle: Bundle) -> None:
    with opened(bundle, "onnxruntime-cpu") as runtime:
        inputs = runtime.preprocess(bundle.golden.sources)
    assert inputs.tobytes() == bundle.golden.inputs.tobytes()


def test_an_input_of_another_size_is_refused_in_words(bundle: Bundle) -> None:
    with opened(bundle, "onnxruntime-cpu") as runtime:
        runtime.feed(np.zeros((1, 3, 16, 16), np.float32))
        with pytest.raises(RunError, match="does not run on a batch of 1"):
            runtime.compute()


@pytest.mark.parametrize("name", ["onnxruntime-cpu", "openvino"])
def test_a_file_that_is_no_model_is_refused_in_words(copied: Path, name: str) -> None:
    (copied / "student.onnx").write_bytes(b"not a model")
    bundle = open_bundle(copied, verify=False)
    with pytest.raises(RunError, match=r"student\.onnx does not load in"):
        opened(bundle, name).load()


def test_unknown_runtime_and_artifact_list_what_there_is(bundle: Bundle) -> None:
    with pytest.raises(MldrError, match="unknown runtime 'tvm'; choose auto, onnxruntime-cpu"):
        open_runtime(bundle, "tvm")
    with pytest.raises(MldrError, match=r"holds no artifact 'int8'; it holds fp32 \(student"):
        open_runtime(bundle, artifact="int8")
    with pytest.raises(MldrError, match="runtime pytorch does not run the artifact 'fp32'"):
        open_runtime(bundle, "pytorch", "fp32")


def test_what_the_machine_lacks_is_exit_code_2(bundle: Bundle) -> None:
    kind = RuntimeKind("x", "x", "X", ("onnx",), "no_such_package", "pip install it")
    with pytest.raises(Unavailable, match="needs the package no_such_package: pip install it"):
        kind.create(bundle, None, ONE)
    if RUNTIMES["onnxruntime-cuda"].missing():
        with pytest.raises(Unavailable, match="onnxruntime-gpu"):
            open_runtime(bundle, "onnxruntime-cuda")


def test_a_failed_artifact_runs_only_when_allowed(failed: Path) -> None:
    refused = Bundle(failed, open_bundle(failed, allow_failed=True).manifest)
    for runtime in ("auto", "onnxruntime-cpu"):
        with pytest.raises(MldrError, match="failed its parity gate"):
            open_runtime(refused, runtime)
    with open_runtime(open_bundle(failed, allow_failed=True), "onnxruntime-cpu") as runtime:
        assert runtime(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 10)


def second_artifact(content: dict[str, Any], folder: Path) -> None:
    shutil.copy(folder / "student.onnx", folder / "other.onnx")
    other = content["artifacts"][0] | describe(folder, "other.onnx").model_dump()
    content["artifacts"].append(other | {"precision": "fp16"})


def emulated_second(precision: str) -> Callable[[dict[str, Any], Path], None]:
    def change(content: dict[str, Any], folder: Path) -> None:
        second_artifact(content, folder)
        content["artifacts"][1] |= {"precision": precision, "emulated": True}

    return change


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_what_no_cpu_computes_is_not_served_from_one(
    copied: Path, edit: Edit, precision: str
) -> None:
    """The file here would run: it is what the manifest says of it that must keep it out."""
    bundle = open_bundle(edit(copied, lambda c: emulated_second(precision)(c, copied)))
    named = {one.artifact.file for one in candidates(bundle) if one.artifact}
    if all(RUNTIMES[name].missing() for name in ("onnxruntime-cuda", "tensorrt")):
        assert named == {"student.onnx"}
        told = f"other.onnx computes in {precision}, which onnx.* proven by emulation: take another"
        for runtime in ("auto", "onnxruntime-cpu"):
            with pytest.raises(MldrError, match=told):
                open_runtime(bundle, runtime, precision)


def test_auto_takes_the_fastest_once(
    copied: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(edit(copied, lambda c: second_artifact(c, copied)))
    tried: list[str] = []

    def in_turns(runners: list[Runtime], *_: object, **__: object) -> list[list[float]]:
        tried.extend(runner.file for runner in runners)
        return [[0.5 if name == "other.onnx" else 1.0] * 5 for name in tried[-len(runners) :]]

    monkeypatch.setattr(runtime_choice, "in_turns", in_turns)
    chosen = fastest(bundle, candidates(bundle), ONE)
    assert chosen.artifact is not None and chosen.artifact.file == "other.onnx"
    assert chosen.kind.name != "pytorch"
    named = open_runtime(bundle, "onnxruntime-cpu", options=ONE)
    assert named.file == "other.onnx"  # the fastest of what the named runtime runs
    count = len(tried)
    assert {candidate.kind.name for candidate in candidates(bundle)} >= {"onnxruntime-cpu"}
    assert fastest(bundle, candidates(bundle), ONE) is chosen and len(tried) == count
    assert fastest(bundle, candidates(bundle, "fp32"), ONE).artifact == bundle.manifest.artifacts[0]


def test_auto_leaves_out_what_is_wrong_on_this_machine(copied: Path, edit: Edit) -> None:
    def shift(content: dict[str, Any]) -> None:
        gate = content["artifacts"][0]["parity"]["gate"]
        gate["max_dlogit"] = 0.0

    bundle = open_bundle(edit(copied, shift))
    with (
        open_runtime(bundle, "onnxruntime-cpu", options=ONE) as runtime,
        pytest.raises(MldrError, match="other logits on the golden images than at export"),
    ):
        prove_golden(bundle, runtime)
    with pytest.raises(MldrError, match=r"nothing on this machine runs .* as it was exported"):
        open_runtime(bundle, options=ONE)


def test_auto_loads_no_torch(served: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from mldr_deploy.bundle.reader import open_bundle\n"
        "from mldr_deploy.runtimes.runtime_choice import open_runtime\n"
        f"bundle = open_bundle(Path({str(served)!r}))\n"
        "with open_runtime(bundle) as runtime:\n"
        "    print(runtime.name, runtime(bundle.golden.inputs).shape)\n"
        "print('torch' in sys.modules, 'onnxruntime' in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / ".src"), "PATH": ""},
    )
    assert run.stdout.splitlines()[0].endswith("(8, 10)")
    assert run.stdout.splitlines()[1] == "False True"


def test_ort_writes_the_trace_that_was_asked_for(bundle: Bundle, tmp_path: Path) -> None:
    from mldr_deploy.runtimes.onnxruntime_cpu import OnnxRuntimeCpu

    artifact: Artifact = bundle.manifest.artifacts[0]
    options = RuntimeOptions(threads=1, trace=tmp_path / "trace")
    with OnnxRuntimeCpu(ModelFile.of(bundle, artifact), options) as runtime:
        runtime(bundle.golden.inputs[:1])
        written = Path(runtime.trace_file())
    assert written.parent == tmp_path and '"cat" : "Node"' in written.read_text()
