"""The policy: ordered rules as data, and which of them a case meets. Pure: no clock, no query.

The first rule that matches decides, and the last one always refuses. A rule cannot say what the schema does
not know, so that a slip of the pen is refused when it is proposed and never read as "allow".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

from orders import risk

REFUSE, PEOPLE, MANDATE, ALLOW = "refuse", "people", "mandate", "allow"
RULES_MAX = 100

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Words = Annotated[list[Word], Field(min_length=1, max_length=500)]
# As text, so that no JSON reader of any side can round it.
Money = Annotated[Decimal, Field(ge=0, max_digits=20, decimal_places=8, strict=False)]
Effect = Literal["opening", "reducing", "flipping", "short"]
Clock = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Hours(_Strict):
    """Days (1 is Monday) and a span of the day in a named zone; the end is not within."""

    zone: str
    days: Annotated[list[Annotated[int, Field(ge=1, le=7)]], Field(min_length=1)] = [1, 2, 3, 4, 5]
    begin: Clock
    end: Clock

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        try:
            ZoneInfo(self.zone)
        except (ValueError, OSError, KeyError):
            raise ValueError("zone must be a name such as America/New_York") from None
        if self.begin >= self.end:
            raise ValueError("begin must be before end; write two rules for a span over midnight")
        return self

    def hold(self, at: datetime) -> bool:
        local = at.astimezone(ZoneInfo(self.zone))
        span = time.fromisoformat(self.begin) <= local.time() < time.fromisoformat(self.end)
        return span and local.isoweekday() in self.days


class When(_Strict):
    """What a case must be, all of it; what is not named may be anything."""

    environments: Annotated[list[Literal["paper", "live"]], Field(min_length=1)] | None = None
    accounts: Words | None = None
    bots: Words | None = None
    asset_classes: Words | None = None
    order_types: Words | None = None
    effects: Annotated[list[Effect], Field(min_length=1)] | None = None
    symbols: Words | None = None
    symbols_not: Words | None = None
    notional_min: Money | None = None
    notional_max: Money | None = None
    hours: Hours | None = None


class Refuse(_Strict):
    do: Literal["refuse"]
    reason: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class People(_Strict):
    """`quorum` decisions by different people of a group, within `seconds`."""

    do: Literal["people"]
    quorum: Annotated[int, Field(ge=1, le=3)]
    group: Word = "Approver"
    seconds: Annotated[int, Field(ge=30, le=86_400)] | None = None


class UnderMandate(_Strict):
    """Passes when a signed mandate covers it; else the next rule speaks."""

    do: Literal["mandate"]


class Allow(_Strict):
    """Passes under the limits alone; for paper accounts, up to a notional."""

    do: Literal["allow"]


class Rule(_Strict):
    name: Name
    when: When = When()
    then: Annotated[Refuse | People | UnderMandate | Allow, Field(discriminator="do")]

    @model_validator(mode="after")
    def _allows_little(self) -> Self:
        if self.then.do == ALLOW:
            if self.when.environments != ["paper"]:
                raise ValueError('only a rule with "environments": ["paper"] may allow; live needs people')
            if self.when.notional_max is None:
                raise ValueError("a rule that allows needs a notional_max")
        return self


_RULES: TypeAdapter[list[Rule]] = TypeAdapter(
    Annotated[list[Rule], Field(min_length=1, max_length=RULES_MAX)]
)


@dataclass(frozen=True)
class Case:
    """What is judged. `notional` is in the account's currency; `bot` is empty for a person's ticket.

    A group has more order types, and may have more effects, than its first order's: a rule that lets pass must name
    them all, one that asks or refuses only one of them.
    """

    environment: str
    account: str
    bot: str
    asset_class: str
    order_type: str
    effect: str
    symbol: str
    notional: Decimal | None
    at: datetime
    more_types: tuple[str, ...] = ()
    more_effects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Requirement:
    """What a rule asks for: refuse, people, mandate or allow; `position` counts the rules from 1."""

    rule: str
    outcome: str
    position: int = 0
    quorum: int = 0
    group: str = ""
    seconds: int | None = None
    reason: str = ""


def read_rules(rules: Any) -> list[Rule]:
    """The rules of a version. Raises ValueError, whose text says which rule and why."""
    read = _RULES.validate_python(rules)
    names = [rule.name for rule in read]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"a name stands twice: {', '.join(twice)}")
    if read[-1].then.do != REFUSE or read[-1].when != When():
        raise ValueError("the last rule must refuse whatever is left: no conditions, and do refuse")
    return read


def requirements(rules: Sequence[Rule], case: Case) -> Iterator[Requirement]:
    """What each matching rule asks for, in order. The last one always refuses."""
    for position, rule in enumerate(rules, 1):
        if _asks_notional(rule.when) and case.notional is None:
            yield Requirement(rule.name, REFUSE, position, reason="the order's value cannot be computed")
            return
        if matches(rule.when, case, passes=rule.then.do in {ALLOW, MANDATE}):
            yield _requirement(rule, position)


def first_people(rules: Sequence[Rule], case: Case) -> Requirement:
    """Who must decide where neither a mandate nor an allowance serves; or the refusal."""
    wanted = (each for each in requirements(rules, case) if each.outcome in {PEOPLE, REFUSE})
    return next(wanted, Requirement("", REFUSE, reason="no rule matches"))


def strictest_people(rules: Sequence[Rule], case: Case) -> Requirement | None:
    """The most decisions that orders up to the case's notional could need, at whatever hour; None: refused."""
    found: list[Requirement] = []
    for notional in _samples(rules, case.notional):
        for position, rule in enumerate(rules, 1):
            if not matches(rule.when, case, notional=notional, any_hour=True):
                continue
            if rule.then.do == PEOPLE:
                found.append(_requirement(rule, position))
            if rule.then.do in {PEOPLE, REFUSE} and rule.when.hours is None:
                break
    return max(found, key=lambda each: each.quorum, default=None)


