"""Every limit refuses at its edge, by real rows: what is at the limit passes, what is beyond it does not."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from audit.models import Entry
from brokers.base import OrderType, Side
from brokers.models import BrokerInstrument, Instrument, Quote
from cerbero.errors import FiguresMissing, RiskRefused, TradingHalted
from orders import breaches, services, trading
from orders.limit_report import accounts_of, report
from orders.limit_table import default_asset_classes
from orders.models import (
    Amendment,
    Balance,
    ChangeAttempt,
    CurrencyRate,
    Limits,
    LimitSet,
    Order,
    Position,
    Ticket,
    TradingState,
)
from orders.notices.models import Delivery, Webhook
from orders.trading_day import day_of, start_of
from tests.orders.world import put_order

D = Decimal
NOW = timedelta()


def refused(desk, **changes) -> set[str]:
    """The codes of the limits that refuse this order."""
    with pytest.raises(RiskRefused) as refusal:
        desk.place(**changes)
    checks = refusal.value.details["checks"]
    assert all(check["limit"] and check["value"] for check in checks), "a refusal names limit and value"
    return {check["code"] for check in checks}


def passes(desk, **changes) -> bool:
    """Whether the limits let it through, to people or, by the policy, to the broker."""
    return desk.place(**changes).status in {"proposed", "allowed"}


def hold(desk, quantity: str, value: str | None, **changes) -> Position:
    fields = {"symbol": "AAPL", "instrument": desk.aapl, "currency": "USD", "asset_class": "STK"}
    fields |= {"quantity": D(quantity), "market_value": D(value) if value else None, "as_of": timezone.now()}
    return Position.objects.create(
        account=desk.account,
        broker_instrument_id=changes.pop("broker_instrument_id", "1"),
        **fields | changes,
    )


def narrow(**limits) -> None:
    Limits.objects.update(**limits)


def test_the_position_after_the_order_counts_what_works_and_what_is_in_doubt(desk):
    narrow(position_max=D(30))
    hold(desk, "5", "950")
    put_order(desk, quantity=D(10), status="accepted")
    put_order(desk, quantity=D(5), status="submitted")
    assert passes(desk, quantity=D(10))
    assert refused(desk, quantity=D(11)) == {"position_max"}


def test_what_ended_unfilled_counts_no_more_and_a_fill_counts_until_positions_are_read(desk):
    narrow(position_max=D(20))
    put_order(desk, quantity=D(15), status="canceled")
    assert passes(desk, quantity=D(20))
    put_order(desk, quantity=D(15), status="filled", filled_quantity=D(15), filled_at=timezone.now())
    assert refused(desk, quantity=D(6)) == {"position_max"}
    Balance.objects.update(as_of=timezone.now())
    assert passes(desk, quantity=D(6)), "the next reading holds it"


def test_gross_exposure_adds_positions_working_orders_and_the_order(desk):
    # 100,000 held elsewhere + 1,900 working + 1,900 of this order.
    hold(desk, "-10", "-100000", symbol="OTHER", instrument=None)
    put_order(desk, quantity=D(10), status="accepted", notional=D(1900))
    narrow(gross_exposure_max=D(103_800), leverage_max=D(100))
    assert passes(desk)
    narrow(gross_exposure_max=D("103799.99"))
    assert refused(desk) == {"gross_exposure_max"}


def test_an_order_that_hedges_counts_the_worst_of_what_may_be_filled(desk):
    hold(desk, "100", "19000")
    narrow(gross_exposure_max=D(19_000))
    assert passes(desk, side=Side.SELL), "a sale of what is held adds nothing"
    assert refused(desk) == {"gross_exposure_max"}


def test_leverage_is_gross_exposure_over_net_liquidation(desk):
    Balance.objects.update(net_liquidation=D(950), day_start=D(950))
    assert passes(desk)
    assert refused(desk, quantity=D(11)) == {"leverage_max"}


@pytest.mark.parametrize("lacking", ["value", "rate", "net"])
def test_exposure_that_cannot_be_computed_refuses(desk, lacking):
    if lacking == "value":
        hold(desk, "10", None, symbol="ODD", instrument=None)
    elif lacking == "rate":
        hold(desk, "10", "100", symbol="SAP", instrument=None, currency="EUR")
    else:
        Balance.objects.update(net_liquidation=None)
    assert "leverage_max" in refused(desk)


def test_an_option_that_is_held_counts_by_what_it_is_written_on(desk):
    put = Instrument.objects.create(
        symbol="AAPL P", asset_class="OPT", multiplier=100, underlying=desk.aapl, strike=D(180)
    )
    # −2 × 100 × 190.02 = 38,004, whatever the premium is worth.
    hold(desk, "-2", "-400", instrument=put, symbol="AAPL P")
    narrow(gross_exposure_max=D(39_904))
    assert passes(desk)
    narrow(gross_exposure_max=D("39903.99"))
    assert refused(desk) == {"gross_exposure_max"}
    desk.quote("189.98", "190.02")
    Instrument.objects.filter(pk=put.pk).update(underlying=None)
    assert "gross_exposure_max" in refused(desk), "without the underlying's price nothing is known"


@pytest.mark.parametrize(
    ("held", "side", "quantity", "rule"),
    [
        ("0", "buy", 10, "allows_opening"),
        ("10", "sell", 10, "allows_reducing"),
        ("-10", "buy", 10, "allows_reducing"),
        ("-10", "buy", 11, "allows_flipping"),
        ("0", "sell", 1, "allows_short_sale"),
        ("-10", "sell", 1, "allows_short_sale"),
    ],
)
def test_each_effect_on_the_position_has_its_own_rule(desk, held, side, quantity, rule):
    every = ("allows_opening", "allows_reducing", "allows_flipping", "allows_short_sale")
    if D(held):
        hold(desk, held, str(D(held) * 190))
    narrow(**dict.fromkeys(every, True) | {rule: False})
    assert refused(desk, side=Side(side), quantity=D(quantity)) == {rule}
    narrow(**dict.fromkeys(every, False) | {rule: True})
    assert passes(desk, side=Side(side), quantity=D(quantity))


def test_by_default_nothing_is_sold_short_even_by_two_sales_of_one_holding(desk):
    narrow(allows_short_sale=Limits().allows_short_sale)
    hold(desk, "10", "1900")
    put_order(desk, side="sell", quantity=D(6), limit_price=D(191), status="accepted")
    assert passes(desk, side=Side.SELL, quantity=D(4))
    codes = refused(desk, side=Side.SELL, quantity=D(5))
    assert codes <= {"allows_flipping", "allows_short_sale"}
    assert codes


def test_a_future_is_sold_to_open_without_being_a_short_sale(desk):
    future = Instrument.objects.create(
        symbol="ES", asset_class="FUT", multiplier=50, price_increment=D("0.25"), is_allowed=True
    )
    BrokerInstrument.objects.create(instrument=future, broker="ibkr", broker_instrument_id="9")
    now = timezone.now()
    Quote.objects.create(
        instrument=future, bid=100, ask=101, last=100, availability="live", received_at=now, changed_at=now
    )
    order = {"symbol": "ES", "side": Side.SELL, "quantity": D(1), "limit_price": D("100.50")}
    narrow(asset_classes=default_asset_classes())
    assert refused(desk, **order) == {"asset_classes"}, "futures are not among the default classes"
    narrow(asset_classes=["STK", "FUT"])
    assert desk.place(**order).notional == D(5025)


def test_an_order_that_would_meet_our_own_is_refused(desk):
    hold(desk, "50", "9500")
    put_order(desk, side="sell", quantity=D(5), limit_price=D("190.01"), status="accepted")
    assert passes(desk, limit_price=D("190.00"))
    assert refused(desk, limit_price=D("190.01")) == {"self_trade"}
    assert refused(desk, order_type=OrderType.MARKET, limit_price=None) == {"self_trade"}


def test_the_broker_takes_so_many_working_orders_of_one_side(desk):
    narrow(working_orders_per_side_max=15)
    for _ in range(14):
        put_order(desk, quantity=D(1), status="accepted")
    put_order(desk, side="sell", quantity=D(1), limit_price=D(195), status="accepted")
    assert passes(desk, quantity=D(1))
    put_order(desk, quantity=D(1), status="submitted")
    assert refused(desk, quantity=D(1)) == {"working_orders_per_side_max"}


@pytest.mark.parametrize(
    ("figures", "code"),
    [
        ({"cushion": D("0.0999")}, "cushion_min"),
        ({"look_ahead_excess": D("-0.01")}, "look_ahead_excess_min"),
        ({"day_trades_left": 0}, "day_trades_left_min"),
    ],
)
def test_what_the_broker_gives_of_margin_and_day_trades_refuses(desk, figures, code):
    Balance.objects.update(**figures)
    assert refused(desk) == {code}
    Balance.objects.update(cushion=D("0.1"), look_ahead_excess=D(0), day_trades_left=-1)
    assert passes(desk)


def test_figures_that_are_old_or_missing_keep_nothing_and_may_be_asked_again(desk):
    Balance.objects.update(as_of=timezone.now() - timedelta(seconds=301))
    with pytest.raises(FiguresMissing) as refusal:
        desk.place(idempotency_key="one")
    assert refusal.value.retryable
    Balance.objects.all().delete()
    with pytest.raises(FiguresMissing):
        desk.place(idempotency_key="one")
    assert not Ticket.objects.exists()


def test_the_collar_over_a_period_holds_a_price_that_walks(desk):
    desk.place()
    desk.quote("205.00", "205.02")
    assert passes(desk, limit_price=D("205.00"))
    desk.quote("210.00", "210.02")
    assert refused(desk, limit_price=D("210.00")) == {"collar_period_percent"}
    Order.objects.update(created_at=timezone.now() - timedelta(seconds=3601))
    assert passes(desk, limit_price=D("210.00"))


def test_orders_and_messages_a_minute_are_counted_from_our_rows(desk):
    narrow(orders_per_minute_max=3)
    for _ in range(2):
        put_order(desk, status="filled", sent_ago=NOW)
    assert passes(desk)
    put_order(desk, status="filled", sent_ago=NOW)
    assert refused(desk) == {"orders_per_minute_max"}


def test_what_was_sent_more_than_a_minute_ago_is_no_rate_and_a_cancel_is_a_message(desk):
    narrow(orders_per_minute_max=1, messages_per_minute_max=2)
    put_order(desk, status="filled", sent_ago=timedelta(seconds=61))
    put_order(desk, status="canceled", cancel_requested_at=timezone.now())
    assert passes(desk)
    put_order(desk, status="canceled", cancel_requested_at=timezone.now())
    assert refused(desk) == {"messages_per_minute_max"}


def test_an_amendment_is_a_message_too(desk):
    order = put_order(desk)
    was = {"was_quantity": 10, "was_limit_price": 100, "filled_quantity": 0, "limit_price": 100}
    terms = {"order": order, "digest": "d" * 64}
    amendment = Amendment.objects.create(quantity=9, tightens=True, status="allowed", **terms, **was)
    narrow(messages_per_minute_max=2)
    assert passes(desk)
    sent = {"kind": "amend", "account": desk.account, "broker_order_id": "17", "asked_by": "orders"}
    ChangeAttempt.objects.create(amendment=amendment, **terms, **sent)
    assert passes(desk)
    put_order(desk, status="filled", sent_ago=NOW)
    assert refused(desk) == {"messages_per_minute_max"}


def test_each_set_counts_its_own_scope_and_the_strictest_wins(desk):
    LimitSet.objects.create(bot=desk.bot, orders_per_minute_max=2)
    put_order(desk, status="filled", sent_ago=NOW)
    put_order(desk, status="filled", sent_ago=NOW, person=desk.people["bob"])
    assert passes(desk), "the other one was not the bot's"
    put_order(desk, status="filled", sent_ago=NOW)
    assert refused(desk) == {"orders_per_minute_max"}
    assert services.place_order(actor=desk.person("bob"), proposal=desk.proposal()).status == "proposed"
    LimitSet.objects.create(broker="ibkr", orders_per_minute_max=3)
    with pytest.raises(RiskRefused):
        services.place_order(actor=desk.person("bob"), proposal=desk.proposal())


@pytest.mark.parametrize("scope", ["bot", "account", "asset class", "broker", "bot and account"])
def test_a_set_of_any_scope_tightens_and_none_loosens(desk, scope):
    named = {
        "bot": {"bot": desk.bot},
        "account": {"account": desk.account},
        "asset class": {"account": desk.account, "asset_class": "STK"},
        "broker": {"broker": "ibkr"},
        "bot and account": {"bot": desk.bot, "account": desk.account},
    }[scope]
    LimitSet.objects.create(**named, quantity_max=D(9))
    assert refused(desk) == {"quantity_max"}
    LimitSet.objects.update(quantity_max=D(10**6))
    assert refused(desk, quantity=D(10_001), limit_price=D("190.00")) >= {"quantity_max"}


def test_a_set_of_another_scope_says_nothing(desk):
    LimitSet.objects.create(account=desk.account, asset_class="FUT", quantity_max=D(1))
    LimitSet.objects.create(broker="another", quantity_max=D(1))
    assert passes(desk)


@pytest.mark.parametrize(
    ("allowed", "code"),
    [
        ({"symbols": ["SPY"]}, "symbols"),
        ({"accounts": ["DU0000001"]}, "accounts"),
        ({"asset_classes": ["ETF"]}, "asset_classes"),
        ({"order_types": ["market"]}, "order_types"),
        ({"opens_at": time(0), "closes_at": time(0)}, "hours"),
    ],
)
def test_a_bots_lists_are_held(desk, allowed, code):
    LimitSet.objects.create(bot=desk.bot, **allowed)
    assert refused(desk) == {code}


def test_daily_turnover_and_count_are_what_was_sent_today(desk):
    narrow(daily_turnover_max=D(3_800), daily_orders_max=2)
    put_order(desk, status="filled", filled_quantity=D(10), notional=D(1900), sent_ago=NOW)
    put_order(desk, status="canceled", notional=D(5000), sent_ago=NOW)
    narrow(daily_orders_max=3)
    assert passes(desk), "what was canceled unfilled turned nothing over"
    narrow(daily_turnover_max=D("3799.99"), daily_orders_max=2)
    assert refused(desk) == {"daily_turnover_max", "daily_orders_max"}


def test_what_was_sent_on_another_trading_day_counts_no_more(desk):
    narrow(daily_turnover_max=D(1_900), daily_orders_max=1)
    put_order(desk, status="filled", filled_quantity=D(10), notional=D(9000), sent_ago=timedelta(days=1))
    assert passes(desk)


def test_turnover_of_an_unknown_value_refuses(desk):
    put_order(desk, status="filled", filled_quantity=D(10), notional=None, sent_ago=NOW)
    assert refused(desk) == {"daily_turnover_max"}


def test_reaching_the_daily_loss_refuses_and_moves_the_account_to_reducing(desk):
    Balance.objects.update(net_liquidation=D("995000.01"))
    assert passes(desk)
    look(desk)
    assert trading.worst_state(desk.account, None) == "active"
    Balance.objects.update(net_liquidation=D(995_000))
    assert refused(desk) == {"daily_loss_max"}
    Webhook.objects.create(name="desk", host="x", sealed_url=b"", sealed_secret=b"", events=["alert.raised"])
    look(desk)
    row = TradingState.objects.get(scope=TradingState.Scope.ACCOUNT)
    assert (row.state, row.changed_by) == ("reducing", "limits")
    assert "may only reduce: a limit is reached" in Delivery.objects.get().subject
    assert "daily loss 5,000" in row.reason
    assert Entry.objects.get(event="trading.reduced").details["account"] == str(desk.account)
    with pytest.raises(TradingHalted):
        desk.place()
    look(desk)
    assert Entry.objects.filter(event="trading.reduced").count() == 1


def test_a_daily_limit_never_loosens_a_halt(desk):
    TradingState.objects.filter(scope=TradingState.Scope.ACCOUNT).update(state="halted")
    Balance.objects.update(net_liquidation=D(1))
    look(desk)
    assert TradingState.objects.get(scope=TradingState.Scope.ACCOUNT).state == "halted"


def look(desk) -> None:
    breaches.watch_day(type(desk.account).objects.get(pk=desk.account.pk))


def test_the_trading_day_is_the_accounts_own(desk):
    roll = time(17)
    before = datetime(2026, 3, 9, 20, 59, tzinfo=UTC)
    assert str(day_of(before, "America/New_York", roll)) == "2026-03-08"
    after = before + timedelta(minutes=1)
    assert str(day_of(after, "America/New_York", roll)) == "2026-03-09"
    assert start_of(after, "America/New_York", roll).astimezone(UTC) == after
    # In winter New York is an hour further away.
    winter = datetime(2026, 1, 9, 22, 0, tzinfo=UTC)
    assert start_of(winter, "America/New_York", roll).astimezone(UTC) == winter


def test_a_bot_that_repeats_itself_is_halted_until_a_person_resumes_it(desk):
    narrow(repeats_max=10)
    for _ in range(10):
        desk.place()
    desk.place(quantity=D(11))
    assert refused(desk) == {"repeats_max"}
    row = TradingState.objects.get(scope=TradingState.Scope.BOT)
    assert (row.state, row.changed_by) == ("halted", "limits")
    halted = Entry.objects.get(event="trading.halted")
    assert halted.details["ticket"] == str(Ticket.objects.get(status="denied").pk)
    with pytest.raises(TradingHalted):
        desk.place(quantity=D(12))
    trading.resume_trading(
        actor=desk.person("bob"), scope="4-bot", scope_id=str(desk.bot.pk), reason="looked at it"
    )
    assert passes(desk, quantity=D(12))


def test_repetition_is_forgotten_after_the_window(desk):
    narrow(repeats_max=2)
    for _ in range(2):
        desk.place()
    Order.objects.update(created_at=timezone.now() - timedelta(seconds=61))
    assert passes(desk)


def test_the_approval_screen_is_told_of_look_alikes(desk):
    first = desk.place(quantity=D(3))
    desk.place(quantity=D(4), limit_price=D("189.50"))
    hold(desk, "50", "9500")
    desk.place(side=Side.SELL)
    told = desk.place(quantity=D(12)).request.facts["look_alikes"]
    assert [row["quantity"] for row in told] == ["4", "3"]
    assert told[1]["order_id"] == str(desk.order(first).pk)
    assert (told[0]["limit_price"], told[0]["proposer"]) == ("189.5", "scanner-alpha")
    Order.objects.update(created_at=timezone.now() - timedelta(minutes=61))
    assert desk.place().request.facts["look_alikes"] == []


def test_a_stored_rate_converts_and_an_old_one_refuses(desk):
    Instrument.objects.update(currency="EUR")
    rate = CurrencyRate.objects.create(
        broker="ibkr", source="EUR", target="USD", rate=D("1.1654"), as_of=timezone.now()
    )
    ticket = desk.place()
    assert (ticket.notional, ticket.notional_currency) == (D("2214.26"), "USD")
    rate.as_of = timezone.now() - timedelta(seconds=3601)
    rate.save()
    assert "rate_age_max_seconds" in refused(desk)


def test_a_bot_is_told_what_is_left(desk):
    hold(desk, "5", "950")
    put_order(desk, quantity=D(10), status="accepted", notional=D(1900), sent_ago=NOW)
    Balance.objects.update(net_liquidation=D(998_000))
    LimitSet.objects.create(bot=desk.bot, daily_orders_max=4)
    (account,) = accounts_of(desk.scanner, None)
    told = report(desk.scanner, account, "aapl")
    rows = {(row.name, row.scope): (row.limit, row.value, row.left) for row in told.rows}
    assert rows["daily_loss_max", "strictest"] == ("5000", D(2000), D(3000))
    assert rows["position_max", "strictest"] == ("20000", D(15), D(19_985))
    assert rows["gross_exposure_max", "the account"] == ("1000000", D(2850), D(997_150))
    assert rows["daily_orders_max", "the bot"] == ("4", D(1), D(3))
    assert rows["daily_orders_max", "the account"] == ("10000", D(1), D(9_999))
    assert rows["notional_max", "strictest"] == ("100000", None, None)
    LimitSet.objects.update(accounts=["DU0000001"])
    assert accounts_of(desk.scanner, None) == []
