"""The order book: accepts, triggers, fills, cancels; every change is on disk before anyone hears of it."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from .accounting import Account, commission
from .answers import now_ms
from .config import Config
from .exchange import CLOSING, DAY_ENDS, NIGHT_ENDS, OPENING
from .market import Market, Quote, on_tick
from .orders import TOUCHES, TRIGGERED, Execution, Order
from .store import Store
from .universe import Universe

ID_LIFETIME_MS = 24 * 3600 * 1000
OrderListener = Callable[[Order, bool], None]
ExecutionListener = Callable[[Execution], None]


@dataclass
class World:
    """What the book works with."""

    store: Store
    universe: Universe
    market: Market
    accounts: dict[str, Account]
    config: Config


class OrderBook:
    """Every order ever accepted. `on_order(order, is_new)` and `on_execution` are told of each change."""

    def __init__(self, world: World, *, seed: int):
        self.world = world
        self._random = random.Random(seed)  # noqa: S311 - fill sizes and delays, not secrets
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self.on_order: OrderListener = lambda order, is_new: None
        self.on_execution: ExecutionListener = lambda execution: None
        self.orders = {o.order_id: o for o in map(Order.from_json, world.store.orders())}
        self.executions = [Execution.from_json(body) for body in world.store.executions()]
        self._working = {o.order_id: o for o in self.orders.values() if o.working}
        self._used_ids = {o.client_order_id: o.arrived_ms for o in self.orders.values() if o.client_order_id}
        self._last_id = max(self.orders, default=self._random.randrange(100_000_000, 900_000_000))
        for execution in self.executions:
            self._account_of(execution)

    def _account_of(self, execution: Execution) -> None:
        instrument = self.world.universe.find(execution.conid)
        if instrument is not None:
            self.world.accounts[execution.account].apply(execution, instrument)

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def shuffle(self, rows: list[dict[str, Any]]) -> None:
        """Any order, the same for the same seed."""
        self._random.shuffle(rows)

    def registered(self, client_order_id: str) -> bool:
        """Whether a client order id was used within 24 hours (§6.3)."""
        used_ms = self._used_ids.get(client_order_id)
        return used_ms is not None and used_ms >= now_ms() - ID_LIFETIME_MS

    def working(self, account: str | None = None) -> list[Order]:
        return [o for o in self._working.values() if account is None or o.account == account]

    # Acceptance

    def accept(self, orders: list[Order]) -> None:
        """Take orders on; they are durable when this returns."""
        for order in orders:
            waiting = order.parent_id is not None or order.order_type in TRIGGERED or order.auction
            order.move("PreSubmitted" if waiting else "Submitted")
            self.orders[order.order_id] = self._working[order.order_id] = order
            if order.client_order_id:
                self._used_ids[order.client_order_id] = order.arrived_ms
        self._save(orders)
        for order in orders:
            self.on_order(order, True)
            self._consider(order)

    def replace(self, changed: Order) -> None:
        """Put the amended terms of a working order in place of the old ones."""
        changed.modifications += 1
        self.orders[changed.order_id] = self._working[changed.order_id] = changed
        if changed.remaining == 0:
            self._close(changed, "Filled")
        self._save([changed])
        self.on_order(changed, True)
        self._consider(changed)

    def cancel(self, order: Order) -> None:
        """Acknowledge a cancel; `Cancelled` follows by itself, unless a fill wins."""
        if order.status == "PendingCancel":
            return
        order.move("PendingCancel")
        self._save([order])
        self.on_order(order, True)
        asyncio.get_running_loop().call_later(
            self.world.config.cancel_delay, self._finish_cancel, order.order_id
        )

    def expire_day_orders(self) -> None:
        """The end of the trading day: working DAY orders are cancelled."""
        self._cancel_now([o for o in self.working() if o.tif != "GTC"], "Expired at the end of the day")

    def expire_contracts(self, through: date) -> None:
        """Whatever still works on a contract that expired is cancelled."""
        ended = [o for o in self.working() if (expiry := self._expiry(o)) is not None and expiry <= through]
        self._cancel_now(ended, "Expired: the contract")

    def _expiry(self, order: Order) -> date | None:
        instrument = self.world.universe.find(order.conid)
        return instrument.expiry if instrument else None

    def at(self, happening: str) -> None:
        """An auction is held, or a day or a night ends."""
        if happening in (OPENING, CLOSING):
            self._auction(happening)
        ends = {"DAY", "IOC"} if happening == DAY_ENDS else {"OVT"} if happening == NIGHT_ENDS else set()
        self._cancel_now([o for o in self.working() if o.tif in ends], f"Expired: {happening}")

    def _auction(self, name: str) -> None:
        """One price for all; who asked for a better one gets nothing."""
        for order in [o for o in self.working() if o.auction == name and o.status != "PendingCancel"]:
            quote = self.world.market.quote(order.conid)
            limit = order.limit_price
            if self._waits(order) or quote is None or (limit and (quote.last - limit) * order.sign > 0):
                self._cancel_now([order], f"Expired: not filled at the {name}")
            else:
                self.fill(order, order.remaining, quote.last)

    def _finish_cancel(self, order_id: int) -> None:
        order = self._working.get(order_id)
        if order is not None:
            children = [o for o in self.working() if o.parent_id == order_id]
            self._cancel_now([order, *children], "Cancelled by user")

    def _cancel_now(self, orders: list[Order], reason: str) -> None:
        for order in orders:
            order.reason = reason
            self._close(order, "Cancelled")
        self._save(orders)
        for order in orders:
            self.on_order(order, False)

    def _close(self, order: Order, status: str) -> None:
        order.move(status)
        self._working.pop(order.order_id, None)
        timer = self._timers.pop(order.order_id, None)
        if timer is not None:
            timer.cancel()

    # Matching

    def on_tick(self) -> None:
        """Look at every working order after the market moved."""
        for order in list(self._working.values()):
            self._trigger(order)
            self._consider(order)

    def resume(self) -> None:
        """After a restart: finish the cancels that were under way."""
        for order in self.working():
            if order.status == "PendingCancel":
                self._finish_cancel(order.order_id)

    def _trigger(self, order: Order) -> None:
        quote = self.world.market.quote(order.conid)
        if quote is None or order.triggered or order.order_type not in TRIGGERED or self._waits(order):
            return
        if order.trailing is not None:
            self._trail(order, quote)
        if order.stop_price is None or not _touched(order, quote.last):
            return
        order.triggered = True
        order.move("Submitted")
        self._save([order])
        self.on_order(order, False)

    def _trail(self, order: Order, quote: Quote) -> None:
        distance = order.trailing or Decimal(0)
        if order.trailing_percent:
            distance = quote.last * distance / 100
        stop = on_tick(quote.last + order.sign * distance, quote.instrument.step_at(quote.last))
        closer = order.stop_price is None or (stop - order.stop_price) * order.sign < 0
        if closer:
            if order.limit_price is not None and order.stop_price is not None:
                order.limit_price += stop - order.stop_price
            order.stop_price = stop
            self._save([order])

    def _waits(self, order: Order) -> bool:
        parent = self.orders.get(order.parent_id or 0)
        return parent is not None and parent.status != "Filled"

    def _consider(self, order: Order) -> None:
        """Set a timer when an order could fill now."""
        config = self.world.config
        if order.order_id in self._timers or not order.live or config.fills == "never":
            return
        if config.fills == "partial" and order.filled:
            return
        if self._price(order) is None and order.tif != "IOC":
            return
        delay = 0.0 if config.fills == "immediate" else self._random.uniform(*config.fill_delay)
        timer = asyncio.get_running_loop().call_later(delay, self._fire, order.order_id)
        self._timers[order.order_id] = timer

    def _fire(self, order_id: int) -> None:
        self._timers.pop(order_id, None)
        order = self._working.get(order_id)
        if order is None or not order.live or self.world.config.fills == "never":
            return
        price = self._price(order)
        if price is not None:
            self.fill(order, self._part(order), price)
        if order.working and order.tif == "IOC":
            self._cancel_now([order], "The unfilled part of an IOC order")
        elif order.working:
            self._consider(order)

    def _part(self, order: Order) -> Decimal:
        """How much fills at once: within the depth of the book, in one part or several."""
        config, remaining = self.world.config, order.remaining
        if config.fills == "partial":
            return min(max(Decimal(int(remaining / 2)), Decimal(1)), remaining)
        if config.fills == "immediate":
            return remaining
        shown = min(remaining, Decimal(max(config.depth, 1)))
        if shown > 10 and self._random.random() < 0.4:
            return Decimal(self._random.randint(int(shown / 3), int(shown)))
        return shown

    def _price(self, order: Order) -> Decimal | None:
        """The price at which an order would fill now; None when it would not."""
        quote = self.world.market.quote(order.conid)
        if quote is None or order.conid in self.world.config.no_data_conids:
            return None
        touch = quote.ask if order.side == "BUY" else quote.bid
        if order.order_type == "MIDPRICE":
            touch = (quote.bid + quote.ask) / 2
        limit = order.limit_price
        if order.order_type == "REL":
            return _pegged(order, quote)
        if limit is not None and (touch - limit) * order.sign > 0:
            return None
        return touch

    def fill(self, order: Order, quantity: Decimal, price: Decimal) -> Execution:
        """Book one fill with all that follows from it."""
        instrument = self.world.universe.find(order.conid)
        if instrument is None:
            raise KeyError(order.conid)
        account = self.world.accounts[order.account]
        order.filled += quantity
        order.spent += quantity * price
        value = order.spent * instrument.unit * account.rate_of(instrument.currency)
        fee = commission(instrument, order.filled, value)
        execution = Execution(
            execution_id=f"{self._random.getrandbits(32):08x}.{time.time_ns() & 0xFFFFFFFFFF:010x}.01.01",
            order_id=order.order_id,
            account=order.account,
            conid=order.conid,
            side=order.side,
            quantity=quantity,
            price=price,
            commission=fee - order.commission,
            position=account.held(order.conid) + order.sign * quantity,
            executed_ms=now_ms(),
            exchange=instrument.exchange,
            client_order_id=order.client_order_id,
            submitter=order.submitter,
        )
        order.commission = fee
        account.apply(execution, instrument)
        self.executions.append(execution)
        if order.remaining <= 0:
            self._close(order, "Filled")
        else:
            order.updated_ms = execution.executed_ms
        touched = [order, *self._follow_up(order, quantity)]
        self._save(touched, [execution])
        self.on_execution(execution)
        for changed in touched:
            self.on_order(changed, False)
        return execution

    def _follow_up(self, order: Order, quantity: Decimal) -> list[Order]:
        """A fill wakes the children of a parent and shrinks the rest of its one-cancels-all group."""
        touched = []
        for other in self.working(order.account):
            if other.parent_id == order.order_id and order.status == "Filled" and not other.live:
                if other.order_type not in TRIGGERED:
                    other.move("Submitted")
                touched.append(other)
            elif order.oca_group and other.oca_group == order.oca_group and other is not order:
                other.quantity = max(other.quantity - quantity, other.filled)
                if other.remaining == 0:
                    other.reason = "One cancels all"
                    self._close(other, "Cancelled")
                touched.append(other)
        return touched

    def _save(self, orders: Iterable[Order], executions: Iterable[Execution] = ()) -> None:
        self.world.store.save(
            orders=[(o.order_id, o.to_json()) for o in orders],
            executions=[(e.execution_id, e.to_json()) for e in executions],
        )


def _pegged(order: Order, quote: Quote) -> Decimal | None:
    """Inside its own side of the market by its offset, no worse than its limit; it fills when a trade meets it."""
    own = quote.bid if order.side == "BUY" else quote.ask
    peg = own + order.sign * (order.offset or 0)
    if order.limit_price is not None and (peg - order.limit_price) * order.sign > 0:
        peg = order.limit_price
    return peg if (quote.last - peg) * order.sign <= 0 else None


def _touched(order: Order, last: Decimal) -> bool:
    """Stops trigger on the wrong side of the market, touch orders on the right one."""
    beyond = (last - (order.stop_price or last)) * order.sign
    return beyond <= 0 if order.order_type in TOUCHES else beyond >= 0
