"""Write models/catalogue.csv, what `mldr-deploy models` lists; --check only compares its names.

Every classifier that the installed timm knows, ours among them, is built on the meta device and
looked at: about ten minutes for all of them. The check looks at a handful anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

import timm

from mldr_deploy.models.catalogue import CSV, csv_text, stored_catalogue
from mldr_deploy.models.model_registry import list_models
from mldr_deploy.models.survey import survey

STRIDE = 150  # of the models that --check looks at anew
TARGET = Path(__file__).resolve().parents[1] / "models" / CSV


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        return check()
    if arguments:
        print("usage: model_catalogue.py [--check]", file=sys.stderr)
        return 2
    names = list_models()
    listings = {}
    for name, listing in zip(names, survey(names), strict=True):
        listings[name] = listing
        print(f"\r{len(listings)} of {len(names)}", end="", file=sys.stderr, flush=True)
    TARGET.write_text(csv_text(timm.__version__, listings), encoding="utf-8")
    return 0


def check() -> int:
    """0 where the file is of the installed timm, with its names, and a handful are as built."""
    stored = stored_catalogue()
    names = list_models()
    sample = names[::STRIDE]
    current = stored.timm == timm.__version__ and list(stored.listings) == names
    if current and [stored.listings[name] for name in sample] == list(survey(sample)):
        return 0
    print(f"{CSV} is out of date; run: python scripts/model_catalogue.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
