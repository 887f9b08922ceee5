"""Our own source, read for the tests that hold the house's rules."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.rig import BASE_DIR

PACKAGES = ("cerbero", "audit", "brokers", "orders", "keyrotation")


@cache
def sources() -> dict[str, Path]:
    """Module name → file, of the product without migrations."""
    found = {}
    for package in PACKAGES:
        for path in sorted((BASE_DIR / package).rglob("*.py")):
            if "migrations" not in path.parts:
                name = ".".join(path.relative_to(BASE_DIR).with_suffix("").parts)
                found[name.removesuffix(".__init__")] = path
    return found


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(sources()[name].read_text())


@cache
def nodes(name: str) -> tuple[ast.AST, ...]:
    """All of a module; twenty tests go through each."""
    return tuple(ast.walk(tree(name)))


def product(*without: str) -> list[str]:
    """Module names, but for those that are, or lie below, one of `without`."""
    return [name for name in sources() if not any(is_in(name, each) for each in without)]


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@cache
def imports(name: str) -> tuple[str, ...]:
    """Every module that `name` imports, wherever in the file it does."""
    return tuple(_imports(name))


def _imports(name: str) -> Iterator[str]:
    for node in nodes(name):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(name, node)
            for alias in node.names:
                below = f"{module}.{alias.name}"
                yield below if below in sources() else module


def _absolute(name: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    is_package = sources()[name].name == "__init__.py"
    parts = name.split(".")[: len(name.split(".")) - node.level + is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an expression; calls are looked through."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return dotted(node.func)
    return node.id if isinstance(node, ast.Name) else ""


def calls(node: ast.AST) -> Iterator[ast.Call]:
    yield from (each for each in ast.walk(node) if isinstance(each, ast.Call))


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    yield from (node for node in nodes(name) if isinstance(node, kinds))


def at(name: str, node: ast.AST) -> str:
    """Where a node stands, for a failure's message."""
    return f"{sources()[name].relative_to(BASE_DIR)}:{getattr(node, 'lineno', 0)}"
