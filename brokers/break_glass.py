"""Cancel everything at the broker with nothing of ours running: no Postgres, no Redis, no settings.

It mints a session token of its own, writes each step to a local journal before and after, and claims *no working
orders* only after every order that it saw ended by its id and two full lists showed none (gates.md §8). All logins at
once, so that one that hangs keeps no other waiting; and nothing but the broker keeps a cancel from being asked for.
"""

import json
import os
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

from brokers.base import BrokerOrderState, OrderReport
from brokers.ibkr.auth import Access
from brokers.ibkr.client import IbkrClient
from brokers.ibkr.gateway import GatewayAccess
from brokers.ibkr.oauth import IbkrCredentials
from cerbero.errors import BadInput, BrokerError, BrokerRejected, SessionExpired

LIST_SECONDS = 5.0
PAUSE_SECONDS = 0.11
OPERATOR = "break-glass"
WORKING = {None, BrokerOrderState.ACCEPTED, BrokerOrderState.PENDING_CANCEL}
Say = Callable[[str], None]


class Journal:
    """One JSON object a line, each on the disk before the next step, each bound to the line before it.

    A disk that takes no line stops nothing: from there on the lines are said instead.
    """

    def __init__(self, path: Path, say: Say = print) -> None:
        self._before, self._number, self._size = "", 0, 0
        self._say, self._lock = say, Lock()
        self.id = str(uuid4())
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        except OSError as problem:
            self._lose(problem)

    @property
    def is_kept(self) -> bool:
        return self._descriptor is not None

    def write(self, step: str, **details: Any) -> None:
        with self._lock:
            self._number += 1
            row = {
                "journal": self.id,
                "number": self._number,
                "at": datetime.now(UTC).isoformat(),
                "step": step,
                "details": details,
                "before": self._before,
            }
            line = json.dumps(row, sort_keys=True)
            self._keep(line)
            self._before = sha256(line.encode()).hexdigest()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _keep(self, line: str) -> None:
        if self._descriptor is None:
            self._say(line)
            return
        whole = f"{line}\n".encode()
        try:
            if os.write(self._descriptor, whole) < len(whole):
                raise OSError("the disk is full")
            os.fsync(self._descriptor)
            self._size += len(whole)
        except OSError as problem:
            with suppress(OSError):
                # Half a line would have the whole journal refused.
                os.ftruncate(self._descriptor, self._size)
            self.close()
            self._descriptor = None
            self._lose(problem)
            self._say(line)

    def _lose(self, problem: OSError) -> None:
        self._say(f"THE JOURNAL CANNOT BE WRITTEN ({problem}). It goes on here: keep what follows.")


def read_journal(text: str) -> list[dict[str, Any]]:
    """A journal's rows. Raises BadInput for a line that is changed, lost or out of order."""
    rows: list[dict[str, Any]] = []
    before = ""
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = json.loads(line)
            is_next = (row["number"], row["before"]) == (number, before)
        except (ValueError, KeyError, TypeError):
            is_next = False
        if not is_next or (rows and row["journal"] != rows[0]["journal"]):
            raise BadInput("This line does not follow from the one before it.", line=number)
        rows.append(row)
        before = sha256(line.encode()).hexdigest()
    if not rows:
        raise BadInput("The journal is empty.")
    return rows


def stop_everything(
    logins: Sequence[dict[str, Any]],
    journal: Journal,
    say: Say,
    *,
    seconds: float = 60.0,
    take_over: bool = False,
    list_seconds: float = LIST_SECONDS,
) -> bool:
    """Cancel at every login at once; True only when it is proven for all. One that fails stops no other."""
    if not logins:
        return False
    one = partial(
        _stop, journal=journal, say=say, seconds=seconds, take_over=take_over, list_seconds=list_seconds
    )
    with ThreadPoolExecutor(len(logins)) as pool:
        return all(list(pool.map(one, logins)))


def _stop(
    login: dict[str, Any], *, journal: Journal, say: Say, seconds: float, take_over: bool, list_seconds: float
) -> bool:
    """One login, tried again for as long as it has; what a second try cannot mend is said at once."""
    name, deadline = login["name"], time.monotonic() + seconds
    journal.write("login.begun", login=name, accounts=login["accounts"])
    while True:
        try:
            with _client(login) as client:
                _open(client, login, journal, take_over=take_over)
                return _clear(client, login, journal, say, deadline, list_seconds)
        except BrokerError as problem:
            journal.write("login.failed", login=name, code=problem.code, message=problem.message)
            say(f"{name}: FAILED. {problem.message} ({problem.code})")
            if isinstance(problem, SessionExpired) or time.monotonic() + list_seconds > deadline:
                return False
        except Exception as problem:
            # Keys that cannot be read, an answer that nobody thought of: the other logins go on.
            journal.write("login.failed", login=name, code="internal_error", message=type(problem).__name__)
            say(f"{name}: FAILED. {type(problem).__name__}")
            return False
        say(f"{name}: trying again.")
        time.sleep(list_seconds)


