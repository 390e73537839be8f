"""TensorRT-RTX engines in a bundle: built by the real library, marked not run, never served."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import real
from click.testing import CliRunner, Result
from pydantic import ValidationError

from mldr_deploy.bundle.engine import AskedPrecision, Profile, RtxRecord
from mldr_deploy.bundle.manifest import Manifest
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.cli.group import main
from mldr_deploy.export.build_bundle import build_bundle
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.kinds import plan
from mldr_deploy.export.recheck import check_bundle
from mldr_deploy.export.tensorrt.engine_config import RTX_CAPABILITIES, EngineConfig
from mldr_deploy.runtimes.runtime_choice import candidates

CC = "cc8.0-8.6-8.9-12.0"


@pytest.fixture(autouse=True)
def library() -> str:
    """Version of the real library; the tests are skipped where it cannot be had."""
    real.require()
    from mldr_deploy.runtimes.tensorrt_library import require_rtx

    return require_rtx().version


@pytest.fixture
def path(exported: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.path, tmp_path / "bundle"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_build_engine_rtx_lists_it_as_not_run(path: Path, library: str) -> None:
    before = open_bundle(path).manifest
    result = run("build-engine", path, "--rtx")
    assert result.exit_code == 0, result.output
    file = f"engines/tensorrt-rtx-{library}-{CC}.fp32.plan"
    told = " ".join(result.stdout.split())  # without its line breaks
    assert told.startswith(f"{file}: built, not run: TensorRT-RTX {library} for compute")
    assert f"lint student.onnx by TensorRT-RTX {library}'s parser: " in result.stderr
    bundle = open_bundle(path)
    (engine,) = bundle.manifest.built
    assert (engine.file, engine.precision, engine.status) == (file, "fp32", "built, not run")
    assert engine.rtx.asked.multiplies["fp32"] == sum(before.artifacts[0].computes.values())
    assert engine.rtx.source_sha256 == before.artifacts[0].sha256
    assert bundle.manifest.artifacts == before.artifacts
    assert all(c.artifact.file != file for c in candidates(bundle) if c.artifact)  # none serves it
    written = (path / file).stat().st_mtime_ns
    again = run("build-engine", path, "--rtx", "--quiet")
    assert again.stdout == result.stdout and (path / file).stat().st_mtime_ns == written
    assert f"skipped {file}: built, not run" in str(check_bundle(path))


def test_a_changed_engine_is_noticed(path: Path) -> None:
    run("build-engine", path, "--rtx", "--quiet", "--capabilities", "8.9")
    (engine,) = open_bundle(path).manifest.built
    with (path / engine.file).open("ab") as file:
        file.write(b"x")
    result = run("check", path)
    assert result.exit_code == 1 and "was changed after export" in result.stderr


@pytest.mark.slow
def test_export_to_rtx_adds_engines_beside_the_artifacts(
    run_folder: Any, tmp_path: Path, library: str
) -> None:
    engine = EngineConfig(capabilities=("8.9", "12.0"))
    config = ExportConfig(max_batch=32, targets=("tensorrt-rtx",), engine=engine)
    out = tmp_path / "bundle"
    bundle = build_bundle(run_folder.folder, out, config, dataset=run_folder.dataset)
    assert bundle and bundle.manifest.unavailable == []
    assert [artifact.format for artifact in bundle.manifest.artifacts] == ["onnx"]
    (built,) = bundle.manifest.built
    assert built.file == f"engines/tensorrt-rtx-{library}-cc8.9-12.0.fp32.plan"
    assert (out / built.file).stat().st_size == built.bytes > 10_000


@pytest.fixture
def run_folder(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("run")


@pytest.mark.slow
def test_fp8_is_built_for_cards_that_have_it(every_precision: Bundle, tmp_path: Path) -> None:
    path = Path(shutil.copytree(every_precision.path, tmp_path / "bundle"))
    result = run("build-engine", path, "--rtx", "--quiet", "--precision", "fp8")
    if open_bundle(path, allow_failed=True).artifact("fp8").status == "passed":
        assert result.exit_code == 0, result.output
        (engine,) = open_bundle(path).manifest.built
        assert engine.rtx.capabilities == ["8.9", "12.0"]
        assert engine.rtx.asked.multiplies["fp8"] > 5
    result = run(
        "build-engine", path, "--rtx", "--quiet", "--precision", "fp8", "--capabilities", "8.0"
    )
    assert result.exit_code == 1
    assert "GPUs of compute capability 8.0 have no fp8: it begins with 8.9" in result.stderr


def test_rtx_engines_of_every_precision_are_what_was_asked(
    every_precision: Bundle, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(every_precision.path, tmp_path / "bundle"))
    result = run("build-engine", path, "--rtx", "--quiet", "--precision", "fp16,bf16,int8")
    assert result.exit_code == 0, result.output
    for engine in open_bundle(path).manifest.built:
        artifact = open_bundle(path).artifact(
            {"int8": "int8-symmetric"}.get(engine.precision, engine.precision)
        )
        graph = {kind: count for kind, count in artifact.computes.items() if count}
        assert engine.rtx.asked.multiplies == graph, engine.file


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--capabilities", "9.0"), "no TensorRT-RTX engine is built for 9.0, only for 7.5, 8.0"),
        (("--capabilities", "8.9,8.9"), "each once, not 8.9, 8.9"),
        (("--version-compatible",), "TensorRT-RTX engines know no version_compatible"),
        (("--hardware", "ampere-plus"), "TensorRT-RTX engines know no hardware"),
        (("--golden-only",), "--rtx proves no parity: leave out --golden-only"),
        (("--precision", "fp16"), "holds no onnx fp16 artifact"),
    ],
)
def test_wrong_wishes_are_one_line(path: Path, arguments: tuple[str, ...], message: str) -> None:
    before = (path / "manifest.json").read_bytes()
    result = run("build-engine", path, "--rtx", "--quiet", *arguments)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert message in result.stderr and len(result.stderr.splitlines()) == 1
    assert (path / "manifest.json").read_bytes() == before


def test_capabilities_are_for_rtx_only(path: Path) -> None:
    result = run("build-engine", path, "--capabilities", "8.9", "--quiet")
    assert result.exit_code == 1 and "give --rtx too" in result.stderr


def test_without_the_library_one_sentence_and_2(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for module in ("tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, module, None)
    result = run("build-engine", path, "--rtx", "--quiet")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: TensorRT-RTX is not installed, or does not load: "
        'pip install "mldr-deploy[tensorrt-rtx]"\n'
    )


def test_the_capabilities_are_those_of_the_library() -> None:
    from mldr_deploy.runtimes.tensorrt_library import require_rtx

    members = require_rtx().trt.ComputeCapability.__members__
    named = {name.removeprefix("SM") for name in members if name.startswith("SM")}
    assert {capability.replace(".", "") for capability in RTX_CAPABILITIES} == named
    with pytest.raises(ValidationError, match=r"9\.0 is Hopper"):
        EngineConfig(capabilities=("9.0",))


@pytest.mark.parametrize(
    ("version", "capability", "reason"),
    [
        ("1.7.1.116", "8.9", None),
        ("1.7.1.117", "8.9", "built with TensorRT-RTX 1.7.1.116, here is 1.7.1.117"),
        ("1.7.1.116", "12.0", "built for compute capability 8.6, 8.9, here is 12.0"),
    ],
)
def test_misfit(version: str, capability: str, reason: str | None) -> None:
    record = RtxRecord(
        version="1.7.1.116",
        capabilities=["8.6", "8.9"],
        profile=Profile(min=1, opt=1, max=8),
        source="student.onnx",
        source_sha256="0" * 64,
        asked=AskedPrecision(claimed="fp32", multiplies={"fp32": 3}),
    )
    assert record.misfit(version, capability) == reason


def test_older_bundles_are_still_read(exported: Bundle) -> None:
    content = json.loads((exported.path / "manifest.json").read_text())
    del content["built"]
    assert Manifest.model_validate(content).built == []


def test_the_onnx_file_of_an_rtx_engine_is_exported_first() -> None:
    config = ExportConfig(targets=("tensorrt-rtx",), precisions=("int8",))
    assert plan(config) == [("onnx", "fp32"), ("onnx", "int8-symmetric")]
