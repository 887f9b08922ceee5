"""IBKR's Web API as a `Broker` (ibkr-web-api.md §2 to §6). No retries, and no write is ever sent twice."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx

from brokers import base
from brokers.ibkr import contracts, holdings, messages
from brokers.ibkr.asking import select
from brokers.ibkr.auth import Access
from brokers.ibkr.ids import account_id, order_id, reply_id
from brokers.ibkr.reads import IbkrReads
from brokers.ibkr.snapshots import snapshots
from brokers.ibkr.values import number, rows, text
from brokers.ibkr.wire import Pace, Params, Wire
from cerbero.errors import BrokerRejected, BrokerUnavailable, OutcomeUnknown

logger = logging.getLogger(__name__)

BRING_UP_TRIES = 20
BRING_UP_WAIT_SECONDS = 0.5
ORDERS_TRIES = 3
ORDERS_WAIT_SECONDS = 0.3
POSITIONS_PER_PAGE = 100
POSITION_PAGES_MAX = 50
EVERY_ORDER = "-1"


def utc_now() -> datetime:
    return datetime.now(UTC)


class IbkrClient:
    """One login, by either way in. `session_token` is what `mint` gave; None until then.

    `pace(method, path)` is called before each request and raises BrokerUnavailable to refuse it.
    """

    def __init__(
        self,
        base_url: str,
        access: Access,
        session_token: bytes | None = None,
        *,
        pace: Pace | None = None,
        transport: httpx.BaseTransport | None = None,
        wait: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._access = access
        self._wire = Wire(base_url, access, session_token, pace, transport)
        self.reads = IbkrReads(self._wire, wait)
        self._wait, self._now = wait, now
        self._accounts: tuple[str, ...] = ()

    def __enter__(self) -> "IbkrClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the broker's session goes on."""
        self._wire.close()

    @property
    def credential_id(self) -> UUID | None:
        return self._access.credential_id

    # Session

    def mint(self) -> base.SessionToken:
        """A session token, used by this client from now on: made with our keys, or of whoever signed in at the gateway.

        Raises SessionExpired, which is ManualLoginRequired at a gateway where nobody is signed in.
        """
        return self._wire.auth.mint(self._wire)

    def open_session(self, *, compete: bool = False) -> base.SessionStatus:
        """Bring the brokerage session up, in the order of §2.3, and prime what answers empty at first.

        Returns a status that is not up when another platform holds the session or the link stays down.
        `compete` evicts the other platform: a person's decision. Questions are never suppressed.
        """
        body = {"publish": True, "compete": compete}
        self._wire.read("POST", "/iserver/auth/ssodh/init", body=body)
        status = self.session_status()
        for _ in range(BRING_UP_TRIES):
            if status.is_up or status.competing:
                break
            self._wait(BRING_UP_WAIT_SECONDS)
            status = self.session_status()
        if status.is_up:
            self.listed_accounts()
            self._wire.read("GET", "/portfolio/accounts")
            self.prime()
        return status

    def prime(self) -> None:
        """The first orders and trades of a session are empty, whatever there is (§6.8, §6.10)."""
        self._wire.read("GET", "/iserver/account/orders")
        self._wire.read("GET", "/iserver/account/trades", params={"days": "1"})

    def session_status(self) -> base.SessionStatus:
        return messages.session_status(self._wire.read("POST", "/iserver/auth/status"))

    def tickle(self) -> tuple[str, base.SessionStatus]:
        """Keep the session alive; the socket's session id ("" when not given) and the status."""
        data = self._object("POST", "/tickle")
        iserver = data.get("iserver")
        status = messages.session_status(iserver.get("authStatus") if isinstance(iserver, dict) else None)
        return text(data.get("session")) or "", status

    def readable_accounts(self) -> tuple[str, ...]:
        """The accounts that these keys open, by a read that needs no brokerage session and disturbs none (§2.1)."""
        listed = rows(self._wire.read("GET", "/portfolio/accounts"))
        return tuple(number for each in listed if (number := text(each.get("accountId") or each.get("id"))))

    def listed_accounts(self) -> base.ListedAccounts:
        listed = messages.listed_accounts(self._object("GET", "/iserver/accounts"))
        self._accounts = listed.broker_account_ids
        return listed

    # Instruments and quotes

    def find_instruments(self, symbol: str, asset_class: str) -> list[base.InstrumentRecord]:
        """Every listing of a symbol, in the United States first; `asset_class` as in messages.ASSET_CLASSES."""
        return contracts.find(self._wire, symbol.strip().upper(), asset_class)

    def snapshot(self, broker_instrument_ids: Sequence[str]) -> list[base.QuoteRecord]:
        """Quotes now; an instrument without any field is left out."""
        return snapshots(
            self._wire,
            broker_instrument_ids,
            messages.QUOTE_FIELDS,
            lambda row: messages.quote_record(row, self._now()),
            _two_sided,
            self._wait,
        )

    # Orders

    def preview(self, broker_account_id: str, legs: Sequence[base.OrderTerms]) -> base.Preview:
        """The what-if of the first leg; a bracket's children only close what it opens."""
        ticket = messages.ticket(broker_account_id, legs[0])
        # The what-if must not use up the client order id of the order that may follow.
        ticket.pop("cOID", None)
        self.snapshot([legs[0].broker_instrument_id])
        path = f"/iserver/account/{account_id(broker_account_id)}/orders/whatif"
        data = self._wire.read("POST", path, body={"orders": [ticket]})
        if not isinstance(data, dict):
            raise BrokerUnavailable("The broker's answer cannot be read.", path=path)
        return messages.preview(data)

    def place(
        self,
        broker_account_id: str,
        legs: Sequence[base.OrderTerms],
        *,
        before: Callable[[], None] | None = None,
    ) -> base.Answer:
        """One request for one order, one bracket or several alternatives; never more than once (§6.1, §6.2).

        Raises ValueError, before anything is sent, for legs that cannot be one request.
        """
        _check_group(legs)
        path = f"/iserver/account/{account_id(broker_account_id)}/orders"
        body = {"orders": [messages.ticket(broker_account_id, leg) for leg in legs]}
        return self._placed(self._wire.write("POST", path, body=body, before=before), path)

    def amend(
        self,
        broker_account_id: str,
        broker_order_id: str,
        terms: base.OrderTerms,
        *,
        before: Callable[[], None] | None = None,
    ) -> base.Answer:
        """One request with the order's whole terms, `quantity` in total; answered as a placement is (§6.6).

        Our own id is not part of it: the order keeps the one that it has.
        """
        path = f"/iserver/account/{account_id(broker_account_id)}/order/{order_id(broker_order_id)}"
        body = messages.ticket(broker_account_id, replace(terms, client_order_id=None))
        return self._placed(self._wire.write("POST", path, body=body, before=before), path)

    def answer(
        self, question: base.Question, *, confirmed: bool, before: Callable[[], None] | None = None
    ) -> base.Answer:
        """Answer a question. After a "no" that the broker takes, the Answer is empty: it proves no absence."""
        path = f"/iserver/reply/{reply_id(question.reply_id)}"
        try:
            body = {"confirmed": confirmed}
            data = self._wire.write("POST", path, body=body, is_gated=False, before=before)
        except BrokerRejected as refusal:
            if confirmed or "not confirmed" not in str(refusal.details["broker_says"]).lower():
                raise
            return base.Answer()
        return self._placed(data, path)

    def cancel(
        self,
        broker_account_id: str,
        broker_order_id: str,
        *,
        manual_indicator: bool | None = None,
        ext_operator: str | None = None,
    ) -> None:
        """Ask for a cancel; only a later report proves it (§6.7). The last two are for US futures.

        Raises ValueError for anything but one order's id: "-1" would cancel everything.
        """
        path = f"/iserver/account/{account_id(broker_account_id)}/order/{order_id(broker_order_id)}"
        wanted = {
            "manualIndicator": None if manual_indicator is None else str(manual_indicator).lower(),
            "extOperator": ext_operator,
        }
        params = {name: value for name, value in wanted.items() if value is not None}
        self._delete(path, params or None)

    def cancel_all(self, broker_account_id: str) -> None:
        """Ask for the cancel of every working order of an account; only later reports prove it (§6.7)."""
        self._delete(f"/iserver/account/{account_id(broker_account_id)}/order/{EVERY_ORDER}", None)

    def _delete(self, path: str, params: Params | None) -> None:
        data = self._wire.write("DELETE", path, params=params)
        if not isinstance(data, dict) or "msg" not in data:
            raise OutcomeUnknown("The broker's answer is of no known form.", path=path)

    def open_orders(self, broker_account_id: str | None = None) -> list[base.OrderReport]:
        """Today's orders of one account or of each, done ones too (§6.8).

        Never empty for want of an answer: that is BrokerUnavailable.
        """
        return [order for each in self._each_account(broker_account_id) for order in self._orders_of(each)]

    def _orders_of(self, account: str | None) -> list[base.OrderReport]:
        params = {"accountId": account} if account else None
        for tries_left in reversed(range(ORDERS_TRIES)):
            data = self._object("GET", "/iserver/account/orders", params=params)
            found = rows(data.get("orders"))
            if data.get("snapshot") is True or (found and "snapshot" not in data):
                return [messages.order_report(row, read_at=self._now()) for row in found]
            if tries_left:
                self._wait(ORDERS_WAIT_SECONDS)
        raise BrokerUnavailable("The broker has not loaded its orders yet.", path="/iserver/account/orders")

    def order(self, broker_order_id: str) -> base.OrderReport | None:
        """One order; None only where the broker says that it does not know the id (400, §6.9)."""
        path = f"/iserver/account/order/status/{order_id(broker_order_id)}"
        try:
            return messages.order_report(self._object("GET", path), read_at=self._now())
        except BrokerRejected as refusal:
            if refusal.details.get("http_status") != 400:
                raise
            return None

    def executions(self, days: int = 1, broker_account_id: str | None = None) -> list[base.ExecutionReport]:
        """Fills of one account or of each in the last trading days, 1 to 7 (§6.10).

        A row that is no fill is logged and left out.
        """
        found: list[base.ExecutionReport] = []
        for account in self._each_account(broker_account_id):
            if account:
                select(self._wire, account)
            found += self._trades(days)
            if account and not select(self._wire, account):
                raise BrokerUnavailable("Another reader chose another account meanwhile.", account=account)
        return found

    def _trades(self, days: int) -> list[base.ExecutionReport]:
        data = self._wire.read("GET", "/iserver/account/trades", params={"days": str(days)})
        if not isinstance(data, list):
            raise BrokerUnavailable("The broker's answer cannot be read.", path="/iserver/account/trades")
        found = [messages.execution_report(row) for row in rows(data)]
        if None in found:
            logger.warning("executions: %d of %d rows are no fills", found.count(None), len(found))
        return [execution for execution in found if execution is not None]

    def _each_account(self, only: str | None = None) -> tuple[str | None, ...]:
        """Orders and trades are those of the selected account (§2.2); None where there is only one."""
        accounts = self._accounts or self.listed_accounts().broker_account_ids
        if not accounts:
            raise BrokerUnavailable("The broker lists no accounts.", path="/iserver/accounts")
        if len(accounts) == 1:
            return (None,)
        return accounts if only is None else (only,)

    # Portfolio

    def positions(self, broker_account_id: str) -> list[base.PositionRecord]:
        """Every holding, read afresh: the broker caches pages until it is told otherwise (§5)."""
        path = f"/portfolio/{account_id(broker_account_id)}/positions"
        self._wire.read("POST", f"{path}/invalidate")
        found: dict[str, base.PositionRecord] = {}
        for page in range(POSITION_PAGES_MAX):
            # Paging is only reliable with a sort.
            params = {"sort": "position", "direction": "a"}
            data = self._wire.read("GET", f"{path}/{page}", params=params)
            if not isinstance(data, list):
                raise BrokerUnavailable("The broker's answer cannot be read.", path=path)
            found |= {p.broker_instrument_id: p for p in holdings.position_records(data, broker_account_id)}
            if len(data) < POSITIONS_PER_PAGE:
                return list(found.values())
        raise BrokerUnavailable("There are more positions than can be read.", path=path)

    def cash(self, broker_account_id: str) -> list[base.CashRecord]:
        """Cash by currency (§5). Raises BrokerUnavailable where a balance cannot be read."""
        path = f"/portfolio/{account_id(broker_account_id)}/ledger"
        return holdings.cash_records(self._object("GET", path))

    def summary(self, broker_account_id: str) -> base.AccountSummary:
        path = f"/portfolio/{account_id(broker_account_id)}/summary"
        return holdings.account_summary(self._object("GET", path), broker_account_id)

    def exchange_rate(self, source: str, target: str) -> Decimal | None:
        """§3: one currency in another; None for a currency that the broker does not convert."""
        params = {"source": source, "target": target}
        try:
            data = self._object("GET", "/iserver/exchangerate", params=params)
        except BrokerRejected:
            return None
        rate = number(data.get("rate"))
        return rate if rate and rate > 0 else None

    def _object(self, method: str, path: str, *, params: Params | None = None) -> dict[str, Any]:
        data = self._wire.read(method, path, params=params)
        if not isinstance(data, dict):
            raise BrokerUnavailable("The broker's answer cannot be read.", path=path)
        return data

    def _placed(self, data: Any, path: str) -> base.Answer:
        answer = messages.placement_answer(data)
        if answer is None:
            raise OutcomeUnknown("The broker's answer is of no known form.", path=path)
        return answer


def _two_sided(quote: base.QuoteRecord) -> bool:
    return quote.bid is not None and quote.ask is not None


def _check_group(legs: Sequence[base.OrderTerms]) -> None:
    """A parent with our id and children that name it and carry none; or alternatives, each with our id (§6.2)."""
    parent_id = legs[0].client_order_id if legs else None
    if not parent_id or legs[0].parent_client_order_id is not None:
        raise ValueError("The first leg carries the client order id.")
    if legs[0].one_cancels_other:
        ids = {leg.client_order_id for leg in legs if leg.one_cancels_other} - {None}
        if len(ids) != len(legs):
            raise ValueError("Each of several alternatives carries a client order id of its own.")
        return
    for child in legs[1:]:
        if child.client_order_id is not None or child.parent_client_order_id != parent_id:
            raise ValueError("A child names its parent's client order id and carries none.")
