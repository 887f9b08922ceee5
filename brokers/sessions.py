"""Bringing a login's session up and keeping it; the one place that mints (house.md §6 "Session").

One lease holder acts at a time. It never fights: another platform's session is taken over by a person only.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from audit.services import record
from brokers.accounts import store_accounts
from brokers.base import ListedAccounts, SessionStatus
from brokers.ibkr.client import IbkrClient
from brokers.instruments import resolve_instruments, unresolved
from brokers.keeping import EVENTS, Turn, enter, fail, locked_out, note, pause, words_of
from brokers.models import Account, Credential, Login
from brokers.services import access_of, client_for, seal, session_token, socket_session
from brokers.ways import SessionState, WayIn
from cerbero import leases
from cerbero.access import Actor
from cerbero.errors import (
    BrokerError,
    BrokerUnavailable,
    CannotDecrypt,
    CredentialMissing,
    LeaseLost,
    ManualLoginRequired,
    PermissionMissing,
    SessionExpired,
)
from cerbero.leases import ClockTime, Held

log = logging.getLogger(__name__)

LEASE_SECONDS = 110
LOOK_SECONDS = 0.1
TICKLE_EVERY = timedelta(seconds=55)
TOKEN_MARGIN = timedelta(hours=1)
COMPETING_RETRY_SECONDS = 30.0
# So many refusals of the same keys in a row are no hiccup; asking on would prolong whatever bars us.
KEY_REFUSALS_MAX = 5


def lease_name(login: Login) -> str:
    return f"session:{login.name}"


def keep_session(login: Login, actor: Actor) -> str:
    """Bring the session up, or keep it alive; returns the SessionState that it is in now.

    Cheap when nothing is due. What fails is a state with its reason, and is tried again later and later.
    Raises LeaseLost while another process is at it.
    """
    with _turn(login, actor) as turn:
        if not turn.row.is_enabled:
            return enter(turn, SessionState.DOWN, "The login is switched off.")
        if turn.row.retry_at > turn.now:
            return turn.row.state
        return _attempt(turn, _keep)


def refresh_token(login: Login, actor: Actor) -> bool:
    """Mint a new live session token when the old one ends within the hour; true when it did.

    Raises LeaseLost, a BrokerError, CredentialMissing or CannotDecrypt; the old token stays in place then.
    """
    with _turn(login, actor) as turn:
        if not turn.row.is_enabled or not _token_is_due(turn):
            return False
        with client_for(turn.row, access_of(turn.row), None) as client:
            _mint(turn, client)
        return True


def take_over_session(login: Login, *, actor: Actor) -> str:
    """Evict whatever platform holds the brokerage session: a person's decision, never a process's.

    Returns the state. Raises PermissionMissing for anybody but a person, LeaseLost.
    """
    if not actor.is_person:
        raise PermissionMissing("Only a signed-in person takes a session over.")
    with _turn(login, actor) as turn:
        with transaction.atomic():
            note(turn, "session.taken_over", {"from": turn.row.state})
        return _attempt(turn, _take_over)


@contextmanager
def session_turn(login: Login, actor: Actor, seconds: float, wait_seconds: float) -> Iterator[Turn]:
    """Our turn at a login's session for a caller that swaps its keys; waits for whoever has it now.

    Raises LeaseLost when that takes longer than `wait_seconds`.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            held = Held(lease_name(login), leases.hold(lease_name(login), leases.unique_holder(), seconds))
            break
        except LeaseLost:
            if time.monotonic() >= deadline:
                raise
            time.sleep(LOOK_SECONDS)
    try:
        yield _read(login, actor, held)
    finally:
        leases.release(*held)


def look_now(turn: Turn) -> Login:
    """Ask the broker, with the keys that are in use at this moment, for the session; mint and open it if need be.

    Returns the row as it is then: its state says whether it is up, and why not.
    """
    fresh = _read(turn.row, turn.actor, turn.held)
    fresh.row.tickled_at = None
    _attempt(fresh, _keep)
    return Login.objects.get(pk=turn.row.pk)


