"""The pictures of docs/images, taken of the running console: `make pictures`. Two simulated brokers, one of them live."""

import dataclasses
import itertools
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from brokers.base import OrderType, Side, TimeInForce
from brokers.models import Account, Instrument, Login, Quote, Subscription
from cerbero.models import Bot
from orders import halting, mandates, services, trading
from orders.models import Balance, Limits, Order, Position, Ticket, TradingState, WhatIf
from orders.notices.duty import go_on_duty
from tests.browser.house import PASSWORD, House, clear_live, let_in, open_house
from tests.browser.pages import find, needs_chromium, sign_in, wait_until
from tests.orders import world
from tests.orders.world import World, until
from tests.people.desk import LiveDesk, confirmed_key
from tests.simulator_process import SimulatorProcess, start_simulator

pytestmark = needs_chromium
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
BOX = """
const { x, y, width, height } = document.querySelector(arguments[0]).getBoundingClientRect();
return { x: x - 16, y: y - 16, width: width + 32, height: height + 32 };
"""
WIDE, PHONE = (1280, 960), (390, 844)


@pytest.fixture
def simulators(tmp_path: Path) -> Iterator[tuple[SimulatorProcess, SimulatorProcess]]:
    live = start_simulator(tmp_path / "live", "--live")
    paper = start_simulator(tmp_path / "paper", "--seed", "11")
    yield live, paper
    for each in (live, paper):
        each.stop()


