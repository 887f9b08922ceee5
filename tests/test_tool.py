"""A tool is a whole record, and `call` is the only road through it."""

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel

from audit.models import Entry
from cerbero.access import SCOPES, Actor, person, system
from cerbero.errors import BadInput, PermissionMissing, ScopeMissing, TradingHalted
from cerbero.models import User
from cerbero.tool import READ, TOOLS, WRITE, Out, Params, Tool, call, tool
from tests.sample_tool import SAMPLE, Weigh, Weighed


def bot(*scopes: str) -> Actor:
    return Actor(
        kind="bot",
        id=uuid4(),
        name="scanner-alpha",
        scopes=frozenset(scopes),
        tag="alpha-1",
        request_id="r-1",
        door="http",
    )


READER = bot("orders:read")


def test_a_record_reads_its_name_schemas_and_words_off_the_function() -> None:
    assert (SAMPLE.name, SAMPLE.params, SAMPLE.out) == ("weigh_thing", Weigh, Weighed)
    assert SAMPLE.summary == "Weigh a thing; it answers what it was told."
    assert "second paragraph" in SAMPLE.description


def test_half_a_record_is_refused_when_it_is_made() -> None:
    class Loose(BaseModel):
        weight: Decimal

    def weigh_loosely(actor: Actor, params: Loose) -> Weighed:
        """Takes fields that it does not know."""
        raise NotImplementedError

    def weigh_silently(actor: Actor, params: Weigh) -> Weighed:
        raise NotImplementedError

    def weigh_nothing(actor: Actor, params: Weigh) -> None:
        """Has no schema out."""

    def weigh_2(actor: Actor, params: Weigh) -> Weighed:
        """Is not named in words."""
        raise NotImplementedError

    function: Any
    for function in (weigh_loosely, weigh_silently, weigh_nothing, weigh_2):
        with pytest.raises(TypeError, match=function.__name__):
            Tool.of(function, scope="orders:read", effect=READ)
    with pytest.raises(TypeError, match="no scope"):
        Tool.of(SAMPLE.function, scope="orders:everything", effect=READ)


def test_two_tools_cannot_have_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOOLS, SAMPLE.name, SAMPLE)
    with pytest.raises(TypeError, match="already"):
        tool(scope="orders:read", effect=WRITE)(SAMPLE.function)


@pytest.mark.django_db
def test_a_call_runs_and_leaves_one_entry_without_its_arguments() -> None:
    assert READER.id
    result = call(SAMPLE, READER, {"weight": "7.25", "label": "secret-label"})
    assert result == Weighed(weight=Decimal("7.25"), bot=READER.id)
    entry = Entry.objects.get(event="tool.called")
    assert (entry.actor_kind, entry.actor_id, entry.request_id) == ("bot", READER.id, "r-1")
    assert (entry.subject_kind, entry.subject_id) == ("tool", "weigh_thing")
    assert entry.details.pop("milliseconds") >= 0
    assert entry.details == {"effect": "write", "outcome": "ok", "tag": "alpha-1", "door": "http"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("actor", "raw", "error", "outcome"),
    [
        (bot("trading:halt"), {"weight": "1"}, ScopeMissing, "scope_missing"),
        (READER, {"weight": "heavy"}, BadInput, "bad_input"),
        (READER, {"weight": "1", "label": "halted"}, TradingHalted, "trading_halted"),
        (READER, {"weight": "1", "label": "crash"}, RuntimeError, "internal_error"),
        (system("beat"), {"weight": "1"}, PermissionMissing, "permission_missing"),
        (person(User(username="alice")), {"weight": "1"}, PermissionMissing, "permission_missing"),
    ],
)
def test_every_end_is_recorded_by_its_code(
    actor: Actor, raw: dict, error: type[Exception], outcome: str
) -> None:
    with pytest.raises(error):
        call(SAMPLE, actor, raw)
    assert Entry.objects.get(event="tool.called").details["outcome"] == outcome


@pytest.mark.django_db
def test_an_answer_that_is_not_the_schema_is_a_crash() -> None:
    def weigh_wrongly(actor: Actor, params: Weigh) -> Weighed:
        """Answer something else."""
        return {"weight": "1"}  # type: ignore[return-value]

    with pytest.raises(TypeError, match="weigh_wrongly answered dict"):
        call(Tool.of(weigh_wrongly, scope="orders:read", effect=READ), READER, {"weight": "1"})
    assert Entry.objects.get(event="tool.called").details["outcome"] == "internal_error"


def test_a_call_commits_its_entry_even_when_the_tool_crashes(fresh_database) -> None:
    with pytest.raises(RuntimeError):
        call(SAMPLE, READER, {"weight": "1", "label": "crash"})
    with fresh_database.connect() as other:
        found = other.execute("SELECT details->>'outcome' FROM audit_entry WHERE event = 'tool.called'")
        assert found.fetchall() == [("internal_error",)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"weight": "1", "colour": "red"}, "colour"),
        ({}, "weight"),
        ({"weight": "NaN"}, "weight"),
        ({"weight": True}, "weight"),
        ({"weight": 0.1}, ""),
        ({"weight": None}, "weight"),
        ({"weight": ["1"]}, "weight"),
        ({"weight": "1", "label": 5}, "label"),
    ],
)
def test_bad_input_names_the_field_and_never_repeats_the_value(raw: dict, field: str) -> None:
    with pytest.raises(BadInput) as refusal:
        call(SAMPLE, READER, raw)
    assert [problem["field"] for problem in refusal.value.details["fields"]] == [field]


@pytest.mark.django_db
def test_the_list_of_problems_is_bounded() -> None:
    with pytest.raises(BadInput) as refusal:
        call(SAMPLE, READER, {f"field_{number}": 1 for number in range(500)})
    assert len(refusal.value.details["fields"]) == 20


def test_every_registered_tool_takes_and_gives_exact_numbers() -> None:
    for each in TOOLS.values():
        assert each.scope in SCOPES
        assert issubclass(each.params, Params), each.name
        assert issubclass(each.out, Out), each.name
        for schema in (each.params, each.out):
            inexact = [
                name for name, field in schema.model_fields.items() if "float" in str(field.annotation)
            ]
            assert not inexact, f"{each.name}: {inexact}"
