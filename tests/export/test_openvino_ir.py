"""OpenVINO's own files, by the real library."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mldr_deploy.bundle.reader import Bundle
from mldr_deploy.errors import MldrError, Unavailable
from mldr_deploy.export.build_bundle import build_bundle
from mldr_deploy.export.export_config import ExportConfig
from mldr_deploy.export.openvino_ir import read_ir
from mldr_deploy.export.recheck import check_bundle
from mldr_deploy.runtimes.runtime_choice import open_runtime

from .exchanged_files import rechecked, refuted


@pytest.fixture(scope="module")
def pc(run: Any, exported: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The healthy bundle with both files of OpenVINO's; not to be written to."""
    pytest.importorskip("openvino")
    out = Path(shutil.copytree(exported.path, tmp_path_factory.mktemp("pc") / "bundle"))
    config = ExportConfig(max_batch=32, targets=("openvino",), precisions=("fp32", "fp16"))
    return build_bundle(run.folder, out, config, dataset=run.dataset)


def test_both_files_pass_and_say_what_they_hold(run: Any, pc: Bundle) -> None:
    files = {a.file: a for a in pc.manifest.artifacts if a.format == "openvino"}
    assert list(files) == ["student.xml", "student.fp16.xml"]
    layers = [m for m in run.model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert files["student.xml"].computes == {"fp32": len(layers)}
    assert files["student.fp16.xml"].computes == {"fp16": len(layers)}
    for artifact in files.values():
        lying = (artifact.file, artifact.file.replace(".xml", ".bin"))
        assert artifact.size == sum((pc.path / file).stat().st_size for file in lying)
    assert files["student.fp16.xml"].size < 0.6 * files["student.xml"].size
    assert all(a.status == "passed" and a.parity.samples == 359 for a in files.values())
    result = check_bundle(pc.path, dataset=run.dataset)
    assert result, str(result)


def test_they_are_run_by_their_names(run: Any, pc: Bundle) -> None:
    inputs = pc.golden.inputs[:5]
    with torch.inference_mode():
        logits = run.model(torch.from_numpy(inputs)).numpy()
    for file, error in (("student.xml", 1e-4), ("student.fp16.xml", 3e-2)):
        with open_runtime(pc, artifact=file) as runtime:
            assert runtime.name == "openvino"
            assert runtime(inputs) == pytest.approx(logits, abs=error)


def test_fp16_that_stayed_fp32_is_caught(run: Any, pc: Bundle, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(pc.path, tmp_path / "copy"))
    for suffix in (".xml", ".bin"):
        shutil.copy(copy / f"student{suffix}", copy / f"student.fp16{suffix}")
    said = refuted(rechecked(copy, run))
    assert "student.fp16.xml graph: the artifact is called fp16, but none" in said


def test_what_is_no_file_of_its_own_is_told_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = tmp_path / "student.xml"
    path.write_text("<net>")
    with pytest.raises(MldrError, match=r"student\.xml is not readable for OpenVINO"):
        read_ir(path)


def test_without_the_library_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(Unavailable, match=r"OpenVINO is not there .*mldr-deploy\[openvino\]"):
        read_ir(tmp_path / "student.xml")


def test_its_files_are_kept_where_the_library_is_missing(
    run: Any, pc: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(pc.path, tmp_path / "bundle"))
    monkeypatch.setitem(sys.modules, "openvino", None)
    config = ExportConfig(max_batch=32, precisions=("fp32", "bf16"), latency_seconds=0.05)
    bundle = build_bundle(run.folder, out, config, dataset=run.dataset)
    times = {a.file: a.latency is not None for a in bundle.manifest.artifacts}
    assert times["student.onnx"] and not times["student.xml"] and not times["student.fp16.xml"]
    result = check_bundle(out, dataset=run.dataset)
    assert result, str(result)
    assert "OpenVINO is not there" in str(result)
