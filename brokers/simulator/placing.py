"""Placing, modifying, previewing: tickets in, IBKR's answer variants out (ibkr-web-api.md §6.1–§6.6)."""

import asyncio
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from .accounting import CENT, ZERO, commission
from .answers import Refusal, bad_request, now_ms
from .book import OrderBook
from .orders import Order
from .questions import Commit, QuestionDesk, questions_for
from .sessions import BrokerageSession
from .tickets import TRUE, Rejected, amend, conid_of, parse
from .universe import Instrument

STALE_DELAY_SECONDS = 0.5


class HalfTaken(Rejected):
    """One order of a group is refused, on demand; the others are taken."""


class Placing:
    """One login's way into the book. `arrivals` is every placement since the start, accepted or not."""

    def __init__(self, book: OrderBook, session: BrokerageSession):
        self.book, self.session = book, session
        self.desk = QuestionDesk()
        self.arrivals: deque[dict[str, Any]] = deque(maxlen=10_000)

    def place(self, account: str, body: dict[str, Any]) -> Any:
        """The answer to POST …/orders."""
        tickets = _tickets(body)
        arrival = self._note(account, tickets)
        return self._guarded(arrival, lambda: self._place(account, tickets, arrival))

    def _place(self, account: str, tickets: list[dict[str, Any]], arrival: dict[str, Any]) -> Any:
        _check_group(tickets)
        self.interrupt()
        self._check_duplicates(tickets)
        orders, failed = self._parse_all(account, tickets)
        self._check_limits(orders)
        asked = [question for order in orders for question in self._questions(order)]

        def commit() -> Any:
            return self._guarded(arrival, lambda: self._accept(orders, failed, tickets, arrival))

        if asked:
            arrival["outcome"] = "question"
            return self.desk.ask(list(dict(asked).items()), commit, arrival["confirmed"])
        return commit()

    def modify(self, order: Order, ticket: dict[str, Any]) -> Any:
        """The answer to POST …/order/{id}: the same variants as place."""
        self.interrupt()
        try:
            changed = self._amended(order, ticket)
        except Rejected as rejection:
            return {"error": str(rejection)}
        asked = self._questions(changed)

        def commit() -> Any:
            if not order.working or order.filled != changed.filled:
                return {"error": "Order couldn't be modified: its state has changed"}
            self.book.replace(changed)
            return [_row(changed)]

        return self.desk.ask(asked, commit, []) if asked else commit()

    def _amended(self, order: Order, ticket: dict[str, Any]) -> Order:
        if not order.working or order.status == "PendingCancel":
            raise Rejected("Order is inactive")
        changed = amend(order, ticket, self._instrument(order.conid))
        self._check_funds([changed])
        return changed

    def reply(self, reply_id: str, confirmed: bool) -> Any:
        """The answer to POST /iserver/reply/{id}."""
        if self.desk.is_late(self.book.world.config.reply_seconds):
            self.interrupt()
        return self.desk.reply(reply_id, confirmed)

    def interrupt(self) -> None:
        """Order traffic makes an outstanding question stale; the order may yet go live (§6.4)."""
        commit: Commit | None = self.desk.interrupt()
        if commit is not None and self.book.world.config.stale_reply_goes_live:
            asyncio.get_running_loop().call_later(STALE_DELAY_SECONDS, commit)

    def manual(self, account: str, ticket: dict[str, Any], submitter: str = "TWS") -> Order:
        """An order as if a person had entered it in TWS. Raises Rejected or Refusal."""
        full = {"tif": "DAY", "orderType": "LMT", "manualIndicator": True, "extOperator": "tws", **ticket}
        order = parse(
            full, account=account, order_id=self.book.next_id(), find=self.book.world.universe.alive
        )
        order.submitter = submitter
        self.book.accept([order])
        return order

    def what_if(self, account: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to POST …/orders/whatif (§6.5). A bad conid is refused with 400."""
        ticket = _tickets(body)[0]
        if self.book.world.universe.alive(conid_of(ticket)) is None:
            raise bad_request("conid is not valid")
        try:
            order = parse(ticket, account=account, order_id=0, find=self.book.world.universe.alive)
        except Rejected as rejection:
            return {"error": str(rejection), "action": "order_submit_issue"}
        return self._preview(order, self._instrument(order.conid))

    # Parts

    def _note(self, account: str, tickets: list[dict[str, Any]]) -> dict[str, Any]:
        ids = [ticket.get("cOID") for ticket in tickets]
        arrival = {"at_ms": now_ms(), "account": account, "cOIDs": ids, "outcome": "arrived", "confirmed": []}
        self.arrivals.append(arrival)
        return arrival

    def _guarded(self, arrival: dict[str, Any], action: Callable[[], Any]) -> Any:
        try:
            result = action()
        except Rejected as rejection:
            arrival["outcome"] = f"rejected: {rejection}"
            return {"error": str(rejection)}
        except Refusal:
            arrival["outcome"] = "refused"
            raise
        return result

    def _check_duplicates(self, tickets: list[dict[str, Any]]) -> None:
        for ticket in tickets:
            coid = ticket.get("cOID")
            if coid and self.book.registered(str(coid)):
                words = f"Order couldn't be submitted: Local order ID={coid} is already registered."
                status = self.book.world.config.duplicate_id_status
                raise Rejected(words) if status == 200 else Refusal(status, {"error": words})

    def _parse_all(self, account: str, tickets: list[dict[str, Any]]) -> tuple[list[Order], list[str]]:
        """Orders, and the reasons of the children that failed: not atomic, as observed (§6.2)."""
        pairs: list[tuple[dict[str, Any], Order]] = []
        failed: list[str] = []
        for ticket in tickets:
            try:
                order = self._parse(account, ticket)
                self._check_type(order, is_group=len(tickets) > 1)
            except HalfTaken as rejection:
                failed.append(str(rejection))
            except Rejected as rejection:
                if not ticket.get("parentId") or self.book.world.universe.find(conid_of(ticket)) is None:
                    raise
                failed.append(str(rejection))
            else:
                pairs.append((ticket, order))
        _link(pairs)
        return [order for _, order in pairs], failed

    def _check_type(self, order: Order, *, is_group: bool) -> None:
        config, words = self.book.world.config, "The order was refused on demand."
        if order.order_type in (config.refused_in_groups if is_group else config.refused_types):
            raise HalfTaken(words) if is_group else Rejected(words)

    def _parse(self, account: str, ticket: dict[str, Any]) -> Order:
        order_id = self.book.next_id()
        return parse(ticket, account=account, order_id=order_id, find=self.book.world.universe.alive)

    def _check_limits(self, orders: list[Order]) -> None:
        limit = self.book.world.config.per_side_limit
        for order in orders:
            same = [
                o for o in self.book.working(order.account) if (o.conid, o.side) == (order.conid, order.side)
            ]
            if len(same) >= limit:
                raise Rejected(
                    f"Your account has a minimum of {limit} orders working on either the buy or sell "
                    "side for this particular contract"
                )
        self._check_funds(orders)

    def _check_funds(self, orders: list[Order]) -> None:
        for order in orders:
            if order.parent_id is not None:
                continue
            account = self.book.world.accounts[order.account]
            signed = order.sign * order.remaining
            needed = account.margin_change(self._instrument(order.conid), signed)
            if needed > max(account.available_funds, ZERO):
                equity, margin = account.net_liquidation, account.initial_margin + needed
                raise Rejected(
                    "YOUR ORDER IS NOT ACCEPTED. IN ORDER TO OBTAIN THE DESIRED POSITION YOUR EQUITY WITH LOAN "
                    f"VALUE [{equity:.2f} USD] MUST EXCEED THE INITIAL MARGIN [{margin:.2f} USD]"
                )

    def _questions(self, order: Order) -> list[tuple[str, str]]:
        world = self.book.world
        quote = world.market.quote(order.conid)
        instrument = self._instrument(order.conid)
        return questions_for(order, instrument, quote, world.config, self.session.suppressed)

    def _accept(
        self, orders: list[Order], failed: list[str], tickets: list[dict[str, Any]], arrival: dict[str, Any]
    ) -> Any:
        self._check_duplicates(tickets)
        if failed and not self.book.world.config.refused_in_groups:
            return [_failed_row(reason) for reason in failed] + [_inactive_row(order) for order in orders]
        self.book.accept(orders)
        arrival["outcome"] = "accepted"
        rows = [_failed_row(reason) for reason in failed] + [_row(order) for order in reversed(orders)]
        if self.book.world.config.shuffle_answers:
            self.book.shuffle(rows)
        return rows

    def _instrument(self, conid: int) -> Instrument:
        instrument = self.book.world.universe.find(conid)
        if instrument is None:
            raise bad_request("conid is not valid")
        return instrument

    def _preview(self, order: Order, instrument: Instrument) -> dict[str, Any]:
        account, market = self.book.world.accounts[order.account], self.book.world.market
        quote = market.quote(order.conid)
        price = order.limit_price or order.stop_price or (quote.ask if quote else instrument.price)
        value = order.quantity * price * instrument.unit
        fee = commission(instrument, order.quantity, value * account.rate_of(instrument.currency))
        signed = order.sign * order.quantity
        initial = account.margin_change(instrument, signed)
        rate = Decimal("0.5") if instrument.sec_type == "STK" else Decimal("0.9")
        maintenance = initial if instrument.sec_type == "OPT" else initial * rate
        held = account.held(order.conid)
        short = initial > account.available_funds
        asked = questions_for(order, instrument, quote, self.book.world.config, self.session.suppressed)
        unit = "Shares" if instrument.sec_type == "STK" else "Contracts"
        return {
            "amount": {
                "amount": f"{_display(value)} {instrument.currency} ({_display(order.quantity)} {unit})",
                "commission": f"{fee} USD",
                "total": f"{_display(value + fee)} {instrument.currency}",
            },
            "equity": _change(account.net_liquidation, -fee),
            "initial": _change(account.initial_margin, initial),
            "maintenance": _change(account.maintenance_margin, maintenance),
            "position": _change(held, signed),
            "warn": f"21/{asked[0][1]}" if asked else None,
            "error": "Available funds are less than the initial margin of the order" if short else None,
        }


def _tickets(body: dict[str, Any]) -> list[dict[str, Any]]:
    tickets = body.get("orders")
    if not isinstance(tickets, list) or not tickets or not all(isinstance(t, dict) for t in tickets):
        raise bad_request("orders is missing or empty")
    return tickets


def _check_group(tickets: list[dict[str, Any]]) -> None:
    """One order, a bracket, or a one-cancels-all group; nothing else travels together (§6.2)."""
    parents = [t for t in tickets if not t.get("parentId")]
    single_group = all(t.get("isSingleGroup") in TRUE for t in tickets)
    if len(parents) > 1 and not single_group:
        raise bad_request("unrelated orders in one request")
    known = {str(t["cOID"]) for t in tickets if t.get("cOID")}
    for child in (t for t in tickets if t.get("parentId")):
        if str(child["parentId"]) not in known:
            raise Rejected("Order couldn't be submitted: parent order not found")


def _link(pairs: list[tuple[dict[str, Any], Order]]) -> None:
    """Children point at their parent, and siblings cancel each other."""
    parents = {order.client_order_id: order for _, order in pairs if order.client_order_id}
    family = any(ticket.get("parentId") for ticket, _ in pairs)
    for ticket, order in pairs:
        parent = parents.get(str(ticket.get("parentId")))
        if parent is not None:
            order.parent_id, order.oca_group = parent.order_id, str(parent.order_id)
        elif not family and len(pairs) > 1:
            order.oca_group = str(pairs[0][1].order_id)


def _row(order: Order) -> dict[str, Any]:
    row = {"order_id": str(order.order_id), "order_status": order.status, "encrypt_message": "1"}
    if order.client_order_id:
        row["local_order_id"] = order.client_order_id
    if order.parent_id is not None:
        row["parent_order_id"] = str(order.parent_id)
    return row


def _failed_row(reason: str) -> dict[str, Any]:
    return {"order_id": "-1", "order_status": "Failed", "encrypt_message": "1", "text": reason}


def _inactive_row(order: Order) -> dict[str, Any]:
    return {"order_id": str(order.order_id), "order_status": "Inactive", "encrypt_message": "1"}


def _display(number: Decimal) -> str:
    """As IBKR shows numbers to people: thousands separators, cents only when there are any."""
    whole = number == number.to_integral_value()
    return f"{number:,.0f}" if whole or abs(number) >= 1000 else f"{number.quantize(CENT):,}"


def _change(current: Decimal, change: Decimal) -> dict[str, str]:
    return {"current": _display(current), "change": _display(change), "after": _display(current + change)}
