"""Names that say nothing, and names used twice: their share per folder, held below limits.

    python scripts/names.py [FOLDER]

Every name that the package stores is counted: variables, arguments, attributes that are set, loop
and comprehension targets, functions and classes. With a folder, each vague one is printed as
``path:line name``. The exit code is 1 where a limit is passed.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

# The most there may be of each. A limit is lowered whenever the figure is, and never raised.
LIMITS = {"vague names, %": 1.0, "class names used twice": 0, "file names used twice": 5}

ROOT = Path(__file__).resolve().parents[1]

# A name is vague when all of it, without underscores at its ends, is a word of this list: it needs
# the code around it to mean something (`found`: what was?). `found_faces` is not; nor are
# `before` and `after`, `first`, `last` and `best`, which say how two values of a kind differ.
WORDS = """
it its this that these those what which who one ones some any each both other others same own
mine ours theirs everyone nothing something thing things rest many more most few
here there now then where why how again apart together alone aside at
found told held kept known given made said asked wanted left done gone came come goes went got
takes taken shown seen chosen tried taught meant
"""
VAGUE = frozenset(WORDS.split())

# Words of the list that are the field's own in some files, with the reason.
EXCEPTIONS = {
    "left": {  # an edge of a box, beside top, right and bottom
        "bundle/preprocess.py",
        "bundle/standalone.py",
        "data/augment.py",
        "data/crops.py",
        "data/erasing.py",
        "demo/drawing.py",
        "profiler/page/axes.py",
        "profiler/page/rows.py",
    },
}


def package_files() -> list[Path]:
    """Every Python file of the package, relative to its root."""
    folders = sorted(path.parent for path in ROOT.glob("*/__init__.py"))
    files = [*ROOT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    return [path.relative_to(ROOT) for path in sorted(files)]


def stored_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of everything that a syntax tree gives a name to."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name) if name not in ("self", "cls"):
                yield node.lineno, name
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() if node.name:
                yield node.lineno, node.name
            case ast.alias(asname=str(name)):
                yield node.lineno, name


def is_vague(path: Path, name: str) -> bool:
    """Whether ``name``, stored in the file ``path``, says nothing by itself."""
    word = name.strip("_").lower()
    return word in VAGUE and path.as_posix() not in EXCEPTIONS.get(word, set())


def used_twice(places: list[tuple[str, str]], kind: str) -> int:
    """Print the places of each name that has several, of (name, place); gives how many have."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for name, place in places:
        by_name[name].append(place)
    shared = {name: places for name, places in sorted(by_name.items()) if len(places) > 1}
    print(f"{len(shared)} {kind} names are used twice")
    print("".join(f"    {name}: {', '.join(shared[name])}\n" for name in shared), end="")
    return len(shared)


def vague_percent(names: list[tuple[Path, int, str]]) -> float:
    """Print the share of vague names per folder; gives that of all."""
    total = Counter(path.parts[0] for path, _, _ in names)
    vague = Counter(path.parts[0] for path, _, name in names if is_vague(path, name))
    for folder, count in total.items():
        share = vague[folder] / count
        print(f"{folder:12} {vague[folder]:4} of {count:5} names are vague, {share:.1%}")
    return 100 * vague.total() / total.total()


def main(folder: str | None) -> int:
    """Print the figures, and with ``folder`` its vague names; gives the exit code."""
    trees = {path: ast.parse((ROOT / path).read_text("utf-8")) for path in package_files()}
    names = [(path, *stored) for path, tree in trees.items() for stored in stored_names(tree)]
    for path, line, name in sorted(names) if folder else ():
        if is_vague(path, name) and path.is_relative_to(folder or ""):
            print(f"{path}:{line} {name}")
    nodes = [(node, path) for path, tree in trees.items() for node in ast.walk(tree)]
    classes = [
        (node.name, f"{path}:{node.lineno}")
        for node, path in nodes
        if isinstance(node, ast.ClassDef)
    ]
    files = [(path.name, str(path)) for path in trees if path.name != "__init__.py"]
    figures = (vague_percent(names), used_twice(classes, "class"), used_twice(files, "file"))
    code = 0
    for (measure, limit), figure in zip(LIMITS.items(), figures, strict=True):
        print(f"{measure}: {figure:.4g}, at most {limit}")
        code = max(code, int(figure > limit))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
