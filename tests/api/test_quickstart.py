"""docs/quickstart.ipynb, from the first cell to the last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / ".src")}


def sources() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    outputs = [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]
    assert len(outputs) > 4 and not any(outputs)


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a kernel where nbclient is at hand, else as one script."""
    if find_spec("nbclient") and find_spec("ipykernel"):
        import nbclient
        import nbformat

        monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        resources = {"metadata": {"path": str(tmp_path)}}
        nbclient.NotebookClient(notebook, timeout=None, resources=resources).execute()
        text = "".join(out.get("text", "") for cell in notebook.cells for out in _outputs(cell))
    else:
        script = "\n".join(sources())
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        text = done.stdout
    assert "the bundle holds" in text
    assert (tmp_path / "runs/quickstart/bundle/timm/config.json").is_file()


def _outputs(cell: dict[str, list[dict[str, str]]]) -> list[dict[str, str]]:
    return cell.get("outputs", [])
