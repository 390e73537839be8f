"""No import runs upward, and what must be light loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mldr_deploy.cli.group import COMMANDS, HIDDEN, main

ROOT = Path(__file__).resolve().parents[1]

# Folder -> folders of ours that it may import. Every folder may import itself, `errors` and the
# version; nothing else that lies in the root (docs/design.md, section Floors). `runtimes` runs a
# model file and lies below all that do so; it and `demo` lie over `models`: PyTorch rebuilds
# student and teacher (torch loads then).
FLOORS: dict[str, set[str]] = {
    "bundle": set(),
    "data": {"bundle"},
    "models": set(),
    "runtimes": {"bundle", "models"},
    "distill": {"bundle", "data", "models"},
    "export": {"bundle", "data", "models", "runtimes"},
    "profiler": {"bundle", "runtimes"},
    "serve": {"bundle", "runtimes"},
    "pipeline": {"bundle", "data", "models", "runtimes", "distill", "export"},
    "compare": {"bundle", "data", "models", "runtimes", "distill", "export", "pipeline"},
    "choose": {
        "bundle",
        "data",
        "models",
        "runtimes",
        "distill",
        "export",
        "profiler",
        "pipeline",
        "compare",
    },
    "demo": {"bundle", "models", "runtimes", "profiler", "serve"},
    "api": {"bundle", "runtimes", "export", "profiler", "pipeline", "compare", "choose"},
    "cli": {
        "bundle",
        "data",
        "models",
        "runtimes",
        "distill",
        "export",
        "profiler",
        "serve",
        "pipeline",
        "compare",
        "choose",
        "demo",
        "api",
    },
}
NOT_PACKAGE = {"tests", "benchmarks", "docs", "scripts"}
HEAVY = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "onnxscript", "sklearn", "pyarrow")
HEAVY += ("tensorrt", "cuda")


def imported_folders(source: str, folder: str, depth: int) -> Iterator[tuple[int, str]]:
    """(line, top-level name of ours) of every import in a file `depth` packages below the root."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _absolute(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 0:
                yield from _absolute(node.lineno, module, [alias.name for alias in node.names])
            elif node.level == depth + 1:
                names = [module] if module else [alias.name for alias in node.names]
                yield from ((node.lineno, name.partition(".")[0]) for name in names)
            elif node.level > depth + 1:
                yield node.lineno, "(beyond the package)"
            else:
                yield node.lineno, folder


def _absolute(line: int, module: str, names: list[str] | None = None) -> Iterator[tuple[int, str]]:
    top, _, rest = module.partition(".")
    if top == "mldr_deploy":
        found = [rest.partition(".")[0]] if rest else names or ["(the root)"]
        yield from ((line, name) for name in found)
    elif top in FLOORS:  # a bare `import models` would depend on the working folder
        yield line, f"(bare) {top}"


def package_files() -> list[Path]:
    return [path for folder in FLOORS for path in sorted((ROOT / folder).rglob("*.py"))]


def upward(path: Path) -> list[str]:
    relative = path.relative_to(ROOT)
    folder, depth = relative.parts[0], len(relative.parts) - 1
    allowed = FLOORS[folder] | {folder, "errors", "__version__"}
    return [
        f"{relative}:{line} imports {name}"
        for line, name in imported_folders(path.read_text(encoding="utf-8"), folder, depth)
        if name not in allowed
    ]


def test_no_import_runs_upward() -> None:
    files = package_files()
    assert len(files) > len(FLOORS)
    assert [offence for path in files for offence in upward(path)] == []


def test_every_folder_has_a_floor() -> None:
    packages = {init.parent.name for init in ROOT.glob("*/__init__.py")}
    assert packages == set(FLOORS)
    assert not packages & NOT_PACKAGE


def test_the_table_is_acyclic() -> None:
    # Each folder imports only folders that stand before it in the table's order of floors.
    order = [*FLOORS]
    for folder, below in FLOORS.items():
        assert {order.index(name) for name in below} <= set(range(order.index(folder)))


