"""What of IBKR's interface is used, by which tool, answered by the simulator and named by a test; read off the code.

An endpoint is what an adapter's function asks the wire for. Who reaches it is followed from each tool, and from each
process, through the names that functions refer to: a rule of thumb that errs towards too many.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

METHODS = frozenset({"GET", "POST", "DELETE"})
# How the adapter's own short ways to the wire ask.
SHORT_WAYS = {"_delete": "DELETE", "_named": "GET", "_tolerant": "GET", "exchange_token": "POST"}
ADAPTER, SIMULATOR = "brokers.ibkr", "brokers.simulator"
# What a broker is called where one is in hand; its attributes are the adapter's functions.
BROKERS = frozenset({"broker", "client", "reads", "stream", "source"})
TOPIC = re.compile(r"^([a-z]{3})\+")
Node = tuple[str, str]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Row:
    """One endpoint or topic. `users` are tools, or processes where no tool reaches it."""

    name: str
    users: tuple[str, ...]
    is_simulated: bool
    tests: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        return bool(self.users and self.is_simulated and self.tests)


@dataclass
class Code:
    """The product's modules, and which of their functions refer to which."""

    root: Path
    packages: tuple[str, ...] = ("cerbero", "brokers", "orders", "keyrotation")
    _seen: dict[Node, set[Node]] = field(default_factory=dict)
    _meant: dict[str, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def modules(self) -> dict[str, ast.Module]:
        found = {}
        for package in self.packages:
            for path in sorted((self.root / package).rglob("*.py")):
                name = ".".join(path.relative_to(self.root).with_suffix("").parts)
                if "migrations" not in path.parts and not name.startswith(SIMULATOR):
                    found[name.removesuffix(".__init__")] = ast.parse(path.read_text())
        return found

    @cached_property
    def nodes(self) -> dict[Node, list[ast.AST]]:
        """Functions, methods and module-level names, by module and name."""
        found: dict[Node, list[ast.AST]] = {}
        for module, tree in self.modules.items():
            for each in _definitions(tree):
                found.setdefault((module, _name_of(each)), []).append(each)
        return found

    @cached_property
    def adapter(self) -> dict[str, list[Node]]:
        """The adapter's functions by their names."""
        found: dict[str, list[Node]] = {}
        for module, name in self.nodes:
            if module.startswith(ADAPTER):
                found.setdefault(name, []).append((module, name))
        return found

    def reached_from(self, start: Node) -> set[Node]:
        """Everything that a function refers to, through others as well."""
        reached, waiting = {start}, [start]
        while waiting:
            for each in self._refers(waiting.pop()) - reached:
                reached.add(each)
                waiting.append(each)
        return reached

    def _refers(self, node: Node) -> set[Node]:
        if node not in self._seen:
            self._seen[node] = {
                other for part in self.nodes.get(node, []) for other in self._named(node[0], part)
            }
        return self._seen[node]

    def _named(self, module: str, part: ast.AST) -> Iterator[Node]:
        imported = self._imported(module)
        for each in ast.walk(part):
            if isinstance(each, ast.Name):
                yield from self._known((module, each.id), imported.get(each.id))
            elif isinstance(each, ast.Attribute):
                holder = _last_word(each.value)
                if holder in BROKERS:
                    yield from self.adapter.get(each.attr, [])
                elif holder == "self":
                    yield from self._known((module, each.attr))
                    yield from self.adapter.get(each.attr, []) if module.startswith(ADAPTER) else []
                elif isinstance(imported.get(holder), str):
                    yield from self._known((str(imported[holder]), each.attr))

    def _known(self, *wanted: Any) -> Iterator[Node]:
        yield from (each for each in wanted if each in self.nodes)

    def _imported(self, module: str) -> dict[str, Node | str]:
        """What a name means in a module: a function of another one, or the module itself."""
        if module in self._meant:
            return self._meant[module]
        found = self._meant[module] = {}
        for each in ast.walk(self.modules[module]):
            if isinstance(each, ast.ImportFrom) and each.module:
                for alias in each.names:
                    whole = f"{each.module}.{alias.name}"
                    meant = whole if whole in self.modules else (each.module, alias.name)
                    found[alias.asname or alias.name] = meant
        return found


def endpoints(code: Code) -> dict[str, set[Node]]:
    """`GET /portfolio/{}/meta` and the like, with the adapter's functions that ask for it."""
    found: dict[str, set[Node]] = {}
    for node, parts in code.nodes.items():
        for part in parts:
            if node[0].startswith(ADAPTER) and isinstance(part, Function):
                for name in _asked_for(part):
                    found.setdefault(name, set()).add(node)
    return found


def topics(code: Code) -> dict[str, set[Node]]:
    """What the adapter subscribes to, and how it leaves again."""
    found: dict[str, set[Node]] = {}
    for node, parts in code.nodes.items():
        if node[0] == f"{ADAPTER}.stream":
            for text in (each for part in parts for each in _texts(part)):
                if match := TOPIC.match(text):
                    found.setdefault(match[1], set()).add(node)
    return found


def simulated_topics(connection: str) -> set[str]:
    """The commands that the simulator's socket knows."""
    tables = [each for each in ast.walk(ast.parse(connection)) if isinstance(each, ast.Dict)]
    return {
        str(key.value)
        for table in tables
        for key in table.keys
        if isinstance(key, ast.Constant) and re.fullmatch("[a-z]{3}", str(key.value))
    }


def template(path: str) -> str:
    """A route of the simulator as an endpoint is written here."""
    return re.sub(r"\{[^{}]*(\{[^{}]*\}[^{}]*)*\}", "{}", path)


def files_naming(tests: dict[str, str], patterns: Iterable[str]) -> tuple[str, ...]:
    """The test files in which one of these stands."""
    wanted = re.compile("|".join(patterns))
    return tuple(name for name, text in tests.items() if wanted.pattern and wanted.search(text))


def _asked_for(function: Function) -> Iterator[str]:
    known: dict[str, str] = {}
    for each in ast.walk(function):
        if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name):
            known[each.targets[0].id] = _text(each.value, known) or ""
    for call in (each for each in ast.walk(function) if isinstance(each, ast.Call)):
        texts = [_text(argument, known) for argument in call.args]
        method = SHORT_WAYS.get(_last_word(call.func)) or next((t for t in texts if t in METHODS), None)
        path = next((text for text in texts if text and text.startswith("/")), None)
        if method and path:
            yield f"{method} {path}"


def _text(value: ast.AST, known: dict[str, str]) -> str | None:
    """A text with `{}` for whatever is put into it."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return value.value
    if isinstance(value, ast.Name):
        return known.get(value.id)
    if isinstance(value, ast.JoinedStr):
        parts = [each.value if isinstance(each, ast.FormattedValue) else each for each in value.values]
        return "".join(_text(part, known) or "{}" for part in parts)
    return None


def _texts(part: ast.AST) -> Iterator[str]:
    for each in ast.walk(part):
        if isinstance(each, ast.Constant | ast.JoinedStr) and (text := _text(each, {})):
            yield text


def _definitions(tree: ast.Module) -> Iterator[ast.AST]:
    for each in tree.body:
        if isinstance(each, ast.Assign | ast.AnnAssign) and _name_of(each):
            yield each
        elif isinstance(each, ast.ClassDef):
            yield from (inner for inner in each.body if isinstance(inner, Function))
        elif isinstance(each, Function):
            yield each


def _name_of(node: Any) -> str:
    if isinstance(node, Function):
        return node.name
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    return target.id if isinstance(target, ast.Name) else ""


def _last_word(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
