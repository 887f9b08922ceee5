"""What the broker lists below a login, and whether it is paper or live: the broker's word, never ours."""

import re

from django.db import transaction

from audit.services import record
from brokers.base import ListedAccounts
from brokers.models import Account, Login
from cerbero.access import Actor
from cerbero.leases import ClockTime
from cerbero.models import Environment

# Paper ids begin with D: DU…, DF… for advisors (ibkr-web-api.md §9).
PAPER_PREFIX = "D"
CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)


def environment_of(broker_account_id: str, is_paper: bool | None) -> str:
    """Paper or live where the broker's flag and the account's id say the same; "" is unknown: no orders."""
    says_paper = broker_account_id.upper().startswith(PAPER_PREFIX)
    if is_paper is None or is_paper != says_paper:
        return ""
    return Environment.PAPER if is_paper else Environment.LIVE


def store_accounts(login: Login, listed: ListedAccounts, actor: Actor) -> str:
    """Keep what is listed, within the caller's transaction; returns why it does not fit the login, or "".

    An account that is listed no longer loses its environment, and so its orders.
    """
    found = {each: environment_of(each, listed.is_paper) for each in listed.broker_account_ids}
    before = dict(Account.objects.filter(login=login).values_list("broker_account_id", "environment"))
    Account.objects.bulk_create(
        [
            Account(login=login, broker_account_id=each, environment=environment, listed_at=ClockTime())
            for each, environment in found.items()
        ],
        update_conflicts=True,
        unique_fields=["login", "broker_account_id"],
        update_fields=["environment", "listed_at"],
    )
    gone = [each for each, environment in before.items() if environment and each not in found]
    Account.objects.filter(login=login, broker_account_id__in=gone).update(environment="")
    now = found | dict.fromkeys(gone, "")
    for each, environment in now.items():
        if before.get(each) != environment:
            _record(login, each, before.get(each), environment, actor)
    return _mismatch(login, listed, found)


def store_currency(account: Account, currency: str, actor: Actor) -> None:
    """The account's base currency, as the broker gives its money; what is no currency code changes nothing."""
    if not CURRENCY.fullmatch(currency):
        return
    with transaction.atomic():
        before = account.currency
        if Account.objects.filter(pk=account.pk).exclude(currency=currency).update(currency=currency):
            record(
                "account.currency_changed",
                actor=actor,
                subject_kind="account",
                subject_id=account.pk,
                details={"account": account.broker_account_id, "from": before, "to": currency},
            )
    account.currency = currency


def _mismatch(login: Login, listed: ListedAccounts, found: dict[str, str]) -> str:
    if not found:
        return "The broker lists no account for this login."
    if listed.is_paper is None:
        return "The broker does not say whether this login is paper or live."
    wrong = sorted(each for each, environment in found.items() if environment != login.environment)
    if not wrong:
        return ""
    said = "paper" if listed.is_paper else "live"
    return f"The login is entered as {login.environment}, and the broker says {said} for {', '.join(wrong)}."


def _record(login: Login, account: str, before: str | None, after: str, actor: Actor) -> None:
    record(
        "account.listed" if before is None else "account.environment_changed",
        actor=actor,
        subject_kind="login",
        subject_id=login.pk,
        details={"account": account, "from": before, "to": str(after)},
    )
