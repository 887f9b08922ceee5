"""What the floors above ask of the brokers: a broker to talk to, and what stands between an account and money."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from audit.services import record
from brokers import pacing
from brokers.base import Broker
from brokers.connections import transport_for
from brokers.credentials import load_credentials
from brokers.ibkr.auth import Access
from brokers.ibkr.client import IbkrClient
from brokers.ibkr.gateway import GatewayAccess
from brokers.ibkr.limits import gaps_at
from brokers.ibkr.tls import trusted
from brokers.models import Account, Instrument, LiveClearance, Login, Subscription
from brokers.ways import WayIn
from cerbero import decisions
from cerbero.access import Actor
from cerbero.database.compiled import Compiled, Given
from cerbero.encryption import decrypt, encrypt, identity
from cerbero.errors import BadInput, LoginDisabled, NotFound, PermissionMissing, StateConflict
from cerbero.models import DecisionRequest, Environment, User
from cerbero.people import profile, signing

ADMINISTRATOR = "Administrator"
QUESTION_IDS_MAX = 50
CLEARANCE_SECONDS = 86_400
# What of `live_missing` says that this deployment sends nothing live at all.
DEPLOYMENT = frozenset({"live_trading_setting", "no_fail_point", "servers_of_its_own", "broker_says_live"})

_LOGIN = Compiled(lambda: Login.objects.filter(pk=Given("login")))


@contextmanager
def broker_for(login: Login, *, is_for_cancel: bool = False) -> Iterator[Broker]:
    """The login's broker, with its keys and session read afresh and kept no longer than the block.

    Raises LoginDisabled (never for a cancel), CredentialMissing or CannotDecrypt. Never inside a transaction: each request
    takes its slot in a statement of its own (brokers.pacing).
    """
    (row,) = _LOGIN.rows(login=login.pk)
    if not (row.is_enabled or is_for_cancel):
        raise LoginDisabled(login=row.name)
    with client_for(row, access_of(row), session_token(row)) as client:
        yield client


def access_of(login: Login) -> Access:
    """The login's way in: its keys, or the gateway where a person signs in. Raises CredentialMissing or CannotDecrypt."""
    if login.way_in == WayIn.GATEWAY:
        return GatewayAccess(is_verified=login.is_verified)
    return load_credentials(login)


def client_for(login: Login, access: Access, token: bytes | None) -> IbkrClient:
    """A client by a given way in: also for a staged set of keys, which is tried before it is used."""
    tls = trusted(login.base_url, is_verified=login.is_verified)
    return IbkrClient(
        login.base_url,
        access,
        token,
        pace=pacing.pacer(login.pk, gaps_at(login.base_url, login.region_zone)),
        transport=transport_for(login.pk, login.base_url, tls, lambda: pacing.cool_down(login.pk)),
    )


def session_token(login: Login) -> bytes | None:
    """The live session token of a row, or None. Raises CannotDecrypt."""
    return decrypt(login.session_token, bound_to(login, "session_token")) if login.session_token else None


def socket_session(login: Login) -> str:
    """The socket's session id of a row, or "". Raises CannotDecrypt."""
    if not login.socket_session:
        return ""
    return decrypt(login.socket_session, bound_to(login, "socket_session")).decode()


def seal(login: Login, column: str, plain: bytes) -> bytes:
    """A secret as it may stand in that column of that login's row."""
    return encrypt(plain, bound_to(login, column))


def bound_to(login: Login, column: str) -> str:
    return identity("login", login.pk, login.environment, column)


def live_missing(account: Account) -> list[str]:
    """What stands between this account and live orders, by name; empty when nothing does."""
    missing = []
    if settings.LIVE_TRADING != "enabled":
        missing.append("live_trading_setting")
    if settings.FAIL_POINT:
        missing.append("no_fail_point")
    if settings.EMBEDDED_SERVERS:
        missing.append("servers_of_its_own")
    row = Account.objects.select_related("login", "clearance").filter(pk=account.pk).first()
    if row is None or not _broker_says_live(row):
        missing.append("broker_says_live")
    clearance = getattr(row, "clearance", None)
    return missing + (clearance.missing() if clearance else [*LiveClearance.CHECKLIST, "clearance"])


