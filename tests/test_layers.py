"""Imports point down, and only composition roots import doors (house.md §3)."""

import pytest

from tests.source import imports, is_in, product, sources


def _of_cerbero(*names: str) -> set[str]:
    return {f"cerbero.{name}" for name in names}


ROOTS = _of_cerbero("urls", "tool_urls", "asgi", "wsgi", "celery", "apps")
DOORS = _of_cerbero("api", "mcp", "console", "consumers", "metrics", "admin")
DOOR_PARTS = {"tools", "tasks", "consumers", "admin", "api", "management", "templatetags"}
# What doors stand on: how to refuse, to look, to start. Below every door, above every room.
THRESHOLD = _of_cerbero("health", "checks", "refusals", "middleware", "logs", "site") | _of_cerbero(
    "embedded", "secret_files", "processes", "supervisor", "stack", "probe"
)
FLOOR_2 = _of_cerbero("tool", "lifecycle", "decisions", "tokens")
FLOOR_0 = _of_cerbero(
    "errors",
    "models",
    "access",
    "leases",
    "outbound",
    "plain",
    "proofs",
    "settings",
    "failpoints",
    "stopping",
    "alive",
)
FLOOR_0 |= _of_cerbero(
    "errors.base",
    "errors.door",
    "errors.gate",
    "errors.wire",
    "encryption",
    "key_files",
    "database",
    "database.base",
    "database.compiled",
)
ROOMS = {"audit": 1, "brokers": 3, "orders": 4, "keyrotation": 5}
TOP = 8


def floor(name: str) -> int:
    """How high a module stands: TOP is a composition root, TOP - 1 a door, TOP - 2 what doors stand on."""
    package, _, rest = name.partition(".")
    if name in ROOTS:
        return TOP
    if name in DOORS or DOOR_PARTS & set(rest.split(".")):
        return TOP - 1
    if name in THRESHOLD:
        return TOP - 2
    if is_in(name, "cerbero.people"):
        return 2
    if package == "cerbero":
        assert name in FLOOR_0 | FLOOR_2 | {"cerbero"}, f"{name} stands on no floor: name one in this test"
        return 2 if name in FLOOR_2 else 0
    return ROOMS[package]


def room(name: str) -> tuple[str, ...]:
    """A door's own folder: its parts may import each other."""
    parts = name.split(".")
    for index, part in enumerate(parts):
        if part in DOOR_PARTS - {"templatetags"} and name not in DOORS:
            return tuple(parts[: index + 1])
    return tuple(parts)


@pytest.mark.parametrize("name", sorted(sources()))
def test_imports_point_down(name: str) -> None:
    for other in imports(name):
        if other in sources():
            assert floor(other) <= floor(name), f"{name} imports {other}, which stands higher"


def test_only_composition_roots_import_doors() -> None:
    for name in product(*ROOTS):
        doors = [each for each in imports(name) if each in sources() and floor(each) == TOP - 1]
        foreign = [each for each in doors if room(each) != room(name) and "templatetags" not in each]
        assert not foreign, f"{name} imports the doors {foreign}"


def test_client_and_simulator_share_no_code() -> None:
    for name in sources():
        if is_in(name, "brokers.simulator"):
            shared = [each for each in imports(name) if each in product("brokers.simulator")]
        elif ".management." in name:
            continue  # The demo's set-up may read what the simulator lists.
        else:
            shared = [each for each in imports(name) if is_in(each, "brokers.simulator")]
        assert not [each for each in shared if each != "brokers"], f"{name} imports {shared}"


def test_orders_never_know_key_rotation() -> None:
    for name in product("keyrotation", "cerbero.management", *ROOTS):
        assert not [each for each in imports(name) if is_in(each, "keyrotation")], name


def test_only_the_broker_room_knows_which_broker_it_is() -> None:
    for name in product("brokers"):
        assert not [each for each in imports(name) if is_in(each, "brokers.ibkr")], name