@dataclasses.dataclass
class Studio:
    """A browser in front of the console, and where its pictures go."""

    browser: Any
    house: House

    def open(self, path: str, *, size: tuple[int, int] = WIDE, theme: str = "light") -> None:
        """A page at this size, twice as sharp as it is wide; nothing flashes while it is drawn."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": size == PHONE}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        still = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", still)
        self.browser.execute_script("localStorage.setItem('theme', arguments[0])", theme)
        self.browser.get(self.house.url + path)

    def take(self, name: str, css: str = "") -> None:
        """What stands on the screen, or one element with a little room around it."""
        self.browser.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
        how: dict[str, Any] = {"format": "png"}
        if css:
            box = self.browser.execute_script(BOX, css)
            how |= {"clip": box | {"scale": 1}}
        shot = self.browser.execute_cdp_cmd("Page.captureScreenshot", how)
        (IMAGES / f"{name}.png").write_bytes(b64decode(shot["data"]))

    def wait(self, what: str, condition: Callable[[], Any]) -> None:
        wait_until(self.browser, what, lambda _: condition())


def test_the_console_is_pictured(
    simulators: Any, fresh_database: Any, redis_url: str, settings: Any, tmp_path: Path, browsers: Any
) -> None:
    with open_house(fresh_database, tmp_path, settings) as house:
        live = a_live_desk(simulators[0], fresh_database, house.url)
        paper = a_paper_desk(live.world, simulators[1])
        studio = Studio(browsers(house.trusted), house)
        sign_in(studio.browser, house.url, "bob", PASSWORD)
        a_days_work(paper)
        picture_what_is_settled(studio, live.world)
        picture_the_queue(studio, live, paper)
        picture_a_halt(studio, paper)
        picture_a_dead_feed(studio)


def a_live_desk(sim: SimulatorProcess, database: Any, url: str) -> LiveDesk:
    """Live trading cleared, keys confirmed a day ago, everybody an approver, bob on duty."""
    floor = world.connect(sim, environment="live")
    erin, _ = clear_live(floor.account)
    keys = {name: confirmed_key(user, erin, origin=url) for name, user in floor.people.items()}
    for group in Group.objects.filter(name__in=("Operator", "Approver")):
        group.user_set.add(*floor.people.values())
    Group.objects.get(name="Administrator").user_set.add(floor.people["carol"])
    desk = LiveDesk(floor, keys, database)
    desk.a_day_later()
    with desk.as_owner("people_announcement") as connection:
        connection.execute("UPDATE people_announcement SET created_at = now() - interval '2 days'")
    let_in(floor.people["bob"])
    go_on_duty(actor=floor.person("bob"), hours=8)
    watch(floor.login, "MSFT", "AMZN")
    return desk


def a_paper_desk(beside: World, sim: SimulatorProcess) -> World:
    """A second login with a bot of its own."""
    login = world.login_at(sim, "desk-2", "paper")
    world.open_session(login)
    name = sim.credentials["accounts"][0]
    account, _ = Account.objects.get_or_create(login=login, broker_account_id=name)
    Limits.objects.get_or_create(account=account)
    Account.objects.filter(pk=account.pk).update(allowed_question_ids=["o10331"])
    hedger = Bot.objects.create(name="hedger", owner=beside.people["alice"], environment="paper")
    trading.ensure_states(account, hedger)
    watch(login, "NVDA", "IBM", "SPY")
    account.refresh_from_db()
    return dataclasses.replace(
        beside, bot=hedger, login=login, account=account, sim=sim, keys=itertools.count(1)
    )


def watch(login: Login, *symbols: str) -> None:
    for symbol in symbols:
        instrument = Instrument.objects.create(symbol=symbol, is_allowed=True)
        Subscription.objects.create(login=login, instrument=instrument)


def near(symbol: str, percent: str = "0") -> Decimal:
    """The ask, so many percent away from it."""
    quote = until(lambda: Quote.objects.filter(instrument__symbol=symbol).exclude(ask=None).first(), 30)
    return (quote.ask * (1 + Decimal(percent) / 100)).quantize(Decimal("0.01"), ROUND_DOWN)


def propose(floor: World, symbol: str, quantity: int, reason: str, **terms: Any) -> Ticket:
    fields = {"symbol": symbol, "quantity": Decimal(quantity), "reason": reason, **terms}
    actor = dataclasses.replace(floor.scanner, tag="prod-2")
    return services.place_order(actor=actor, proposal=floor.proposal(**fields))


def stop_below(symbol: str) -> dict[str, Any]:
    below = {"side": Side.SELL, "order_type": OrderType.STOP, "time_in_force": TimeInForce.GTC}
    return below | {"limit_price": None, "stop_price": near(symbol, "-2")}


def a_days_work(paper: World) -> None:
    """Orders that filled, one that was rejected, a mandate that is being used, and what rests."""
    until(lambda: Balance.objects.filter(account=paper.account).exclude(net_liquidation=None).exists(), 30)
    for symbol, quantity in (("NVDA", 180), ("IBM", 60)):
        reason = "Rebalancing to the target weight."
        ticket = propose(paper, symbol, quantity, reason, limit_price=near(symbol, "0.5"))
        paper.decide(ticket)
        until(lambda ticket=ticket: paper.order(ticket).status == "filled", 30)
    ticket = propose(paper, "IBM", 90, "Momentum.", limit_price=near("IBM"))
    paper.decide(ticket, is_yes=False, reason="Twice today already.")
    until(lambda: Position.objects.filter(account=paper.account, quantity__gt=0).count() == 2, 60)
    give_mandate(paper, "SPY", "Accumulate the index over the week.", notional=60_000, each=8_000, count=12)
    give_mandate(
        paper, "IBM", "Trim the position into strength.", notional=20_000, each=5_000, count=8, signed=False
    )
    for quantity in (9, 8, 10):
        propose(paper, "SPY", quantity, "Next slice.", limit_price=near("SPY", "0.4"))
    for percent in ("-0.8", "-1.2", "-1.6", "-2"):
        propose(paper, "SPY", 6, "Bid below the market.", limit_price=near("SPY", percent))
    paper.decide(propose(paper, "NVDA", 60, "Protects a third of it.", **stop_below("NVDA")))
    until(lambda: resting(paper) >= 5, 30)


def resting(floor: World) -> int:
    return Order.objects.filter(ticket__account=floor.account, status="accepted").count()


def give_mandate(
    floor: World, symbol: str, reason: str, *, notional: int, each: int, count: int, signed: bool = True
) -> None:
    terms = mandates.Terms(
        account=floor.account,
        bot=floor.bot,
        instruments=(Instrument.objects.get(symbol=symbol),),
        sides=(Side.BUY,) if signed else (Side.SELL,),
        order_types=(OrderType.LIMIT,),
        order_notional_max=Decimal(each),
        notional_max=Decimal(notional),
        count_max=count,
        expires_at=timezone.now() + timedelta(days=4),
        hours={},
        reason=reason,
    )
    mandate = mandates.propose_mandate(actor=floor.person("carol"), terms=terms)
    if signed:
        mandates.decide_mandate(
            actor=floor.person("bob"), mandate_id=mandate.pk, digest=mandate.digest, is_yes=True
        )


def what_waits(live: LiveDesk, paper: World) -> dict[str, Ticket]:
    """Two live tickets, one of them half decided, and a stop order of which the broker warns."""
    floor = live.world
    twin = propose(floor, "AAPL", 200, "Breakout.", limit_price=near("AAPL"))
    floor.decide(twin, "carol", is_yes=False, reason="Wait for the volume to confirm it.")
    reason = "Breakout above the 20-day range on 1.8x volume; adding to the position."
    first = propose(floor, "AAPL", 300, reason, limit_price=near("AAPL"))
    live.sign(first, "carol")
    reason = "Stop below yesterday's low."
    stop = propose(paper, "NVDA", 90, reason, **stop_below("NVDA"))
    small = propose(floor, "MSFT", 40, "Scaling in on the pullback.", limit_price=near("MSFT", "-0.2"))
    until(
        lambda: WhatIf.objects.exclude(answered_at=None).filter(ticket__in=[first, stop, small]).count() == 3,
        60,
    )
    return {"first": first, "stop": stop, "small": small}


def picture_what_is_settled(studio: Studio, live: World) -> None:
    asked = {
        "account": live.account.pk,
        "bot": live.bot.pk,
        "instrument": live.aapl.pk,
        "order_type": "limit",
        "effect": "opening",
        "notional": 38000,
    }
    studio.open(f"/admin/policy/simulate/?{urlencode(asked)}")
    studio.take("policy-simulator")
    studio.open("/admin/mandates/")
    studio.take("mandates")
    studio.open("/live/")
    studio.take("live")


def picture_the_queue(studio: Studio, live: LiveDesk, paper: World) -> None:
    tickets = what_waits(live, paper)
    card = f"#t-{tickets['first'].pk}"
    for name, size, theme in (
        ("queue-light", WIDE, "light"),
        ("queue-dark", WIDE, "dark"),
        ("queue-phone", PHONE, "light"),
    ):
        studio.open("/admin/queue/", size=size, theme=theme)
        button = find(studio.browser, f"{card} button.go")
        studio.wait("approving stayed off", button.is_enabled)
        studio.take(name)
    studio.open("/admin/queue/")
    studio.wait("approving stayed off", find(studio.browser, f"{card} button.go").is_enabled)
    studio.take("card-live", card)


def picture_a_halt(studio: Studio, paper: World) -> None:
    here = {"scope": TradingState.Scope.ACCOUNT, "scope_id": str(paper.account.pk)}
    halting.halt_trading(actor=paper.person("alice"), **here, reason="Monthly drill", is_drill=True)
    studio.open("/admin/halt/")
    find(studio.browser, f"#scope option[value='{':'.join(here.values())}']").click()
    find(studio.browser, "#reason").send_keys("Fills look wrong; looking into the hedger")
    find(studio.browser, "form .btn.bad.filled").click()
    find(studio.browser, "main table.rows")
    studio.wait("the halt was not proven", lambda: "going on" not in find(studio.browser, "main").text)
    studio.take("halt")
    studio.open("/admin/halts/")
    studio.take("halts")
    trading.resume_trading(actor=paper.person("bob"), **here, reason="Looked into.")


def picture_a_dead_feed(studio: Studio) -> None:
    studio.house.supervisor.stop(["relay"])
    studio.open("/admin/queue/")
    note = ".ticket .feed-note"
    studio.wait("the feed did not die", lambda: find(studio.browser, note).is_displayed())
    studio.take("queue-stale")