@pytest.mark.parametrize(
    ("source", "depth", "found"),
    [
        ("from ..export.build import build_bundle", 1, ["export"]),
        ("from .. import export", 1, ["export"]),
        ("from ...export import build", 2, ["export"]),
        ("from .dfra import dfra_loss", 1, ["distill"]),
        ("from ..dfra import dfra_loss", 2, ["distill"]),
        ("import mldr_deploy.export.build", 1, ["export"]),
        ("from mldr_deploy.export import build", 1, ["export"]),
        ("from mldr_deploy import export", 1, ["export"]),
        ("import models", 1, ["(bare) models"]),
        ("from models.registry import create_model", 1, ["(bare) models"]),
        ("def f():\n    from ..cli import main", 1, ["cli"]),
        ("from ...x import y", 1, ["(beyond the package)"]),
        ("import torch", 1, []),
    ],
)
def test_the_reader_of_imports_sees_every_form(source: str, depth: int, found: list[str]) -> None:
    assert [name for _, name in imported_folders(source, "distill", depth)] == found


def imported_modules(source: str, module: str, modules: set[str]) -> set[str]:
    """The ``modules`` of ours that ``module`` imports anywhere, by dotted name below the root.

    In functions and under TYPE_CHECKING too: two files that need each other are one subject.
    """
    package = module.split(".")[:-1]
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.removeprefix("mldr_deploy.") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            base = base.removeprefix("mldr_deploy").removeprefix(".")
            members = {f"{base}.{alias.name}".removeprefix(".") for alias in node.names}
            imported |= {base, *members}
    imported |= {f"{name}.__init__" for name in imported}
    return imported & modules - {module}


def circles(sources: dict[str, str]) -> list[list[str]]:
    """Groups of modules that reach each other by imports; ``sources`` by dotted name."""
    below = {name: imported_modules(text, name, {*sources}) for name, text in sources.items()}
    reach = {name: {name} for name in sources}
    grew = True
    while grew:
        grew = False
        for name, modules in below.items():
            wider = reach[name].union(*(reach[module] for module in modules))
            grew |= len(wider) > len(reach[name])
            reach[name] = wider
    groups = {tuple(sorted(b for b in sources if a in reach[b] and b in reach[a])) for a in sources}
    return sorted([*group] for group in groups if len(group) > 1)


def test_no_import_circle() -> None:
    sources = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in package_files()
    }
    assert len(sources) > 200
    assert circles(sources) == []


@pytest.mark.parametrize(
    "back",
    [
        "from .a import f",
        "from . import a",
        "from mldr_deploy.p.a import f",
        "from mldr_deploy.p import a",
        "from ..p.a import f",
        "import mldr_deploy.p.a",
        "def g():\n    from .a import f",
        "if TYPE_CHECKING:\n    from .a import A",
    ],
)
def test_the_search_for_circles_sees_every_form(back: str) -> None:
    assert circles({"p.a": "from .b import g", "p.b": "from .c import h", "p.c": back}) == [
        ["p.a", "p.b", "p.c"]
    ]
    assert circles({"p.a": "from .b import g", "p.b": "", "p.c": back}) == []


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running ``code``."""
    script = f"{code}\nimport sys; print('LOADED', *{{m.partition('.')[0] for m in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / ".src"), "PATH": ""},
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.splitlines()[-1].split()[1:])


def help_of(*words: str) -> str:
    arguments = [*words, "--help"]
    return (
        "from mldr_deploy.cli import main\n"
        f"main({arguments!r}, prog_name='mldr-deploy', standalone_mode=False)"
    )


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_loads_nothing_heavy(command: str | None) -> None:
    loaded = loaded_by(help_of(command) if command else help_of())
    assert "click" in loaded
    assert loaded.isdisjoint({*HEAVY, "rich", "matplotlib"})


@pytest.mark.parametrize("folder", ["bundle", "runtimes", "profiler", "serve", "demo"])
def test_what_serves_loads_no_torch(folder: str) -> None:
    modules = [
        "mldr_deploy." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    loaded = loaded_by("\n".join(f"import {m.removesuffix('.__init__')}" for m in modules))
    assert "mldr_deploy" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_data_package_loads_no_torch() -> None:
    assert "torch" not in loaded_by("import mldr_deploy.data, mldr_deploy.data.dataset")


def test_group_lists_every_command_file() -> None:
    listed = main.list_commands(click.Context(main))
    shared = {"__init__", "group", "console", "options", "process", "short_forms", "streams"}
    files = {path.stem for path in (ROOT / "cli").glob("*.py")} - shared
    assert {name.replace("-", "_") for name in (*listed, *HIDDEN)} == files
