"""The card's clocks, read and never set."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from shutil import which

FIELDS = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "utilization.gpu")


def query(fields: Sequence[str]) -> str | None:
    """One line of nvidia-smi's answers about the first GPU; None where it gives none."""
    return ask(f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0")


def ask(*arguments: str) -> str | None:
    """What nvidia-smi prints; None where it is missing, fails, or takes two seconds."""
    if which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=2, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def sample_clocks(folders: Sequence[Path]) -> None:
    """Append a line to clocks.csv in each of ``folders``, where there is a GPU to ask."""
    line = query(FIELDS)
    if line is None:
        return
    for folder in folders:
        path = folder / "clocks.csv"
        header = "" if path.is_file() else ", ".join(FIELDS) + "\n"
        with path.open("a") as file:
            file.write(f"{header}{line}\n")
