"""A tool is one record: endpoint, schemas, scope, audit entry and documentation are read from it."""

import inspect
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeGuard, TypeVar, get_type_hints

from prometheus_client import Counter, Histogram
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from audit.services import record
from cerbero.access import SCOPES, Actor
from cerbero.errors import BadInput, CerberoError, InternalError, PermissionMissing

CALLS = Counter("cerbero_tool_calls_total", "Tool calls of this process.", ["tool", "outcome"])
SECONDS = Histogram("cerbero_tool_seconds", "Duration of this process' tool calls.", ["tool"])

_NAME = re.compile(r"[a-z]+(_[a-z]+)*")
_PROBLEMS_MAX = 20


class Effect(StrEnum):
    READ = "read"
    WRITE = "write"
    DESTRUCTIVE = "destructive"


READ, WRITE, DESTRUCTIVE = Effect.READ, Effect.WRITE, Effect.DESTRUCTIVE


class Params(BaseModel):
    """What a tool takes: unknown fields are refused by name, and a float or a bool is never a decimal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _no_floats(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and any(isinstance(value, float) for value in values.values()):
            raise ValueError("send decimals as text; a float is not exact")
        return values


class Out(BaseModel):
    """What a tool answers; made from a row's attributes or from keywords."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)


Function = Callable[[Actor, Any], BaseModel]
F = TypeVar("F", bound=Function)


@dataclass(frozen=True)
class Tool:
    """One thing that a bot can ask for, with everything that a door or a page says of it."""

    name: str
    description: str
    scope: str
    effect: Effect
    params: type[BaseModel]
    out: type[BaseModel]
    function: Function

    @classmethod
    def of(cls, function: Function, *, scope: str, effect: Effect) -> "Tool":
        """Read the record off a function's name, docstring and annotations. Raises TypeError if one is amiss."""
        name, description = function.__name__, inspect.getdoc(function) or ""
        hints = get_type_hints(function)
        params, out = hints.get("params"), hints.get("return")
        if not _NAME.fullmatch(name) or not description:
            raise TypeError(
                f"{name}: a tool is named verb_noun, in small letters, and its docstring says what it does"
            )
        if scope not in SCOPES:
            raise TypeError(f"{name}: there is no scope {scope!r}")
        if hints.get("actor") is not Actor or not _is_schema(params) or not _is_schema(out):
            raise TypeError(f"{name}: a tool is (actor: Actor, params: Params) -> Out")
        if params.model_config.get("extra") != "forbid":
            raise TypeError(f"{name}: {params.__name__} must refuse unknown fields; derive it from Params")
        return cls(name, description, scope, effect, params, out, function)

    @property
    def summary(self) -> str:
        """The description's first paragraph, on one line."""
        return " ".join(self.description.split("\n\n")[0].split())


TOOLS: dict[str, Tool] = {}


def tool(*, scope: str, effect: Effect) -> Callable[[F], F]:
    """Register a function as a tool. Raises TypeError at import when the record is not whole."""

    def register(function: F) -> F:
        made = Tool.of(function, scope=scope, effect=effect)
        if made.name in TOOLS:
            raise TypeError(f"{made.name}: there is such a tool already")
        TOOLS[made.name] = made
        return function

    return register


def call(tool: Tool, actor: Actor, raw: Mapping[str, Any] | BaseModel) -> BaseModel:
    """Authorise, run, record: the only road from a program to a service.

    Whatever happens, one `tool.called` entry says who called what and how it ended, never with which arguments.
    Raises CerberoError; anything else is a crash, recorded as `internal_error` and raised as it is.
    """
    started, outcome = time.perf_counter(), InternalError.code
    try:
        if not actor.is_bot:
            raise PermissionMissing("Tools are for bots; people act in admin.")
        actor.require(tool.scope)
        result = tool.function(actor, parse(tool, raw))
        if not isinstance(result, tool.out):
            raise TypeError(f"{tool.name} answered {type(result).__name__}, not {tool.out.__name__}")
        outcome = "ok"
        return result
    except CerberoError as error:
        outcome = error.code
        raise
    finally:
        seconds = time.perf_counter() - started
        CALLS.labels(tool.name, outcome).inc()
        SECONDS.labels(tool.name).observe(seconds)
        _record_call(tool, actor, outcome, seconds)


def parse(tool: Tool, raw: Mapping[str, Any] | BaseModel) -> BaseModel:
    """The arguments as the tool's own type. Raises BadInput that names each field."""
    if isinstance(raw, tool.params):
        return raw
    try:
        return tool.params.model_validate(raw)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise BadInput(
            fields=[
                {"field": ".".join(map(str, problem["loc"])), "problem": problem["msg"]}
                for problem in problems[:_PROBLEMS_MAX]
            ]
        ) from None


def _record_call(tool: Tool, actor: Actor, outcome: str, seconds: float) -> None:
    # No transaction around it: one INSERT is its own, and saves two round trips.
    record(
        "tool.called",
        actor=actor,
        subject_kind="tool",
        subject_id=tool.name,
        details={
            "effect": tool.effect,
            "outcome": outcome,
            "tag": actor.tag,
            "door": actor.door,
            "milliseconds": round(seconds * 1000),
        },
    )


def _is_schema(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
