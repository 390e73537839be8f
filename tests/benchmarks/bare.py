"""An environment like that of a bare GPU machine: what images for training hold, and no more."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import venv
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HELD = (
    *("torch", "timm", "torchvision", "accelerate", "onnx", "onnxruntime", "onnxscript"),
    *("safetensors", "scikit-learn", "matplotlib", "tensorboard", "pyarrow", "rich", "click"),
    "pytest",
)


def environment(folder: Path) -> Path:
    """A virtual environment with HELD and what they need, linked from here; gives its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    held = needed(HELD)
    strangers = {
        top for name, package in installed().items() if name not in held for top in tops(package)
    }
    for package in held.values():
        for top in tops(package):
            paths = [Path(top)] if top not in strangers else files_in(package, top)
            for path in paths:
                link(package, path, site)
    return folder / "bin" / "python"


def installed() -> dict[str, Distribution]:
    """All packages here, by name."""
    return {canonicalize_name(package.metadata["Name"]): package for package in distributions()}


def tops(package: Distribution) -> set[str]:
    """What lies of ``package`` directly in site-packages."""
    return {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}


def files_in(package: Distribution, top: str) -> list[Path]:
    """Files of ``package`` in a folder that it shares with others."""
    return [Path(file) for file in package.files or () if file.parts[0] == top]


def link(package: Distribution, path: Path, site: Path) -> None:
    """``site``/``path`` as a link to what ``package`` installed there."""
    target, source = site / path, Path(str(package.locate_file(path)))
    if not target.is_symlink() and source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source.resolve())


def needed(names: tuple[str, ...]) -> dict[str, Distribution]:
    """The installed packages ``names`` and everything that they require."""
    packages: dict[str, Distribution] = {}
    waiting = [*names]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in packages:
            continue
        packages[name] = distribution(name)
        for line in packages[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return packages


def tree(root: Path, folder: Path) -> None:
    """A copy of the files of the checkout ``root`` that git knows of, or will."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if not (root / name).is_dir() or name.startswith(".src/"):  # .src/mldr_deploy is a link
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name, follow_symlinks=False)