def enable_live(*, actor: Actor, account: Account, checklist: Iterable[str] = ()) -> LiveClearance:
    """An Administrator makes an account live and says which items of the checklist hold; the last word counts.

    Whoever confirmed earlier must confirm again. Raises PermissionMissing, BadInput or StateConflict.
    """
    user = administrator(actor)
    held = set(checklist)
    if unknown := held - set(LiveClearance.CHECKLIST):
        raise BadInput(unknown=sorted(unknown), known=list(LiveClearance.CHECKLIST))
    with transaction.atomic():
        account = Account.objects.select_related("login").select_for_update(of=("self",)).get(pk=account.pk)
        if not _broker_says_live(account):
            raise StateConflict("The broker does not call this account live.", account=str(account))
        items = {name: name in held for name in LiveClearance.CHECKLIST}
        clearance, _ = LiveClearance.objects.update_or_create(
            account=account,
            defaults={"enabled_by": user, "enabled_at": Now(), "confirmed_by": None, "confirmed_at": None}
            | {"request": _ask_operator(actor, account, user, items)}
            | items,
        )
        _record(actor, "live.enabled", account, {"checklist": sorted(held)})
    return clearance


def confirm_live(*, actor: Actor, account: Account, assertion: dict[str, Any] | None = None) -> LiveClearance:
    """A second Administrator confirms a complete checklist; a sole operator signs their own, after the delay.

    Raises PermissionMissing, NotFound, StateConflict, or what `signing.decide` raises.
    """
    user = administrator(actor)
    with transaction.atomic():
        clearance = LiveClearance.objects.select_for_update().filter(account=account).first()
        if clearance is None:
            raise NotFound(account=str(account))
        missing = [name for name in clearance.missing() if name != "confirmed_by"]
        is_own = clearance.enabled_by_id == user.pk
        if missing or (is_own and clearance.request is None):
            words = "Another Administrator must confirm, and every item of the checklist must hold."
            raise StateConflict(words, missing=missing)
        if is_own and clearance.request is not None:
            _sign_own(actor, clearance, clearance.request, assertion)
        clearance.confirmed_by, clearance.confirmed_at = user, Now()
        clearance.save(update_fields=["confirmed_by", "confirmed_at"])
        _record(actor, "live.confirmed", account, {"enabled_by": str(clearance.enabled_by_id)})
    return clearance


def _ask_operator(
    actor: Actor, account: Account, user: User, items: dict[str, bool]
) -> DecisionRequest | None:
    """Under the sole operator's profile, what they sign after the delay; None where a second person confirms."""
    if not profile.is_operator(user):
        return None
    return decisions.ask(
        actor=actor,
        subject_kind="live_clearance",
        subject_id=account.pk,
        summary=f"Live orders of {account}",
        digest=_digest(account, items),
        facts={"account": account.broker_account_id, "checklist": items},
        quorum=1,
        group=ADMINISTRATOR,
        seconds=CLEARANCE_SECONDS,
        excluded_user_ids=[user.pk],
    )


def _sign_own(
    actor: Actor, clearance: LiveClearance, asked: DecisionRequest, assertion: dict[str, Any] | None
) -> None:
    items = {name: bool(getattr(clearance, name)) for name in LiveClearance.CHECKLIST}
    digest = _digest(clearance.account, items)
    request = signing.decide(
        actor=actor, request_id=asked.pk, digest=digest, is_yes=True, assertion=assertion
    )
    decisions.consume(request, actor=actor, digest=digest)


def _digest(account: Account, items: dict[str, bool]) -> str:
    body = {"account": str(account.pk), "checklist": items}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def disable_live(*, actor: Actor, account: Account) -> None:
    """Any person may take an account's clearance away. Raises PermissionMissing for a bot."""
    if not actor.is_person:
        raise PermissionMissing("Only a signed-in person does this.")
    with transaction.atomic():
        if LiveClearance.objects.filter(account=account).delete()[0]:
            _record(actor, "live.disabled", account, {})


