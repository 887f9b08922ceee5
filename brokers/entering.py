"""Entering a login by hand: trying its keys at the broker, and keeping them."""

import re
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction
from django.db.models.functions import Now

from audit.services import record
from brokers.accounts import PAPER_PREFIX
from brokers.credentials import load_credentials, open_credential, store_credential
from brokers.ibkr.client import IbkrClient
from brokers.ibkr.entered import Entered, why_refused
from brokers.ibkr.entered import mistakes as mistakes_of
from brokers.ibkr.gateway import GatewayAccess
from brokers.ibkr.limits import THIS_MACHINE
from brokers.ibkr.oauth import IbkrCredentials
from brokers.ibkr.tls import trusted
from brokers.models import Login
from brokers.services import administrator
from brokers.ways import WayIn
from cerbero.access import Actor
from cerbero.errors import BadInput, BrokerError, CannotDecrypt, CredentialMissing, StateConflict
from cerbero.models import Environment

SLUG = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
GATEWAY_URL = "https://localhost:5000/v1/api"


def enter_login(
    *, actor: Actor, name: str, environment: str, places: dict[str, str], **keys: Any
) -> tuple[Login, bool]:
    """Make a login, or give an existing one new keys; returns it and whether it is new.

    `places` are the addresses that differ from the broker's own. Raises StateConflict or BadInput.
    """
    with transaction.atomic():
        login, is_new = _enter(actor, name, environment, WayIn.KEYS, places)
        store_credential(actor=actor, login=login, **keys)
    return login, is_new


def import_login(*, actor: Actor, name: str, environment: str, **keys: Any) -> tuple[Login, bool]:
    """Take over a set from elsewhere, once it looks right; returns the login, switched off if it is new, and whether it is.

    Raises StateConflict, KeysNotOurs, or BadInput, whose details name each field with what looks wrong in it.
    """
    with transaction.atomic():
        login, is_new = _enter(actor, name, environment, WayIn.KEYS, {}, is_enabled=False)
        before = _in_use(login)
        row = store_credential(actor=actor, login=login, **keys)
        entered = Entered(row.consumer_key, row.access_token, keys["access_token_secret"])
        if wrong := mistakes_of(entered, open_credential(row), before):
            raise BadInput("These keys cannot be right; nothing was stored.", fields=wrong)
    return login, is_new


def enter_gateway(
    *, actor: Actor, name: str, environment: str, base_url: str, is_verified: bool = True, region: str = ""
) -> tuple[Login, bool]:
    """Make or move a login whose person signs in at IBKR's gateway; returns it and whether it is new.

    From a page an Administrator names a gateway on this machine only. Raises PermissionMissing, BadInput, StateConflict,
    or TlsUnverified.
    """
    if actor.is_person:
        administrator(actor)
    places: dict[str, Any] = {**gateway_places(base_url, is_verified=is_verified), "is_verified": is_verified}
    if actor.is_person and urlsplit(base_url).hostname not in THIS_MACHINE:
        raise BadInput("A gateway on another machine is entered by manage.py ibkr_setup.")
    places |= {"region_zone": region} if region else {}
    with transaction.atomic():
        return _enter(actor, name, environment, WayIn.GATEWAY, places)


def _enter(
    actor: Actor,
    name: str,
    environment: str,
    way_in: str,
    places: dict[str, Any],
    *,
    is_enabled: bool = True,
) -> tuple[Login, bool]:
    if not SLUG.fullmatch(name):
        raise BadInput("The name is letters, digits, - and _, at most 64.", name=name[:80])
    first = {"environment": environment, "is_enabled": is_enabled, "way_in": way_in, **places}
    login, is_new = Login.objects.get_or_create(name=name, defaults=first)
    if (login.environment, login.way_in) != (environment, way_in):
        known = f"{login.environment}, by {login.get_way_in_display()}"
        raise StateConflict(f"{name} is entered as {known}; a login never changes that.")
    moved = {place: value for place, value in places.items() if getattr(login, place) != value}
    if moved:
        # What waits for its next try is tried at the new place at once.
        Login.objects.filter(pk=login.pk).update(**moved, failures=0, retry_at=Now())
    if moved or is_new:
        details = {"login": name, "environment": environment, "way_in": str(way_in), **places}
        event = "login.entered" if is_new else "login.moved"
        record(event, actor=actor, subject_kind="login", subject_id=login.pk, details=details)
    return login, is_new


def gateway_places(base_url: str, *, is_verified: bool) -> dict[str, str]:
    """Both addresses of a gateway. Raises BadInput without https, TlsUnverified for a stranger's certificate."""
    places = places_of(base_url)
    if not base_url.startswith("https://"):
        raise BadInput("A gateway is reached by https.")
    for url in places.values():
        trusted(url, is_verified=is_verified)
    return places


def places_of(base_url: str) -> dict[str, str]:
    """Both addresses of a broker that is not IBKR's own one. Raises BadInput for one that is not encrypted."""
    parts = urlsplit(base_url)
    if not (parts.hostname and (parts.scheme == "https" or parts.hostname in THIS_MACHINE)):
        raise BadInput("The address needs https; only a program on this machine may do without.")
    base_url = base_url.rstrip("/")
    return {"base_url": base_url, "ws_url": f"ws{base_url.removeprefix('http')}/ws"}


def mistakes_for(name: str, keys: IbkrCredentials) -> list[dict[str, str]]:
    """What looks wrong in what was entered, also against the keys that the login of this name uses now."""
    login = Login.objects.filter(name=name).first()
    entered = Entered(keys.consumer_key, keys.access_token, keys.access_token_secret)
    return mistakes_of(entered, keys, _in_use(login) if login else None)


def _in_use(login: Login) -> IbkrCredentials | None:
    try:
        return load_credentials(login)
    except (CredentialMissing, CannotDecrypt):
        return None


def try_keys_once(keys: IbkrCredentials, *, environment: str, base_url: str) -> tuple[str, ...]:
    """A dry mint: a live session token, and the accounts that it opens; no brokerage session, nothing is kept.

    Raises BadInput with one sentence on which of the usual mistakes it was; the cause is what the broker said.
    """
    with IbkrClient(base_url, keys) as client:
        try:
            client.mint()
            accounts = client.readable_accounts()
        except BrokerError as refused:
            raise BadInput(why_refused(refused)) from refused
    _check_environment(accounts, environment, "These keys open", "have consumer keys and tokens of their own")
    return accounts


def try_gateway_once(base_url: str, *, environment: str, is_verified: bool) -> tuple[str, ...]:
    """The accounts of whoever is signed in at the gateway; no brokerage session, nothing is kept.

    Raises ManualLoginRequired where nobody is, BrokerUnavailable where no gateway answers, or BadInput.
    """
    with IbkrClient(base_url, GatewayAccess(is_verified=is_verified)) as client:
        client.mint()
        accounts = client.readable_accounts()
    _check_environment(accounts, environment, "Whoever is signed in opens", "are signed in each by itself")
    return accounts


def _check_environment(accounts: tuple[str, ...], environment: str, who: str, why: str) -> None:
    is_paper = {each.upper().startswith(PAPER_PREFIX) for each in accounts}
    if is_paper != {environment == Environment.PAPER}:
        found = {(True,): "paper", (False,): "live", (): "no"}.get(tuple(is_paper), "paper and live")
        words = f"{who} {found} accounts, and the login is entered as {environment}: "
        raise BadInput(f"{words}paper and live usernames {why}.")
