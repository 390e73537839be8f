"""The model repository: parsed by Triton's own schema, complete, refused in words."""

from __future__ import annotations

import ast
import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner

from mldr_deploy.bundle.engine import EngineRecord, Machine, PrecisionProof, Profile
from mldr_deploy.bundle.manifest import Artifact, describe, write_manifest
from mldr_deploy.bundle.reader import Bundle, open_bundle
from mldr_deploy.cli import main
from mldr_deploy.serve.triton.repository import _BACKENDS
from mldr_deploy.serve.triton.triton_config import TritonConfig, model_config

FILES = {"config.pbtxt", "labels.txt", "warmup", "1"}


def written(bundle: Path, out: Path, *options: str) -> list[str]:
    result = CliRunner().invoke(main, ["triton-repo", str(bundle), str(out), *options])
    assert result.exit_code == 0, result.output
    return result.stdout.split()


def parsed(folder: Path) -> Any:
    """``config.pbtxt`` read with the schema that Triton itself is built from."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    return text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())


def test_a_repository_holds_every_artifact_and_a_python_model(
    served: Path, bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "repo"
    names = written(served, out)
    assert names == ["test_resnet_fp32_onnx", "test_resnet_python"]
    assert {path.name for path in out.iterdir()} == {*names, "mldr-deploy.json"}
    for name in names:
        assert {path.name for path in (out / name).iterdir()} == FILES
        labels = (out / name / "labels.txt").read_text().splitlines()
        assert labels == bundle.manifest.labels
        warm = np.fromfile(out / name / "warmup" / "golden", "<f4").reshape(3, 32, 32)
        assert np.array_equal(warm, bundle.golden.inputs[0])
    session = onnxruntime.InferenceSession(str(out / names[0] / "1" / "model.onnx"))
    (logits,) = session.run(None, {"input": bundle.golden.inputs})
    np.testing.assert_allclose(logits, bundle.golden.logits, atol=1e-4)
    code = (out / names[1] / "1" / "model.py").read_text()
    imported = {
        alias.name for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import) for alias in node.names
    }  # fmt: skip
    assert imported == {"json", "numpy", "onnxruntime", "triton_python_backend_utils"}


def test_a_full_disk_is_one_line_and_leaves_nothing(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(target))

    monkeypatch.setattr("shutil.copyfile", full)
    result = CliRunner().invoke(main, ["triton-repo", str(served), str(tmp_path / "repo")])
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    text = f"Error: {tmp_path / 'repo'} cannot be written (No space left on device): free space or"
    assert result.stderr.startswith(text) and result.stderr.count("\n") == 1
    assert not [*tmp_path.iterdir()]


def test_tritons_schema_reads_the_configuration(served: Path, tmp_path: Path) -> None:
    out = tmp_path / "repo"
    options = ("--instances", "3", "--max-queue", "7", "--deadline", "2.5", "--max-delay-us", "900")
    first, second = written(served, out, *options, "--rate-limit", "--name", "mine")
    config = parsed(out / first)
    assert (config.name, config.backend, config.max_batch_size) == (first, "onnxruntime", 16)
    assert config.default_model_filename == "model.onnx"
    assert [list(tensor.dims) for tensor in config.input] == [[3, 32, 32]]
    assert [list(tensor.dims) for tensor in config.output] == [[10]]
    assert config.output[0].label_filename == "labels.txt"
    policy = config.dynamic_batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (7, 2_500_000)
    assert config.dynamic_batching.max_queue_delay_microseconds == 900
    group = config.instance_group[0]
    assert group.count == 3 and group.rate_limiter.resources[0].name == "mldr-slot"
    assert config.model_warmup[0].inputs["input"].input_data_file == "golden"
    config = parsed(out / second)
    assert (config.backend, config.default_model_filename) == ("python", "model.py")


def test_an_engine_is_a_model_of_the_tensorrt_backend(bundle: Bundle, tmp_path: Path) -> None:
    backend, file = _BACKENDS["tensorrt"]
    text = model_config("m", backend, file, bundle.manifest, 8, TritonConfig())
    (tmp_path / "config.pbtxt").write_text(text)
    config = parsed(tmp_path)
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert not config.instance_group[0].HasField("rate_limiter")


def test_what_cannot_be_written_is_one_line(failed: Path, served: Path, tmp_path: Path) -> None:
    def refused(*words: str) -> str:
        result = CliRunner().invoke(main, ["triton-repo", *words])
        assert result.exit_code == 1 and result.stderr.count("\n") == 1, result.output
        return result.stderr

    assert "failed its parity gate" in refused(str(failed), str(tmp_path / "repo"))
    assert "cannot name a model" in refused(str(served), str(tmp_path / "r"), "--name", 'a"b')
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    assert "holds other files" in refused(str(served), str(tmp_path / "full"))
    assert (tmp_path / "full" / "mine.txt").read_text() == "x"
    written(failed, tmp_path / "repo", "--allow-failed")
    written(served, tmp_path / "repo")  # replaces what it wrote itself


def onnx_as(folder: Path, precision: str, **changes: Any) -> Artifact:
    """The bundle's ONNX file under another name, as an artifact of ``precision``."""
    (onnx,) = open_bundle(folder, allow_failed=True).manifest.artifacts
    shutil.copyfile(folder / onnx.file, folder / f"student.{precision}.onnx")
    entry = describe(folder, f"student.{precision}.onnx").model_dump()
    return onnx.model_copy(update={**entry, "precision": precision, **changes})


