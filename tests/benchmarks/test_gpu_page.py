"""The page of a GPU's figures: each in its place, and what is missing called so."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import page
import pytest
from results import clock_range

ROOT = Path(__file__).resolve().parents[2]
SOFTWARE = {
    "device": "Card 9",
    "rehearsal": False,
    "processor": "Chip 3",
    "cores": 4,
    "python": "3.12",
    "cuda": "13.0",
    "cudnn": 9,
    "versions": {"torch": "2.11"},
}
TABLE = {
    "matrix": {
        "name": "m",
        "description": "d",
        "methods": ["MLDR", "DIST"],
        "focus": "MLDR",
        "seeds": [0],
        "recipe": {"train": {"precision": "bf16"}},
    },
    "test_images": 10000,
    "missing": ["cnn, DIST, seed 0"],
    "pairs": [
        {
            "teacher": "T",
            "student": "S",
            "teacher_top1": 75.0,
            "scores": [{"method": "MLDR", "mean": 61.25}],
            "best_other": None,
            "against": None,
        }
    ],
}
FACTS: dict[str, Any] = {
    "parts": {
        "machine": {
            "state": {"state": "failed", "seconds": 3.0, "limit": 12, "why": "card failed"},
            "rows": {"software": SOFTWARE, "card": {"failed": "Traceback\n  x | y\nBad: z\n"}},
            "clocks": "345 to 1980 MHz",
        },
        "tests-step": {
            "state": {"state": "done", "seconds": 9.0, "limit": 38},
            "rows": {
                "test a": {"outcome": "passed"},
                "test b": {"outcome": "failed", "failed": "E\nAssertionError: no"},
            },
        },
        "dfra": {
            "rows": {
                "textbook 64x9": {"batch": 64, "classes": 9, "milliseconds": 84.0, "peak_mib": 9},
                "closed 64x9": {"batch": 64, "classes": 9, "milliseconds": 4.0, "peak_mib": 1},
                "textbook 65x9": {"batch": 65, "classes": 9, "milliseconds": None},
                "closed 65x9": {"batch": 65, "classes": 9, "milliseconds": 5.0, "peak_mib": 1},
            }
        },
        "step-compiled": {
            "rows": {
                "ours": {"times": 6.5, "arithmetic": "bf16 (autocast)"},
                "cached": {"milliseconds": 5.0},
                "labels": {"milliseconds": 4.0},
            }
        },
        "processes": {"rows": {"2 processes": {"processes": 2, "images_per_second": 900.0}}},
        "comparison": {"rows": {"arrangement": {"processes": 8, "service": True}}},
    },
    "comparison": TABLE,
}


def cells(text: str, first: str) -> list[str]:
    """The cells after ``first`` in the only line of a table that begins with it."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return line.strip("| ").split(" | ")[1:]


def test_without_an_archive_nothing_is_measured() -> None:
    text = page.page(page.NOTHING)
    assert "No GPU has been lent" in text
    tables = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    lines = [line for line in tables if page.MISSING in line]
    assert len(lines) == len(tables) - 6  # every line of the six tables but their heads
    assert not any(
        character.isdigit() for line in lines for character in "".join(cells_after(line))
    )


def cells_after(line: str) -> list[str]:
    return line.strip("| ").split(" | ")[1:]


def test_figures_stand_in_their_places() -> None:
    text = page.page(FACTS)
    assert "Card 9; Chip 3, 4 cores" in text and "No GPU" not in text
    assert cells(text, "B64 C9")[:5] == ["84.000", "4.000", "21.0x", "9", "1"]
    assert cells(text, "B65 C9")[:5] == ["out of memory", "5.000", "-", page.MISSING, "1"]
    compiled = cells(text, "MLDR-KD as training does it, compiled")
    assert compiled[2] == "6.50" and compiled[-1] == "bf16 (autocast)"
    assert "takes 1.25x (compiled) of labels alone" in text
    assert set(cells(text, "MLDR-KD as training does it, eager")) == {page.MISSING}
    assert cells(text, "2")[:2] == ["900", page.MISSING]
    assert cells(text, "T -> S") == ["75.00", "61.25", "-", "-"]
    assert "bf16" in text and "8 processes, MPS on" in text
    assert "Not finished: cnn, DIST, seed 0" in text
    assert cells(text, "test_step.py") == ["1", "1", "0", "done"]
    assert "AssertionError: no" in text
    state = ["failed: card failed", "3 of 12", "345 to 1980 MHz", "card: Bad: z"]
    assert cells(text, "machine") == state
    assert cells(text, "report")[0] == page.MISSING


def test_status_follows_from_the_figures() -> None:
    assert page.training_status(page.NOTHING).startswith("not yet run on hardware")
    status = page.training_status(FACTS)
    assert "measured on Card 9: step not measured, compiled step 6.5x" in status
    assert "1 passed, 1 failed" in status


def test_a_step_that_ran_is_not_told_as_none_was_lent() -> None:
    facts = copy.deepcopy(FACTS)
    facts["parts"]["machine-2"] = facts["parts"].pop("machine")
    assert "Card 9; Chip 3, 4 cores" in page.page(facts)
    facts["parts"]["machine-2"]["rows"] = {}
    text = page.page(facts)
    assert "No GPU" not in text and "could not tell which machine" in text


def test_the_clocks_are_read_as_numbers() -> None:
    assert clock_range("clocks.sm, power\n1980 MHz, 3 W\n345 MHz, 3 W\n[N/A], 3 W\n") == (
        "345 to 1980 MHz"
    )
    assert clock_range("clocks.sm\n") == "-"


@pytest.mark.parametrize("software", [{**SOFTWARE, "rehearsal": True}, {"failed": "why"}])
def test_a_rehearsal_does_not_reach_docs(tmp_path: Path, software: dict[str, Any]) -> None:
    archive = tmp_path / "gpu.zip"
    with zipfile.ZipFile(archive, "w") as file:
        row = json.dumps({"case": "software", **software})
        file.writestr("parts/machine/rows.jsonl", f"{row}\n")
    script = [sys.executable, str(ROOT / "scripts" / "gpu_page.py"), str(archive)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "its figures are not for docs" in done.stderr and "Traceback" not in done.stderr
    done = subprocess.run([*script, "--page", str(tmp_path / "gpu.md")], check=False)
    assert done.returncode == 0 and "On an NVIDIA GPU" in (tmp_path / "gpu.md").read_text()
