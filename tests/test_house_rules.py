"""The further rules of house.md §3, one test each, and its sizes and words."""

import ast
import re
import statistics
from collections.abc import Iterator

import pytest

from brokers.base import Broker
from tests.rig import BASE_DIR
from tests.source import at, calls, dotted, functions, imports, nodes, product, sources, tree

FUNCTION_LINES_MAX, FUNCTION_LINES_MEDIAN_MAX, FILE_LINES_MAX = 70, 10, 400
HTTP_CLIENTS = {
    "httpx",
    "httpcore",
    "aiohttp",
    "websockets",
    "requests",
    "urllib3",
    "urllib.request",
    "http.client",
}
# Words of IBKR's wire that mean nothing else (ibkr-web-api.md).
WIRE_WORDS = {
    "conid",
    "conidex",
    "coid",
    "sectype",
    "acctid",
    "auxprice",
    "iserver",
    "ssodh",
    "lmtprice",
    "isclose",
}
ORDER_PATH = (
    *(
        f"orders.{name}"
        for name in ("services", "risk", "policy", "canonical", "facts", "submission", "recheck")
    ),
    *(
        f"orders.{name}"
        for name in ("closing", "reports", "reconciliation", "tools", "models", "drift", "queue", "market")
    ),
    *(f"brokers.ibkr.{name}" for name in ("client", "contracts", "messages", "values")),
    *(f"orders.api.{name}" for name in ("callers", "filters", "listing", "shapes", "views", "wire")),
    *("brokers.base", "brokers.models", "brokers.reports", "cerbero.plain", "cerbero.api"),
)


def breaches(found: Iterator[str]) -> None:
    assert not (listed := sorted(set(found))), "\n".join(listed)


def test_only_settings_reads_the_environment() -> None:
    # Who starts other processes hands its own environment on to them.
    starters = ("cerbero.embedded", "cerbero.stack", "cerbero.supervisor", "cerbero.management")
    for name in product("cerbero.settings", *starters):
        text = ast.unparse(tree(name)).replace("os.environ.setdefault('DJANGO_SETTINGS_MODULE'", "")
        assert not re.search(r"\benviron\b|\bgetenv\b", text), name


def test_only_the_broker_room_and_outbound_call_out() -> None:
    # Whoever starts our processes asks them, on the loopback, whether they answer.
    for name in product("brokers", "cerbero.outbound", "cerbero.probe", "cerbero.stack"):
        assert not HTTP_CLIENTS & set(imports(name)) or ".management." in name, name


def test_only_ibkr_and_the_simulator_know_the_words_of_the_wire() -> None:
    def found() -> Iterator[str]:
        for name in product("brokers.ibkr", "brokers.simulator"):
            for node in ast.walk(_without_docstrings(tree(name))):
                words = [getattr(node, field, None) for field in ("id", "attr", "arg", "value", "name")]
                for word in words:
                    if isinstance(word, str) and WIRE_WORDS & set(re.findall(r"[a-z]+", word.lower())):
                        yield f"{at(name, node)} {word}"

    breaches(found())


# The last claim before the wire, whose WHERE also holds the lease and every halt; a row not yet inserted.
STATUS_WRITERS = {"orders.submission.arm", "orders.locks._arming", "orders.services._propose"}


def test_only_transition_and_the_report_reducer_write_a_status() -> None:
    def found() -> Iterator[str]:
        for name in product("cerbero.lifecycle", "orders.reports", "brokers.simulator"):
            allowed = [each for each in functions(name) if f"{name}.{each.name}" in STATUS_WRITERS]
            exempt = {node for function in allowed for node in ast.walk(function)}
            for node in (each for each in nodes(name) if each not in exempt):
                writers = (".update", ".update_or_create", "CompiledUpdate")
                if isinstance(node, ast.Call) and dotted(node).endswith(writers):
                    if any(keyword.arg == "status" for keyword in node.keywords):
                        yield at(name, node)
                elif isinstance(node, ast.Assign) and any(
                    dotted(to).endswith(".status") for to in node.targets
                ):
                    yield at(name, node)

    breaches(found())