def engine_of(folder: Path, gpu: str) -> Artifact:
    """An engine of the ONNX file for ``gpu``, as far as a manifest knows it."""
    (onnx,) = open_bundle(folder).manifest.artifacts
    machine = Machine(gpu=gpu, compute_capability="8.9", tensorrt="11.4.0", driver="13.0")
    file = f"engines/{machine.slug}.fp32.plan"
    (folder / "engines").mkdir(exist_ok=True)
    (folder / file).write_bytes(gpu.encode())
    record = EngineRecord(
        machine=machine,
        hardware="none",
        version_compatible=False,
        profile=Profile(min=1, opt=1, max=16),
        source=onnx.file,
        source_sha256=onnx.sha256,
        proof=PrecisionProof(claimed="fp32", layers={}, compute={"fp32": 1}, expected=1.0),
    )
    return onnx.model_copy(
        update={
            **describe(folder, file).model_dump(),
            "format": "tensorrt",
            "opset": None,
            "engine": record,
        }
    )


def add(folder: Path, *artifacts: Artifact) -> None:
    manifest = open_bundle(folder, allow_failed=True).manifest
    update = {"artifacts": [*manifest.artifacts, *artifacts]}
    write_manifest(folder, manifest.model_copy(update=update))


def test_engines_for_two_gpus_are_two_models(copied: Path, tmp_path: Path) -> None:
    add(copied, *(engine_of(copied, gpu) for gpu in ("NVIDIA L4", "NVIDIA A10")))
    out = tmp_path / "repo"
    words = ["triton-repo", str(copied), str(out)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    engines = [f"test_resnet_fp32_tensorrt_nvidia-{gpu}-11.4.0" for gpu in ("l4", "a10")]
    assert result.stdout.split() == ["test_resnet_fp32_onnx", *engines, "test_resnet_python"]
    assert (out / engines[0] / "1" / "model.plan").read_bytes() == b"NVIDIA L4"
    assert (out / engines[1] / "1" / "model.plan").read_bytes() == b"NVIDIA A10"
    assert parsed(out / engines[0]).name == engines[0]
    told = " ".join(result.stderr.split())
    assert "each loads on its own only; start tritonserver with --exit-on-error=false" in told
    file = "engines/nvidia-l4-11.4.0.fp32.plan"
    assert written(copied, out, "--artifact", file, "--quiet") == ["test_resnet_fp32_tensorrt"]


def test_what_is_not_shipped_is_left_out_unless_it_is_named(copied: Path, tmp_path: Path) -> None:
    (onnx,) = open_bundle(copied).manifest.artifacts
    broken = onnx.parity.model_copy(update={"failures": ["|dlogit| 0.25 is above 0.1"]})
    add(
        copied,
        onnx_as(copied, "bf16", emulated=True),
        onnx_as(copied, "fp16", status="failed", parity=broken),
    )
    out = tmp_path / "repo"
    usual = ["test_resnet_fp32_onnx", "test_resnet_python"]
    result = CliRunner().invoke(main, ["triton-repo", str(copied), str(out)])
    assert result.exit_code == 0 and result.stdout.split() == usual
    told = " ".join(result.stderr.split())
    assert "student.bf16.onnx: parity was proven by emulated bf16, by no runtime" in told
    assert "student.fp16.onnx failed its parity gate" in told
    assert written(copied, out, "--quiet", "--artifact", "bf16") == ["test_resnet_bf16_onnx"]
    failed = [usual[0], "test_resnet_fp16_onnx", usual[1]]
    assert written(copied, out, "--quiet", "--allow-failed") == failed
    for name, reason in (("fp16", "failed its parity gate"), ("int8", "holds no artifact 'int8'")):
        result = CliRunner().invoke(
            main, ["triton-repo", str(copied), str(out), "--artifact", name]
        )
        assert result.exit_code == 1 and reason in result.stderr, result.output
