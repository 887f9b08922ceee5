"""What the documents name exists: files, links, commands, settings, error codes, processes, permissions."""

import ast
import re
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from audit import verifying
from cerbero import errors
from cerbero.access import SCOPES
from cerbero.errors import CerberoError
from cerbero.management.commands.prepare_database import GROUPS
from cerbero.processes import PROCESSES
from tests.rig import BASE_DIR

TOP = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
DOCUMENTS = [BASE_DIR / name for name in TOP] + sorted((BASE_DIR / "docs").rglob("*.md"))
README = (BASE_DIR / "README.md").read_text()
ERRORS = (BASE_DIR / "docs" / "errors.md").read_text()

LINK = re.compile(r"\]\(([^)\s]+)\)")
# A path of ours in backticks: it begins with one of our folders or is a file at the top.
FOLDERS = (
    "cerbero",
    "audit",
    "brokers",
    "orders.notices",
    "orders",
    "keyrotation",
    "tests",
    "bench",
    "docs",
    "docker",
    "static",
)
FILE = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*|[\w.-]+\.(?:py|toml|yml|md))`")
SUFFIXES = {"text": (), "flag": (), "whole": (), "get": (), "secret": ("_FILE",)}

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(BASE_DIR))
)


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, its head left out."""
    below = f"\n{text}".split(f"\n{heading}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert rows, f"there is no table below {heading}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows[0].splitlines()[2:]]


def anchors(document: Path) -> set[str]:
    """The ids that headings get where Markdown is shown."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@each_document
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@each_document
def test_every_file_that_is_named_exists(document: Path) -> None:
    generated = {"credentials.json", "dhparam.pem"}
    for name in set(FILE.findall(document.read_text())) - generated:
        assert (BASE_DIR / name).exists(), name


@each_document
def test_every_command_that_is_named_exists(document: Path) -> None:
    text, known = document.read_text(), get_commands()
    makefile = (BASE_DIR / "Makefile").read_text()
    for target in re.findall(r"(?:^|`|\s)make ([a-z]+)(?=[\s`]|$)", _code(text), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for command, words in re.findall(r"manage\.py ([a-z_]+)([^\n`]*)", text):
        assert command in known, f"manage.py {command}"
        if known[command] in {"cerbero", "audit", "brokers", "orders"}:
            parser = load_command_class(known[command], command).create_parser("manage.py", command)
            options = {option for action in parser._actions for option in action.option_strings}
            assert set(re.findall(r"(?<=\s)--[a-z-]+", words)) <= options, f"manage.py {command}{words}"


def test_the_configuration_table_is_what_settings_read() -> None:
    rows = table(README, "## Configuration")
    told = [name for row in rows for name in re.findall(r"`([A-Z_]+)`", row[0])]
    assert len(told) == len(set(told))
    assert set(told) == settings_read()


def settings_read() -> set[str]:
    """Every name that settings.py asks the environment for."""
    tree = ast.parse((BASE_DIR / "cerbero" / "settings.py").read_text())
    names: set[str] = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function = ast.unparse(call.func)
        kind = "get" if function == "os.environ.get" else function
        if kind in SUFFIXES and call.args and isinstance(call.args[0], ast.Constant):
            name = str(call.args[0].value)
            names |= {name, *(name + suffix for suffix in SUFFIXES[kind])}
    return names


def test_the_error_table_is_what_errors_are() -> None:
    wanted = [error_row(kind) for kind in kinds()]
    assert [f"| {' | '.join(row)} |" for row in table(ERRORS, "## Codes")] == wanted, "\n".join(
        ["docs/errors.md needs these rows:", *wanted]
    )


def kinds() -> list[type[CerberoError]]:
    """Every error that a caller can be answered with, by code."""
    found = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CerberoError)
    ]
    return sorted(found, key=lambda kind: kind.code)


def error_row(kind: type[CerberoError]) -> str:
    flags = (("retryable", kind.retryable), ("verify first", kind.verify_first))
    said = ", ".join(name for name, is_set in flags if is_set)
    return f"| `{kind.code}` | {kind.status} | {said or '–'} | {(kind.__doc__ or '').strip()} |"


def test_codes_are_unique_and_lower_case() -> None:
    codes = [kind.code for kind in kinds()]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_the_refusal_table_is_what_tickets_are_denied_with() -> None:
    told = {row[0].strip("`") for row in table(ERRORS, "## Why a ticket was denied")}
    assert told == denials()


def denials() -> set[str]:
    """Every `refusal_code` that the orders' services give a ticket."""
    codes: set[str] = set()
    for path in (BASE_DIR / "orders").glob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            if name in {"Denied", "Moved", "deny"}:
                texts = [each.value for each in call.args if isinstance(each, ast.Constant)]
                codes |= {text for text in texts if isinstance(text, str)}
    # By the class of the error rather than by its text.
    return codes | {errors.LiveTradingDenied.code, errors.RiskRefused.code}


def test_the_table_of_processes_is_what_up_starts() -> None:
    told = [row[0].strip("`") for row in table(README, "## Processes")]
    assert sorted(told) == sorted(process.name for process in PROCESSES)


def test_the_runbook_explains_every_verdict_of_the_trail() -> None:
    text = (BASE_DIR / "docs" / "runbooks" / "audit-trail.md").read_text()
    told = {
        code for row in table(text, "## What the code means") for code in re.findall(r"`([a-z_]+)`", row[0])
    }
    source = Path(verifying.__file__).read_text()
    known = set(re.findall(r'Broken\(\s*"([a-z_]+)"', source)) | {"not_sealed"}
    assert told == known | {"checkpoint_differs", "anchor_differs"}


def test_the_runbook_names_every_group_and_scope() -> None:
    text = (BASE_DIR / "docs" / "runbooks" / "people-bots-tokens.md").read_text()
    assert [row[0] for row in table(text, "# People, bots, tokens")] == list(GROUPS)
    assert [row[0].strip("`") for row in table(text, "## A bot")] == list(SCOPES)


def _code(text: str) -> str:
    """What stands in code blocks and in backticks; the rest is prose, where "make a key" is no command."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return "\n".join(blocks + re.findall(r"`([^`\n]+)`", text))