def set_instrument_allowed(*, actor: Actor, instrument: Instrument, is_allowed: bool) -> bool:
    """An Administrator opens an instrument for orders or closes it; returns whether that changed anything."""
    administrator(actor)
    with transaction.atomic():
        changed = (
            Instrument.objects.filter(pk=instrument.pk)
            .exclude(is_allowed=is_allowed)
            .update(is_allowed=is_allowed)
        )
        if changed:
            event = "instrument.allowed" if is_allowed else "instrument.disallowed"
            _record(actor, event, instrument, {"symbol": instrument.symbol})
    return bool(changed)


def set_watched(*, actor: Actor, instrument: Instrument, is_watched: bool) -> bool:
    """Stream an instrument's quotes on every enabled login, or on none; returns whether that changed anything."""
    administrator(actor)
    with transaction.atomic():
        if is_watched:
            missing = Login.objects.filter(is_enabled=True).exclude(subscriptions__instrument=instrument)
            rows = [Subscription(login=login, instrument=instrument) for login in missing]
            changed = len(Subscription.objects.bulk_create(rows, ignore_conflicts=True))
        else:
            changed = Subscription.objects.filter(instrument=instrument).delete()[0]
        if changed:
            event = "instrument.watched" if is_watched else "instrument.unwatched"
            _record(actor, event, instrument, {"symbol": instrument.symbol})
    return bool(changed)


def set_login_enabled(*, actor: Actor, login: Login, is_enabled: bool) -> bool:
    """An Administrator switches a login on or off; off, nothing but cancels reaches its broker.

    Returns whether that changed anything.
    """
    administrator(actor)
    with transaction.atomic():
        others = Login.objects.filter(pk=login.pk).exclude(is_enabled=is_enabled)
        # Whoever switches it wants it looked at now, however long it was to be left alone.
        changed = others.update(is_enabled=is_enabled, failures=0, retry_at=Now())
        if changed:
            event = "login.switched_on" if is_enabled else "login.switched_off"
            _record(actor, event, login, {"login": login.name})
    return bool(changed)


def set_allowed_questions(*, actor: Actor, account: Account, question_ids: Iterable[str]) -> list[str]:
    """Which of the broker's questions are answered yes unasked (gates.md §4). Raises BadInput for no id."""
    administrator(actor)
    wanted = sorted({each.strip() for each in question_ids if each.strip()})
    wrong = [each for each in wanted if not (each.isascii() and each.isalnum() and len(each) <= 16)]
    if wrong or len(wanted) > QUESTION_IDS_MAX:
        raise BadInput("Question ids are short words such as o163.", wrong=wrong, most=QUESTION_IDS_MAX)
    with transaction.atomic():
        row = Account.objects.select_for_update().get(pk=account.pk)
        before = row.allowed_question_ids
        if before != wanted:
            Account.objects.filter(pk=row.pk).update(allowed_question_ids=wanted)
            _record(actor, "account.questions_allowed", row, {"from": before, "to": wanted})
    return wanted


def _broker_says_live(account: Account) -> bool:
    return (
        account.environment == Environment.LIVE
        and account.login.environment == Environment.LIVE
        and account.login.is_paper is False
    )


def administrator(actor: Actor) -> User:
    """The active Administrator who acts. Raises PermissionMissing for anybody else."""
    known = User.objects.filter(is_active=True)
    user = known.filter(pk=actor.id).first() if actor.is_person and actor.id else None
    if user is None or not user.groups.filter(name=ADMINISTRATOR).exists():
        raise PermissionMissing(group=ADMINISTRATOR)
    return user


def _record(actor: Actor, event: str, row: Account | Instrument | Login, details: dict) -> None:
    record(event, actor=actor, subject_kind=str(row._meta.model_name), subject_id=row.pk, details=details)