def session_lost(login: Login, actor: Actor, keys: UUID | None = None) -> None:
    """A caller met SessionExpired: do not wait for the next tickle to find out. Needs no lease, mints nothing.

    `keys` are those by which it was met: where others are in use by now, it says nothing of their session.
    """
    in_use = Credential.objects.filter(login=login, status=Credential.Status.ACTIVE)
    if keys is not None and not in_use.filter(pk=keys).exists():
        return
    with transaction.atomic():
        lost = Login.objects.filter(pk=login.pk, state=SessionState.UP).update(
            state=SessionState.EXPIRED,
            state_detail="The broker refused a request for want of a session.",
            state_changed_at=ClockTime(),
        )
        if lost:
            record(
                EVENTS[SessionState.EXPIRED],
                actor=actor,
                subject_kind="login",
                subject_id=login.pk,
                details={"login": login.name},
            )


@contextmanager
def _turn(login: Login, actor: Actor) -> Iterator[Turn]:
    with leases.lease(lease_name(login), LEASE_SECONDS) as held:
        yield _read(login, actor, held)


def _read(login: Login, actor: Actor, held: Held) -> Turn:
    row = Login.objects.annotate(now=Now()).get(pk=login.pk)
    return Turn(row, row.now, actor, held)


def _attempt(turn: Turn, work: Callable[[Turn], str]) -> str:
    try:
        return work(turn)
    except BrokerUnavailable as error:
        if error.details.get("paced") or error.details.get("rate_limited"):
            # We may not ask; that says nothing about the session.
            return enter(turn, turn.row.state, words_of(error))
        if error.details.get("http_status") == 403:
            return locked_out(turn, f"The broker's door bars us. {words_of(error)}")
        return fail(turn, SessionState.UNREACHABLE, words_of(error))
    except ManualLoginRequired as error:
        return fail(turn, SessionState.SIGNED_OUT, f"{error.message} {_page_of(turn.row)}")
    except SessionExpired as error:
        if error.details.get("keys_refused") and turn.row.failures >= KEY_REFUSALS_MAX:
            return locked_out(turn, f"The broker refuses our keys again and again. {words_of(error)}")
        return fail(turn, SessionState.EXPIRED, words_of(error))
    except BrokerError as error:
        return fail(turn, SessionState.NOT_ESTABLISHED, words_of(error))
    except (CredentialMissing, CannotDecrypt) as error:
        return fail(turn, SessionState.DOWN, error.message)


def _keep(turn: Turn) -> str:
    row = turn.row
    is_up = row.state == SessionState.UP
    tickle_due = row.tickled_at is None or turn.now - row.tickled_at >= TICKLE_EVERY
    if is_up and not tickle_due and not _token_is_due(turn):
        return _resolve_if_needed(turn)
    with _client(turn) as client:
        fresh = _token_is_due(turn)
        if fresh:
            _mint(turn, client)
        try:
            return _stay(turn, client) if is_up else _bring_up(turn, client)
        except SessionExpired:
            if fresh:
                raise
            _mint(turn, client)
            return _bring_up(turn, client)


def _take_over(turn: Turn) -> str:
    with _client(turn) as client:
        if _token_is_due(turn):
            _mint(turn, client)
        return _bring_up(turn, client, compete=True)


def _stay(turn: Turn, client: IbkrClient) -> str:
    session_id, status = client.tickle()
    if not status.is_up:
        return _bring_up(turn, client)
    return _confirm(turn, client, session_id)


def _bring_up(turn: Turn, client: IbkrClient, *, compete: bool = False) -> str:
    status = client.open_session(compete=compete)
    if status.is_up:
        session_id, status = client.tickle()
    if status.is_up:
        return _confirm(turn, client, session_id)
    return _not_up(turn, status)


