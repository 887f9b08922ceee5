"""How rules and mandates read to people."""

import json
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from brokers.models import Instrument
from cerbero.decisions import why_not
from cerbero.models import User
from cerbero.people.profile import is_sole
from orders import policy, trading
from orders.models import Mandate
from orders.presentation import money

_NAMES = {
    "environments": "environment",
    "accounts": "account",
    "bots": "bot",
    "asset_classes": "asset class",
    "order_types": "order type",
    "effects": "effect on the position",
    "symbols": "instrument",
}


@dataclass(frozen=True)
class RuleText:
    """One rule in words."""

    name: str
    when: str
    then: str


def as_text(rules: list[policy.Rule]) -> list[RuleText]:
    return [RuleText(rule.name, _when(rule.when), _then(rule)) for rule in rules]


def as_json(rules: Any) -> str:
    """Rules as the form takes them: what is not said is left out."""
    return json.dumps(rules, indent=2)


@dataclass(frozen=True)
class MandateCard:
    """A mandate with what is left of it, as one person may act on it."""

    mandate: Mandate
    instruments: str
    state: str
    left: str
    orders_left: int
    is_open: bool
    must_be_signed: bool
    why_not: str
    signed: str


def used(mandate: Mandate, person: Any) -> MandateCard:
    symbols = Instrument.objects.filter(pk__in=mandate.instrument_ids).order_by("symbol")
    is_open, asked = mandate.status == Mandate.Status.PROPOSED, mandate.request
    why = why_not(asked, person) if is_open and asked is not None and isinstance(person, User) else ""
    yeses = asked.decisions.filter(is_yes=True).count() if asked is not None else 0
    return MandateCard(
        mandate=mandate,
        instruments=", ".join(symbols.values_list("symbol", flat=True)),
        state=_state(mandate),
        left=money(mandate.notional_max - mandate.used_notional, mandate.account.currency),
        orders_left=mandate.count_max - mandate.used_count,
        is_open=is_open,
        must_be_signed=trading.must_be_signed(mandate.account) or (asked is not None and is_sole(asked)),
        why_not=why,
        signed=f"{yeses} of {asked.quorum if asked else 0} signatures",
    )


def _state(mandate: Mandate) -> str:
    if mandate.status != Mandate.Status.ACTIVE:
        return mandate.status
    if mandate.expires_at <= timezone.now():
        return "expired"
    is_spent = mandate.used_count >= mandate.count_max or mandate.used_notional >= mandate.notional_max
    return "exhausted" if is_spent else "active"


def _when(when: policy.When) -> str:
    said = [
        f"{label} {' or '.join(getattr(when, name))}" for name, label in _NAMES.items() if getattr(when, name)
    ]
    if when.symbols_not:
        said.append(f"instrument not {' nor '.join(when.symbols_not)}")
    if when.notional_min is not None:
        said.append(f"value from {when.notional_min:,f}")
    if when.notional_max is not None:
        said.append(f"value up to {when.notional_max:,f}")
    if when.hours is not None:
        days = "".join("MTWTFSS"[day - 1] for day in sorted(when.hours.days))
        said.append(f"{when.hours.begin}–{when.hours.end} {when.hours.zone} on {days}")
    return "; ".join(said) or "anything"


def _then(rule: policy.Rule) -> str:
    then = rule.then
    if isinstance(then, policy.People):
        within = f" within {then.seconds} s" if then.seconds else ""
        return f"{then.quorum} decision{'s' if then.quorum > 1 else ''} by {then.group}{within}"
    if isinstance(then, policy.Refuse):
        return f"refuse: {then.reason}"
    return (
        "pass under a mandate, else the next rule" if then.do == policy.MANDATE else "pass under the limits"
    )
