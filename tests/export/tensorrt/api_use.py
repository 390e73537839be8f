"""Which names of TensorRT our own source uses, collected from its syntax tree, and the check.

The walk knows what a variable is from ``trt.X(...)``, from an annotation ``trt.X``, from the
return annotations of our own functions, and from what the described API says a method returns; so
``builder.create_network(1)`` is held against ``Builder`` and its result against
``INetworkDefinition``.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODULE = "trt"
Api = dict[str, Any]


@dataclass(frozen=True)
class Use:
    """One use: ``owner`` is a class, or empty for the module itself."""

    where: str
    owner: str
    name: str
    kind: str  # read, write, call, override
    positional: int = 0
    keywords: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.where}: {self.kind} of {self.owner or 'tensorrt'}.{self.name}"


@dataclass(frozen=True)
class Kind:
    """What an expression is: the module, a class, an instance of it, or a method of it."""

    form: str  # module, class, instance, method
    of: str = ""
    method: str = ""


def collect(files: list[Path], api: Api, root: Path) -> list[Use]:
    """Every use in ``files``, in their order."""
    uses: list[Use] = []
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        uses += Walk(tree, api, str(file.relative_to(root))).uses
    return uses


def collect_source(source: str, api: Api) -> list[Use]:
    """The same for a piece of text."""
    return Walk(ast.parse(source), api, "<text>").uses


class Walk(ast.NodeVisitor):
    """One file. ``types`` maps local names and ``self.x`` to what they are."""

    def __init__(self, tree: ast.Module, api: Api, where: str) -> None:
        self.api, self.where = api, where
        self.types: dict[str, Kind] = {MODULE: Kind("module")}
        self.returns: dict[str, Kind] = {}
        self.uses: list[Use] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.returns is not None:
                kind = self.annotated(node.returns)
                if kind is not None:
                    self.returns[node.name] = kind
        for _ in range(3):  # a later line may tell what an earlier method's attribute is
            self.uses = []
            self.visit(tree)

    def annotated(self, node: ast.expr | None) -> Kind | None:
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(f"{MODULE}."):
            return Kind("instance", ast.unparse(node).removeprefix(f"{MODULE}."))
        return None

    def note(self, node: ast.AST, owner: str, name: str, kind: str, **more: Any) -> None:
        line = getattr(node, "lineno", 0)
        self.uses.append(Use(f"{self.where}:{line}", owner, name, kind, **more))

    def kind_of(self, node: ast.AST | None) -> Kind | None:
        if isinstance(node, ast.Name):
            return self.types.get(node.id)
        if isinstance(node, ast.Call):
            return self.called(node)
        if not isinstance(node, ast.Attribute):
            return None
        own = self.types.get(ast.unparse(node))
        return own or self.member(self.kind_of(node.value), node.attr)

    def member(self, base: Kind | None, name: str) -> Kind | None:
        if base is None:
            return None
        if base.form == "module":
            return Kind("class", name) if self.api["names"].get(name) == "class" else None
        about = self.api["classes"].get(base.of, {}).get(name, {})
        match about.get("kind"):
            case "class":
                return Kind("class", f"{base.of}.{name}")
            case "member":
                return Kind("instance", base.of)
            case "method":
                return Kind("method", base.of, name)
            case "property":
                return self.instance(about["returns"])
        return None

    def called(self, node: ast.Call) -> Kind | None:
        if isinstance(node.func, ast.Name) and node.func.id in self.returns:
            return self.returns[node.func.id]
        target = self.kind_of(node.func)
        if target is None:
            return None
        if target.form == "class":
            return Kind("instance", target.of)
        if target.form != "method":
            return None
        about = self.api["classes"][target.of][target.method]
        returned = {overload["returns"] for overload in about["overloads"]}
        return self.instance(returned.pop()) if len(returned) == 1 else None

    def instance(self, name: str | None) -> Kind | None:
        return Kind("instance", name) if name in self.api["classes"] else None

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before = dict(self.types)
        for argument in node.args.args:
            if argument.arg != MODULE:  # handed in: still the library's module
                self.types.pop(argument.arg, None)
            kind = self.annotated(argument.annotation)
            if kind is not None:
                self.types[argument.arg] = kind
                self.note(argument, "", kind.of.partition(".")[0], "read")
        for statement in node.body:
            self.visit(statement)
        kept = {name: kind for name, kind in self.types.items() if name.startswith("self.")}
        self.types = {**before, **kept}

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            kind = self.kind_of(base)
            self.visit(base)
            if kind is None or kind.form != "class":
                continue
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    count = len(method.args.args) - 1
                    self.note(method, kind.of, method.name, "override", positional=count)
        for statement in node.body:
            self.visit(statement)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.bind(target, self.kind_of(node.value))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
        stated = self.annotated(node.annotation)
        if stated is not None:
            self.note(node, "", stated.of.partition(".")[0], "read")
        self.bind(node.target, stated or self.kind_of(node.value))

    def bind(self, target: ast.expr, kind: Kind | None) -> None:
        if isinstance(target, ast.Attribute):
            base = self.kind_of(target.value)
            if base is not None and base.form == "instance":
                self.note(target, base.of, target.attr, "write")
        if isinstance(target, (ast.Name, ast.Attribute)):
            if kind is not None:
                self.types[ast.unparse(target)] = kind
            elif isinstance(target, ast.Name) and target.id != MODULE:
                self.types.pop(target.id, None)

    def visit_Call(self, node: ast.Call) -> None:
        target = self.kind_of(node.func)
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        shape = {
            "positional": -1 if starred else len(node.args),
            "keywords": tuple(keyword.arg or "**" for keyword in node.keywords),
        }
        if target is not None and target.form == "class":
            self.note(node, target.of, "__init__", "call", **shape)
            self.visit(node.func)
        elif isinstance(node.func, ast.Attribute) and self._bound(node.func):
            base = self.kind_of(node.func.value)
            assert base is not None
            if base.form == "class":  # X.__init__(self): the instance is handed over
                shape["positional"] = len(node.args) - 1
            self.note(node, base.of, node.func.attr, "call", **shape)
            self.visit(node.func.value)
        else:
            self.visit(node.func)
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.visit(argument)

    def _bound(self, node: ast.Attribute) -> bool:
        base = self.kind_of(node.value)
        return base is not None and base.form in ("instance", "class")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        base = self.kind_of(node.value)
        if base is not None and base.form != "method" and ast.unparse(node) not in self.types:
            self.note(node, base.of, node.attr, "read")
        self.visit(node.value)


def problems(uses: list[Use], api: Api) -> list[str]:
    """Uses that ``api`` does not have, in words."""
    return [f"{use}: {reason}" for use in uses if (reason := _problem(use, api)) is not None]


def _problem(use: Use, api: Api) -> str | None:
    if not use.owner:
        return None if use.name in api["names"] else "there is no such name"
    members = api["classes"].get(use.owner)
    about = None if members is None else members.get(use.name)
    if about is None:
        return "there is no such name"
    if use.kind == "write" and not about.get("settable"):
        return "it cannot be set"
    if use.kind == "override":
        counts = sorted({len(overload["params"]) for overload in about.get("overloads", [])})
        fits = use.positional in counts
        return None if fits else f"it takes {counts} arguments, ours {use.positional}"
    if use.kind == "call" and about["kind"] == "method":
        fits = any(_fits(use, overload["params"]) for overload in about["overloads"])
        return None if fits or not about["overloads"] else "no overload takes these arguments"
    return None


def _fits(use: Use, params: list[list[Any]]) -> bool:
    names = [name for name, _ in params]
    if not set(use.keywords) <= set(names):
        return False
    if use.positional < 0:
        return True
    if use.positional > len(params) or set(names[: use.positional]) & set(use.keywords):
        return False
    return all(
        not required or k < use.positional or name in use.keywords
        for k, (name, required) in enumerate(params)
    )