def matches(
    when: When, case: Case, *, notional: Decimal | None = None, any_hour: bool = False, passes: bool = False
) -> bool:
    """Whether a rule speaks of this case; `passes` is one that would let it pass unasked."""
    value = case.notional if notional is None else notional
    lists = (
        (when.environments, case.environment),
        (when.accounts, case.account),
        (when.bots, case.bot),
        (when.asset_classes, case.asset_class),
        (when.symbols, case.symbol),
    )
    sets = (
        (when.order_types, {case.order_type, *case.more_types}),
        (when.effects, {case.effect, *case.more_effects}),
    )
    return (
        all(allowed is None or told in allowed for allowed, told in lists)
        and all(allowed is None or _covers(set(allowed), told, passes) for allowed, told in sets)
        and not (when.symbols_not and case.symbol in when.symbols_not)
        and (when.notional_min is None or (value is not None and value >= when.notional_min))
        and (when.notional_max is None or (value is not None and value <= when.notional_max))
        and (when.hours is None or any_hour or when.hours.hold(case.at))
    )


def _covers(allowed: set[str], told: set[str], passes: bool) -> bool:
    return told <= allowed if passes else bool(told & allowed)


def effect_of(before: Decimal, side: str, quantity: Decimal) -> str:
    """Opening, reducing, flipping, or short: a sale that opens or adds to a short position."""
    effect = risk.position_effect(before, side, quantity)
    return "short" if effect == "opening" and side == "sell" else effect


def _asks_notional(when: When) -> bool:
    return when.notional_min is not None or when.notional_max is not None


def _requirement(rule: Rule, position: int) -> Requirement:
    then = rule.then
    if isinstance(then, People):
        return Requirement(
            rule.name, PEOPLE, position, quorum=then.quorum, group=then.group, seconds=then.seconds
        )
    reason = then.reason if isinstance(then, Refuse) else ""
    return Requirement(rule.name, then.do, position, reason=reason)


def _samples(rules: Sequence[Rule], most: Decimal | None) -> list[Decimal]:
    """Every notional up to `most` at which another rule could begin or end to match."""
    most = most or Decimal(0)
    bounds = {value for rule in rules for value in (rule.when.notional_min, rule.when.notional_max) if value}
    return sorted({Decimal(0), most, *(value for value in bounds if value <= most)})


def _rule(name: str, then: dict[str, Any], **when: Any) -> dict[str, Any]:
    return {"name": name, "when": when, "then": then}


# Version 1, until an Administrator proposes another and a second one activates it. Notionals are in the
# account's currency. No mandate serves a live account before people have said so in a version of their own.
SHIPPED = [
    _rule("paper-small", {"do": "allow"}, environments=["paper"], notional_max="1000"),
    _rule("paper-mandate", {"do": "mandate"}, environments=["paper"]),
    _rule("paper", {"do": "people", "quorum": 1, "group": "Approver"}, environments=["paper"]),
    _rule(
        "live-small",
        {"do": "people", "quorum": 1, "group": "Approver"},
        environments=["live"],
        notional_max="25000",
    ),
    _rule("live", {"do": "people", "quorum": 2, "group": "Approver"}, environments=["live"]),
    _rule("otherwise", {"do": "refuse", "reason": "no rule of the policy allows this"}),
]
