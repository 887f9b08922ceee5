"""The simulator's heart: every part of one login, put together, and its background work."""

import asyncio
import contextlib
import fcntl
import logging
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO

from aiohttp import web

from .accounting import BASE, Account
from .book import OrderBook, World
from .config import Config
from .credentials import Registrations
from .door import Door
from .exchange import DAY_ENDS, NEW_YORK, RESET, Clock, between
from .expiring import settlements
from .faults import Faults
from .gateway import GatewayLogin
from .hub import Hub
from .market import Market
from .pacing import Nonces, Pacer
from .placing import Placing
from .sessions import BrokerageSession, TokenRing
from .store import Store
from .universe import Universe

logger = logging.getLogger("brokers.simulator")
OPENING_CASH = (Decimal(1_000_000), Decimal(250_000))
SAVE_PRICES_SECONDS = 5.0


class StateInUse(Exception):
    """Another simulator runs on the same state directory."""


class Simulator:
    """One login at the broker: its keys, sessions, market, book, accounts, faults and streams."""

    def __init__(self, state_dir: Path, *, live: bool = False, seed: int = 7):
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock, self.state_dir = _lock(state_dir), state_dir
        self.origins: list[str] = []
        self.config, self.faults, self.door = Config(), Faults(), Door()
        self.nonces, self.pacer = Nonces(self.config), Pacer(self.config)
        self.registrations = Registrations(state_dir, live=live)
        self.store = Store(state_dir / "state.db")
        self.tokens = TokenRing(self.store)
        self.session = BrokerageSession(self.registrations.accounts[0])
        self.universe = Universe(datetime.now(UTC).date(), self._first_trade())
        mids = {int(conid): mid for conid, mid in self.store.fact("mids", {}).items()}
        self.clock = Clock()
        self.market = Market(self.universe, seed=seed, mids=mids, now=self.clock.now)
        self.day_began_ms: int = self.store.fact("day_began_ms", 0)
        # Older resting orders are known by their id alone (§6.8: the list is day-scoped).
        self.listed_from_ms: int = self.store.fact("listed_from_ms", 0)
        self.accounts = self._open_accounts()
        world = World(self.store, self.universe, self.market, self.accounts, self.config)
        self.book = OrderBook(world, seed=seed + self.store.fact("starts", 0))
        for adjustment in self.store.fact("adjustments", []):
            self._apply(**adjustment)
        for name, begun in self.store.fact("position_starts", {}).items():
            for conid, held in self.accounts[name].positions.items():
                held.day_start = Decimal(begun.get(str(conid), 0))
        self.store.save(facts={"starts": self.store.fact("starts", 0) + 1})
        self.gateway = GatewayLogin(self.store, self.clock)
        self._passed = self.clock.now()
        self.placing = Placing(self.book, self.session)
        self.hub = Hub(self)
        self.book.on_order, self.book.on_execution = self.hub.on_order, self.hub.on_execution

    def _first_trade(self) -> date | None:
        executions = self.store.executions()
        return datetime.fromtimestamp(executions[0]["executed_ms"] / 1000, UTC).date() if executions else None

    def _open_accounts(self) -> dict[str, Account]:
        starts = self.store.fact("day_starts", {})
        accounts = {}
        for account_id, cash in zip(self.registrations.accounts, OPENING_CASH, strict=True):
            start = Decimal(starts[account_id]) if account_id in starts else None
            accounts[account_id] = Account(account_id, cash, self.price_of, self.rate_of, day_start=start)
        return accounts

    def price_of(self, conid: int) -> Decimal:
        """What a holding is valued at: the middle of the market."""
        quote = self.market.quote(conid)
        return (quote.bid + quote.ask) / 2 if quote else Decimal(0)

    def rate_of(self, currency: str) -> Decimal:
        """Units of base per unit of a currency; nought for one that is not traded."""
        if currency == BASE:
            return Decimal(1)
        if pair := self.universe.pair(currency, BASE):
            return self.price_of(pair.conid)
        pair = self.universe.pair(BASE, currency)
        return 1 / self.price_of(pair.conid) if pair else Decimal(0)

    def adjust(self, *adjustments: dict[str, str]) -> None:
        """Change accounts beside their fills, as dividends, splits and transfers do; all at once, kept over restarts.

        Each has `account`, `conid` or `currency`, `amount` and `price`, all as text.
        """
        for adjustment in adjustments:
            self._apply(**adjustment)
        self.store.save(facts={"adjustments": [*self.store.fact("adjustments", []), *adjustments]})

    def expire(self, through: date) -> None:
        """End every contract that expired on that day or before: its orders, and what is held of it."""
        self.book.expire_contracts(through)
        found = [
            each
            for account in self.accounts.values()
            for each in settlements(account, through, self.price_of)
        ]
        if found:
            self.adjust(*found)

    def _apply(
        self, *, account: str, amount: str, conid: str = "", currency: str = BASE, price: str = "0"
    ) -> None:
        instrument = self.universe.find(int(conid)) if conid else None
        if conid and instrument is None:
            return  # It expired before anything was traded here.
        self.accounts[account].adjust(
            instrument=instrument,
            currency=currency,
            amount=Decimal(amount),
            price=Decimal(price),
        )

    def night_reset(self, *, expire_day_orders: bool = False, day_scoped: bool = False) -> None:
        """What happens around 01:00: the session ends, subscriptions die in silence, a new day begins (§2.3).

        With `day_scoped` what rests from before is in no list any more, and still asked for by its id.
        """
        if expire_day_orders:
            self.book.expire_day_orders()
        if day_scoped:
            self.listed_from_ms = int(datetime.now(UTC).timestamp() * 1000) + 1
        self.registrations.activate_all()
        self.session.roll_over()
        self.hub.forget_subscriptions()
        self.day_began_ms = int(datetime.now(UTC).timestamp() * 1000)
        for account in self.accounts.values():
            account.begin_day()
        facts = {
            "day_began_ms": self.day_began_ms,
            "listed_from_ms": self.listed_from_ms,
            "day_starts": {name: str(account.day_start) for name, account in self.accounts.items()},
            "position_starts": {
                name: {str(conid): str(held.day_start) for conid, held in account.positions.items()}
                for name, account in self.accounts.items()
            },
        }
        self.store.save(facts=facts)

    def pass_time(self) -> list[str]:
        """What the exchange's day brought since the last look; its names, in order."""
        now = self.clock.now()
        happened = list(between(self._passed, now))
        self._passed = now
        for at, name in happened:
            if name == RESET:
                self._begin_day(now)
            else:
                self.book.at(name)
            if name == DAY_ENDS:
                self.expire(at.astimezone(NEW_YORK).date())
        return [name for _, name in happened]

    def _begin_day(self, now: datetime) -> None:
        """New expiries are listed; and the broker resets, where it is told to do so by itself."""
        self.universe.roll(now.date())
        if self.config.nightly_reset:
            self.night_reset(day_scoped=self.config.day_scoped)

    async def run(self) -> None:
        """Move the market until cancelled."""
        self.book.resume()
        self.expire(self.clock.now().astimezone(NEW_YORK).date() - timedelta(days=1))
        elapsed = 0.0
        while True:
            await asyncio.sleep(self.config.tick_seconds)
            if not self.config.freeze:
                self.market.step(depth=self.config.depth)
            self.pass_time()
            self.book.on_tick()
            elapsed += self.config.tick_seconds
            if elapsed >= SAVE_PRICES_SECONDS:
                elapsed = 0.0
                self.save_prices()

    def save_prices(self) -> None:
        self.store.save(facts={"mids": self.market.mids()})

    def close(self) -> None:
        self.save_prices()
        self.store.close()
        self._lock.close()


SIM: web.AppKey[Simulator] = web.AppKey("simulator", Simulator)


def _lock(state_dir: Path) -> IO[str]:
    """Hold the state directory; two simulators on one would sell everything twice."""
    handle = (state_dir / "lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise StateInUse(f"another simulator is running on {state_dir}") from None
    return handle


async def background(app: web.Application):
    """The market's task, for as long as the application runs."""
    task = asyncio.create_task(app[SIM].run())
    task.add_done_callback(_report)
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception():
        logger.error("the market stopped", exc_info=task.exception())