def test_only_record_inserts_entries() -> None:
    def found() -> Iterator[str]:
        for name in product("audit.services"):
            for call in calls(tree(name)):
                if dotted(call) == "Entry" or re.match(
                    r"Entry\.objects\.(bulk_)?(create|get_or|update)", dotted(call)
                ):
                    yield at(name, call)

    breaches(found())


def test_no_float_is_on_an_orders_path() -> None:
    def found() -> Iterator[str]:
        for name in ORDER_PATH:
            for node in nodes(name):
                if isinstance(node, ast.Call) and dotted(node) == "float":
                    yield at(name, node)
                named = getattr(node, "arg", None) or dotted(getattr(node, "target", node))
                kind = getattr(node, "annotation", None)
                words = ast.unparse(kind) if kind is not None else ""
                if re.search(r"(?<!\[\[)\bfloat\b", words) and "seconds" not in named:
                    yield at(name, node)

    breaches(found())


def test_there_are_no_signals_of_our_own() -> None:
    for name in sources():
        banned = {"django.dispatch", "django.db.models.signals", "django.core.signals", "blinker"}
        assert not banned & set(imports(name)), name


def test_no_broker_is_called_inside_a_transaction() -> None:
    methods = {name for name in vars(Broker) if not name.startswith("_")}

    def found() -> Iterator[str]:
        for name in product("brokers.simulator"):
            for block in _transactions(tree(name)):
                for call in calls(block):
                    words = dotted(call).split(".")
                    if set(words[:-1]) & {"broker", "client", "httpx"} and words[-1] in methods:
                        yield at(name, call)

    breaches(found())


def _transactions(module: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(module):
        if isinstance(node, ast.With) and any(
            "atomic" in ast.unparse(each.context_expr) for each in node.items
        ):
            yield from node.body
        elif isinstance(node, ast.FunctionDef) and any(
            "atomic" in ast.unparse(d) for d in node.decorator_list
        ):
            yield node


def _without_docstrings(module: ast.Module) -> ast.Module:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    copy = ast.parse(ast.unparse(module))
    for node in ast.walk(copy):
        if isinstance(node, documented) and ast.get_docstring(node):
            node.body[0] = ast.Pass()
    return copy


@pytest.mark.parametrize("name", sorted(sources()))
def test_files_and_functions_stay_small(name: str) -> None:
    assert len(sources()[name].read_text().splitlines()) <= FILE_LINES_MAX, f"{name}: split the file"
    for function in functions(name):
        assert _lines(function) <= FUNCTION_LINES_MAX, (
            f"{at(name, function)} {function.name}: split the function"
        )


def test_half_of_all_functions_are_short() -> None:
    lines = [_lines(function) for name in sources() for function in functions(name)]
    assert statistics.median(lines) <= FUNCTION_LINES_MEDIAN_MAX


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def test_names_say_what_a_thing_is() -> None:
    for name in sources():
        assert not {"utils", "helpers", "misc", "common"} & set(name.split(".")), name
        for node in nodes(name):
            if isinstance(node, ast.ClassDef):
                assert not re.search(r"(Manager|Helper|Utils?|Handler|Info)$", node.name), at(name, node)


def test_nothing_is_left_to_do_and_nothing_is_said_twice() -> None:
    for name, path in sources().items():
        assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text()), name
    assert sources()["cerbero"].read_text() == ""


def test_public_things_say_what_they_are() -> None:
    for name in sources():
        if sources()[name].read_text().strip():
            assert ast.get_docstring(tree(name)), f"{name} has no docstring"


def test_each_requirement_is_pinned() -> None:
    for file in ("requirements.txt", "requirements-dev.txt"):
        lines = (BASE_DIR / file).read_text().splitlines()
        for line in (each for each in lines if each and not each.startswith(("#", "-r"))):
            assert re.match(r"[\w.\[\],-]+==[\w.]+(;.*)?$", line), line
