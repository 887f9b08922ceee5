"""Entering a login by hand: trying its keys at the broker, and keeping them."""

from typing import Any
from urllib.parse import urlsplit

from django.db import transaction

from audit.services import record
from brokers.accounts import PAPER_PREFIX
from brokers.credentials import load_credentials, store_credential
from brokers.ibkr.client import IbkrClient
from brokers.ibkr.entered import Entered, why_refused
from brokers.ibkr.entered import mistakes as mistakes_of
from brokers.ibkr.limits import THIS_MACHINE
from brokers.ibkr.oauth import IbkrCredentials
from brokers.models import Login
from cerbero.access import Actor
from cerbero.errors import BadInput, BrokerError, CannotDecrypt, CredentialMissing, StateConflict
from cerbero.models import Environment


def enter_login(
    *, actor: Actor, name: str, environment: str, places: dict[str, str], **keys: Any
) -> tuple[Login, bool]:
    """Make a login, or give an existing one new keys; returns it and whether it is new.

    `places` are the addresses that differ from the broker's own. Raises StateConflict or BadInput.
    """
    with transaction.atomic():
        login, is_new = Login.objects.get_or_create(
            name=name, defaults={"environment": environment, "is_enabled": True, **places}
        )
        if login.environment != environment:
            words = f"{name} is entered as {login.environment}; a login never changes that."
            raise StateConflict(words)
        moved = {place: value for place, value in places.items() if getattr(login, place) != value}
        if moved:
            Login.objects.filter(pk=login.pk).update(**moved)
            details = {"login": name, **moved}
            record("login.moved", actor=actor, subject_kind="login", subject_id=login.pk, details=details)
        store_credential(actor=actor, login=login, **keys)
    return login, is_new


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
    try:
        current = load_credentials(login) if login else None
    except (CredentialMissing, CannotDecrypt):
        current = None
    entered = Entered(keys.consumer_key, keys.access_token, keys.access_token_secret)
    return mistakes_of(entered, keys, current)


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
    is_paper = {each.upper().startswith(PAPER_PREFIX) for each in accounts}
    if is_paper != {environment == Environment.PAPER}:
        found = {(True,): "paper", (False,): "live", (): "no"}.get(tuple(is_paper), "paper and live")
        words = (
            f"These keys open {found} accounts, and the login is entered as {environment}: paper and live "
        )
        raise BadInput(words + "usernames have consumer keys and tokens of their own.")
    return accounts
