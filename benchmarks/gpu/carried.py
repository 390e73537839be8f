"""What `benchmarks/gpu/pack` carried here: wheels put on the path, data put in one folder."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

from mldr_deploy.bundle.atomic import atomic_folder, sha256
from mldr_deploy.errors import MldrError, Unavailable

NEEDED = ("pydantic", "tomli_w")  # modules that images for training lack
DATA_VARIABLE = "MLDR_DATA"


def use_wheels(carried: Path, site: Path) -> None:
    """Put what the wheels hold first on the path, here and for processes to come.

    Only where a needed module is missing. Raises Unavailable where no wheels lie there, or they
    are of another Python.
    """
    missing = [module for module in NEEDED if find_spec(module) is None]
    if not missing:
        return
    wheels = sorted(carried.glob("*/*.whl"))
    if not wheels:
        raise Unavailable(
            f"{' and '.join(missing)} are not installed and no wheels lie in {carried}/1: run "
            "benchmarks/gpu/pack where there is a package index, and carry that folder here"
        )
    with atomic_folder(site, replaces="pydantic") as folder:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
    prepend(site)
    _require_ours(wheels)


def prepend(folder: Path) -> None:
    """``folder`` first on the path of this process and in PYTHONPATH, which keeps what it holds."""
    sys.path.insert(0, str(folder))
    rest = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *([rest] if rest else [])])


def use_data(carried: Path, folder: Path) -> None:
    """Name the data that lie in all of the parts to `data.root`, unless $MLDR_DATA does already.

    Raises Unavailable where a file of the list is missing: half a training set must not pass for
    the whole. Raises MldrError where a file is not as it was packed.
    """
    lists = sorted(carried.glob("*/contents.json"))
    if os.environ.get(DATA_VARIABLE) or not lists:
        return
    contents: dict[str, str] = json.loads(lists[0].read_text())
    files = {path.name: path.resolve() for path in carried.glob("*/*")}
    if missing := [name for name in contents if name not in files]:
        raise Unavailable(
            f"{', '.join(missing)} are not in {carried}: carry the other parts of "
            "benchmarks/gpu/pack here too"
        )
    for name, digest in contents.items():
        if sha256(files[name]) != digest:
            raise MldrError(f"{files[name]} is not as it was packed: carry it here again")
    with atomic_folder(folder, replaces="cifar100-classes.csv") as links:
        for name in contents:
            if name.startswith("cifar100-"):
                (links / name).symlink_to(files[name])
    os.environ[DATA_VARIABLE] = str(folder)


def _require_ours(wheels: list[Path]) -> None:
    try:
        import pydantic  # noqa: F401
    except ImportError as error:
        names = ", ".join(wheel.name for wheel in wheels if "none-any" not in wheel.name)
        version = ".".join(map(str, sys.version_info[:2]))
        raise Unavailable(
            f"the wheels carried here ({names}) do not work with Python {version}: run "
            f"benchmarks/gpu/pack --python {version}, and carry its folder here ({error})"
        ) from error