def _client(login: dict[str, Any]) -> IbkrClient:
    # Under ten requests a second, or the broker stops answering for ten minutes (ibkr-web-api.md §8).
    return IbkrClient(login["base_url"], _access(login), pace=lambda method, path: time.sleep(PAUSE_SECONDS))


def _access(login: dict[str, Any]) -> Access:
    keys = login["credentials"]
    if keys is None:
        return GatewayAccess(is_verified=login["is_verified"])
    return IbkrCredentials(
        consumer_key=keys["consumer_key"],
        access_token=keys["access_token"],
        access_token_secret=keys["access_token_secret"],
        dh_prime=int(keys["dh_prime"], 16),
        signature_key_pem=b64decode(keys["signature_key_pem"]),
        encryption_key_pem=b64decode(keys["encryption_key_pem"]),
    )


def _open(client: IbkrClient, login: dict[str, Any], journal: Journal, *, take_over: bool) -> None:
    token = client.mint()
    journal.write("session.minted", login=login["name"], expires_at=token.expires_at.isoformat())
    status = client.open_session(compete=take_over)
    journal.write("session.opened", login=login["name"], is_up=status.is_up, competing=status.competing)
    if status.competing:
        raise SessionExpired("Another platform holds the session; run again with --take-over to evict it.")
    if not status.is_up:
        raise SessionExpired("The brokerage session does not come up.")


def _clear(
    client: IbkrClient,
    login: dict[str, Any],
    journal: Journal,
    say: Say,
    deadline: float,
    list_seconds: float,
) -> bool:
    accounts = set(login["accounts"]) | set(client.listed_accounts().broker_account_ids)
    for account in sorted(accounts):
        _cancel_all(client, account, journal, say)
    empty, seen = 0, set[str]()
    while True:
        listed = [row for row in client.open_orders() if row.broker_account_id in accounts]
        working = [row for row in listed if row.state in WORKING]
        seen |= {row.broker_order_id for row in listed}
        journal.write("orders.listed", login=login["name"], working=[_named(row) for row in working])
        empty = 0 if working else empty + 1
        if empty == 2:
            break
        if time.monotonic() > deadline:
            say(f"{login['name']}: NOT PROVEN, {len(working)} orders still work.")
            journal.write("login.unproven", login=login["name"], working=len(working))
            return False
        for row in working:
            _cancel(client, row, journal)
        time.sleep(list_seconds)
    open_still = [each for each in sorted(seen) if _still_works(client, each)]
    journal.write("orders.proven", login=login["name"], known=sorted(seen), open=open_still)
    verdict = f"NOT PROVEN: {', '.join(open_still)}" if open_still else "proven by two lists and by id"
    say(f"{login['name']}: no working orders in {', '.join(sorted(accounts))}: {verdict}.")
    _tell_positions(client, sorted(accounts), journal, say)
    return not open_still


def _cancel_all(client: IbkrClient, account: str, journal: Journal, say: Say) -> None:
    journal.write("cancels.begun", account=account)
    outcome = "accepted"
    try:
        client.cancel_all(account)
    except BrokerError as problem:
        # Each order is asked for by itself next.
        outcome = problem.code
    journal.write("cancels.sent", account=account, outcome=outcome)
    say(f"{account}: cancel of every order asked for ({outcome}).")


def _cancel(client: IbkrClient, row: OrderReport, journal: Journal) -> None:
    if row.state is BrokerOrderState.PENDING_CANCEL or row.broker_account_id is None:
        return
    ask, outcome = partial(client.cancel, row.broker_account_id, row.broker_order_id), "accepted"
    try:
        try:
            ask()
        except BrokerRejected:
            # US futures want to be told who cancels (CME rule 536-B), and a row says nothing of its kind.
            ask(manual_indicator=True, ext_operator=OPERATOR)
    except BrokerError as problem:
        outcome = problem.code
    journal.write("cancel.sent", broker_order_id=row.broker_order_id, outcome=outcome)


def _still_works(client: IbkrClient, broker_order_id: str) -> bool:
    row = client.order(broker_order_id)
    return row is not None and row.state in WORKING


def _tell_positions(client: IbkrClient, accounts: list[str], journal: Journal, say: Say) -> None:
    for account in accounts:
        try:
            held = [row for row in client.positions(account) if row.quantity]
        except BrokerError as problem:
            say(f"{account}: its positions cannot be read ({problem.code}).")
            continue
        told = {row.symbol or row.broker_instrument_id: f"{row.quantity:f}" for row in held}
        journal.write("positions.read", account=account, positions=told)
        words = ", ".join(f"{quantity} {symbol}" for symbol, quantity in told.items())
        say(f"{account}: {words or 'flat'}")


def _named(row: OrderReport) -> dict[str, str]:
    return {
        "broker_order_id": row.broker_order_id,
        "account": row.broker_account_id or "",
        "client_order_id": row.client_order_id or "",
        "side": row.side or "",
        "left": f"{(row.total_quantity or 0) - (row.filled_quantity or 0):f}" if row.total_quantity else "",
    }
