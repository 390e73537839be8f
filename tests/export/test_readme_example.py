"""README's example in Python runs as it stands, and names the class that PyTorch names."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mldr_deploy
from mldr_deploy.bundle.reader import Bundle

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_example_classifies_a_picture(
    exported: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    section = README.read_text(encoding="utf-8").partition("## From Python")[2]
    blocks = re.findall(r"(?:^ {4}.*\n|^\n)+", section.partition("\n## ")[0], flags=re.MULTILINE)
    example = textwrap.dedent(max(blocks, key=len))
    shutil.copytree(exported.path, tmp_path / "runs" / "photos" / "bundle")
    Image.fromarray(exported.golden.pixels[0]).save(tmp_path / "cat.jpg", format="PNG")
    jobs: list[dict[str, Any]] = []
    monkeypatch.setattr(mldr_deploy, "distill_and_export", lambda **job: jobs.append(job))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    name = exported.manifest.labels[exported.golden.logits[0].argmax()]
    assert capsys.readouterr().out.splitlines()[1].startswith(f"{name} ")
    assert jobs == [{"keys": {"train.epochs": 5}, "data": "photos", "out": "runs/photos"}]