def _not_up(turn: Turn, status: SessionStatus) -> str:
    if status.competing:
        words = "Another platform holds the brokerage session; a person can take it over."
        return fail(turn, SessionState.COMPETING, words, at_least=COMPETING_RETRY_SECONDS)
    said = [name for name in ("authenticated", "connected", "established") if getattr(status, name)]
    words = f"The broker says: {', '.join(said) or 'neither authenticated nor connected'}. {status.message}"
    return fail(turn, SessionState.NOT_ESTABLISHED, words.strip())


def _confirm(turn: Turn, client: IbkrClient, session_id: str) -> str:
    """Up at the broker; ours only when the broker's accounts are of the environment that we were told."""
    listed = client.listed_accounts()
    if turn.row.way_in == WayIn.GATEWAY and not _is_its_own(turn.row, listed):
        words = "Whoever is signed in there opens other accounts than this login's; sign in with its own username."
        return fail(turn, SessionState.SIGNED_OUT, words)
    with transaction.atomic():
        leases.check(*turn.held)
        problem = store_accounts(turn.row, listed, turn.actor)
        changes: dict[str, Any] = {"tickled_at": ClockTime(), "failures": 0, "is_paper": listed.is_paper}
        if session_id and session_id != _known_socket_session(turn.row):
            changes["socket_session"] = seal(turn.row, "socket_session", session_id.encode())
        state = SessionState.MISMATCHED if problem else SessionState.UP
        enter(turn, state, problem, **changes)
    if problem:
        return pause(turn, COMPETING_RETRY_SECONDS)
    return _resolve(turn, client)


def _is_its_own(login: Login, listed: ListedAccounts) -> bool:
    """Whether a gateway is signed in as this login: a person may take another username by mistake."""
    known = set(Account.objects.filter(login=login).values_list("broker_account_id", flat=True))
    return not known or bool(known & set(listed.broker_account_ids))


def _resolve_if_needed(turn: Turn) -> str:
    if unresolved(turn.row).exists():
        with _client(turn) as client:
            return _resolve(turn, client)
    return turn.row.state


def _resolve(turn: Turn, client: IbkrClient) -> str:
    try:
        resolve_instruments(turn.row, client, turn.actor)
    except BrokerError as error:
        log.warning("login %s: instruments stay unresolved: %s", turn.row.name, words_of(error))
    return turn.row.state


def _client(turn: Turn) -> IbkrClient:
    try:
        token = session_token(turn.row)
    except CannotDecrypt:
        # A new one is minted: a token is worth nothing more than the keys that made it.
        token, turn.row.session_token_expires_at = None, None
    return client_for(turn.row, access_of(turn.row), token)


def _token_is_due(turn: Turn) -> bool:
    expires_at = turn.row.session_token_expires_at
    # Before its end a gateway's session can only be prolonged by the person.
    margin = TOKEN_MARGIN if turn.row.way_in == WayIn.KEYS else timedelta(0)
    return not turn.row.session_token or expires_at is None or expires_at - turn.now <= margin


def _mint(turn: Turn, client: IbkrClient) -> None:
    if turn.row.state == SessionState.DOWN:
        enter(turn, SessionState.MINTING, "")
    try:
        token = client.mint()
    except SessionExpired as error:
        error.details["keys_refused"] = turn.row.way_in == WayIn.KEYS
        raise
    sealed = seal(turn.row, "session_token", token.secret)
    with transaction.atomic():
        leases.check(*turn.held)
        Login.objects.filter(pk=turn.row.pk).update(
            session_token=sealed, session_token_expires_at=token.expires_at
        )
        note(turn, "session.token_minted", {"expires_at": token.expires_at.isoformat()})
        if turn.row.state != SessionState.UP:
            enter(turn, SessionState.AUTHENTICATED, "")
    turn.row.session_token, turn.row.session_token_expires_at = sealed, token.expires_at


def _page_of(login: Login) -> str:
    """Where a person signs in at a gateway."""
    parts = urlsplit(login.base_url)
    return f"Sign in at {parts.scheme}://{parts.netloc}/"


def _known_socket_session(row: Login) -> str:
    try:
        return socket_session(row)
    except CannotDecrypt:
        return ""
