"""The rules alone: what the schema takes, and which rule a case meets. No database."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerbero.plain import loads
from orders import policy
from tests.rig import BASE_DIR

LAST = {"name": "last", "then": {"do": "refuse", "reason": "no"}}
PAPER = policy.Case(
    environment="paper",
    account="DU1",
    bot="scanner-alpha",
    asset_class="STK",
    order_type="limit",
    effect="opening",
    symbol="AAPL",
    notional=Decimal(1000),
    # A Friday, 10:00 in New York.
    at=datetime(2026, 11, 20, 15, 0, tzinfo=UTC),
)
LIVE = replace(PAPER, environment="live")
SHIPPED = policy.read_rules(policy.SHIPPED)


def first(rules, case=PAPER):
    return next(policy.requirements(policy.read_rules([*rules, LAST]), case))


@pytest.mark.parametrize(
    ("case", "rule", "outcome", "quorum"),
    [
        (PAPER, "paper-small", "allow", 0),
        (replace(PAPER, notional=Decimal("1000.01")), "paper-mandate", "mandate", 0),
        (LIVE, "live-small", "people", 1),
        (replace(LIVE, notional=Decimal(1)), "live-small", "people", 1),
        (replace(LIVE, notional=Decimal(25_000)), "live-small", "people", 1),
        (replace(LIVE, notional=Decimal("25000.01")), "live", "people", 2),
        (replace(PAPER, environment=""), "otherwise", "refuse", 0),
    ],
)
def test_the_shipped_policy(case, rule, outcome, quorum):
    needs = next(policy.requirements(SHIPPED, case))
    assert (needs.rule, needs.outcome, needs.quorum) == (rule, outcome, quorum)


def test_behind_the_mandate_on_paper_stands_one_person():
    needs = policy.first_people(SHIPPED, replace(PAPER, notional=Decimal(5000)))
    assert (needs.rule, needs.quorum, needs.group) == ("paper", 1, "Approver")


@pytest.mark.parametrize(
    ("when", "matches"),
    [
        ({}, True),
        ({"environments": ["live"]}, False),
        ({"accounts": ["DU1", "DU2"]}, True),
        ({"accounts": ["DU2"]}, False),
        ({"bots": ["scanner-alpha"]}, True),
        ({"bots": ["another"]}, False),
        ({"asset_classes": ["OPT"]}, False),
        ({"order_types": ["market"]}, False),
        ({"effects": ["opening", "short"]}, True),
        ({"effects": ["reducing"]}, False),
        ({"symbols": ["AAPL"]}, True),
        ({"symbols": ["MSFT"]}, False),
        ({"symbols_not": ["AAPL"]}, False),
        ({"symbols_not": ["MSFT"]}, True),
        ({"notional_min": "1000"}, True),
        ({"notional_min": "1000.01"}, False),
        ({"notional_max": "1000"}, True),
        ({"notional_max": "999.99"}, False),
        ({"hours": {"zone": "America/New_York", "begin": "09:30", "end": "16:00"}}, True),
        ({"hours": {"zone": "America/New_York", "begin": "10:01", "end": "16:00"}}, False),
        ({"hours": {"zone": "America/New_York", "begin": "09:30", "end": "10:00"}}, False),
        ({"hours": {"zone": "UTC", "days": [6, 7], "begin": "00:00", "end": "23:59"}}, False),
    ],
)
def test_each_condition(when, matches):
    rule = {"name": "it", "when": when, "then": {"do": "people", "quorum": 1}}
    assert first([rule]).rule == ("it" if matches else "last")


def test_the_first_match_decides():
    rules = [
        {"name": "one", "when": {"symbols": ["AAPL"]}, "then": {"do": "people", "quorum": 3}},
        {"name": "two", "then": {"do": "people", "quorum": 1}},
    ]
    assert (first(rules).rule, first(rules).quorum, first(rules).position) == ("one", 3, 1)


def test_a_value_that_cannot_be_computed_is_refused():
    needs = next(policy.requirements(SHIPPED, replace(PAPER, notional=None)))
    assert (needs.outcome, needs.reason) == ("refuse", "the order's value cannot be computed")


def _with(**changes):
    return {"name": "it", "then": {"do": "people", "quorum": 1}} | changes


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([], "at least 1"),
        ([_with()], "last rule must refuse"),
        ([_with(), LAST | {"when": {"symbols": ["AAPL"]}}], "last rule must refuse"),
        ([_with(), _with(), LAST], "a name stands twice: it"),
        ([_with(then={"do": "people", "quorum": 0}), LAST], "greater than or equal to 1"),
        ([_with(then={"do": "people", "quorum": 4}), LAST], "less than or equal to 3"),
        ([_with(then={"do": "people", "quorum": "1"}), LAST], "valid integer"),
        ([_with(then={"do": "wave through"}), LAST], "does not match any of the expected tags"),
        ([_with(when={"enviroments": ["paper"]}), LAST], "Extra inputs are not permitted"),
        ([_with(when={"environments": ["test"]}), LAST], "'paper' or 'live'"),
        ([_with(when={"symbols": []}), LAST], "at least 1 item"),
        ([_with(when={"notional_max": "NaN"}), LAST], "finite"),
        ([_with(when={"notional_max": "-1"}), LAST], "greater than or equal to 0"),
        ([_with(then={"do": "allow"}), LAST], "live needs people"),
        ([_with(then={"do": "allow"}, when={"environments": ["live"], "notional_max": "1"}), LAST], "live needs"),
        ([_with(then={"do": "allow"}, when={"environments": ["paper", "live"], "notional_max": "1"}), LAST], "live"),
        ([_with(then={"do": "allow"}, when={"environments": ["paper"]}), LAST], "needs a notional_max"),
        ([_with(when={"hours": {"zone": "Mars/Base", "begin": "01:00", "end": "02:00"}}), LAST], "zone must be"),
        ([_with(when={"hours": {"zone": "UTC", "begin": "02:00", "end": "01:00"}}), LAST], "begin must be before"),
    ],
)  # fmt: skip
def test_what_the_schema_refuses(rules, says):
    with pytest.raises(ValueError, match=says):
        policy.read_rules(rules)


def test_the_most_decisions_count_over_sizes_and_hours():
    day = {"zone": "UTC", "begin": "08:00", "end": "16:00"}
    rules = policy.read_rules(
        [
            {"name": "tiny", "when": {"notional_max": "10"}, "then": {"do": "people", "quorum": 3}},
            {"name": "day", "when": {"hours": day}, "then": {"do": "people", "quorum": 1}},
            {"name": "night", "then": {"do": "people", "quorum": 2}},
            LAST,
        ]
    )
    assert policy.strictest_people(rules, PAPER).rule == "tiny"
    assert policy.strictest_people(rules[1:], PAPER).rule == "night"
    assert policy.strictest_people(rules[-1:], PAPER) is None


@pytest.mark.parametrize(
    ("before", "side", "quantity", "effect"),
    [(0, "buy", 1, "opening"), (0, "sell", 1, "short"), (-3, "sell", 1, "short"), (5, "sell", 5, "reducing"),
     (5, "sell", 6, "flipping"), (-5, "buy", 5, "reducing"), (-5, "buy", 6, "flipping"), (5, "buy", 1, "opening")],
)  # fmt: skip
def test_the_effect_on_the_position(before, side, quantity, effect):
    assert policy.effect_of(Decimal(before), side, Decimal(quantity)) == effect


CASES = st.builds(
    policy.Case,
    environment=st.sampled_from(["paper", "live", ""]),
    account=st.sampled_from(["DU1", "U1"]),
    bot=st.sampled_from(["", "scanner-alpha"]),
    asset_class=st.sampled_from(["STK", "OPT", "FUT"]),
    order_type=st.sampled_from(["market", "limit"]),
    effect=st.sampled_from(["opening", "reducing", "flipping", "short"]),
    symbol=st.sampled_from(["AAPL", "MSFT"]),
    notional=st.none() | st.decimals(0, 10**9, places=2),
    at=st.datetimes(timezones=st.just(UTC)),
)


@given(CASES)
def test_nothing_live_ever_passes_the_shipped_policy_without_people(case):
    *asked, last = list(policy.requirements(SHIPPED, case))
    assert last.outcome == "refuse"
    if case.environment != "paper":
        assert {each.outcome for each in asked} <= {"people"}


def test_the_page_about_the_policy_names_what_ships():
    text = (BASE_DIR / "docs" / "policy.md").read_text()
    assert re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE) == [rule.name for rule in SHIPPED]
    example = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert policy.read_rules([loads(example[1].encode()), LAST])
