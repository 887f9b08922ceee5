"""`manage.py bootstrap_demo`: demo people, one bot and one login at the simulator; once, and never twice."""

import json
import secrets
from collections.abc import Iterator
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from audit.services import record
from brokers.credentials import store_credential
from brokers.models import Account, Instrument, Login, Subscription
from brokers.simulator.universe import starting_price
from cerbero.access import DEFAULT_SCOPES, issue_token, system
from cerbero.models import Bot, Environment, User
from orders.models import Limits
from orders.trading import ensure_states

ACTOR = system("bootstrap")
# Alice owns the bot, so she cannot decide on what it proposes; bob and carol can.
PEOPLE = {
    "alice": ("Operator", "Approver"),
    "bob": ("Operator", "Approver"),
    "carol": ("Administrator", "Approver"),
    "dave": ("Auditor",),
}
OWNER, BOT, LOGIN = "alice", "scanner-alpha", "simulator"
WATCHED = ("AAPL", "MSFT", "NVDA", "AMZN", "GOOGL", "TSLA", "IBM", "JPM", "SPY", "QQQ")
TOKEN_DAYS = 90
# Above any ask that the simulator's walk comes to, and well within the collar.
EXAMPLE_MARK_UP = Decimal("1.02")


class Command(BaseCommand):
    """Runs as the application's role, after prepare_database. A second run changes nothing and prints no secret."""

    help = __doc__ or ""
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--credentials", type=Path, required=True, help="the simulator's credentials.json"
        )
        parser.add_argument("--tools-url", default="http://localhost:8001", help="where bots' tools answer")
        parser.add_argument("--json", action="store_true", help="print one line of JSON")

    def handle(self, *, credentials: Path, tools_url: str, **options: Any) -> None:
        if settings.LIVE_TRADING != "disabled":
            raise CommandError("Demo people do not go with LIVE_TRADING=enabled.")
        told = json.loads(credentials.read_text())
        with transaction.atomic(durable=True):
            passwords = dict(_ensure_people())
            bot, token = _ensure_bot()
            login = _ensure_login(told)
            _ensure_accounts(login, bot, told["accounts"])
            _ensure_watch_list(login)
        demo = {
            "people": [
                {"username": name, "groups": groups, "password": passwords.get(name)}
                for name, groups in PEOPLE.items()
            ],
            "bot": bot.name,
            "token": token,
            "accounts": told["accounts"],
            "curl": example(tools_url, told["accounts"][0], token),
        }
        demo["text"] = text(demo)
        self.stdout.write(json.dumps(demo) if options["json"] else demo["text"])


def text(demo: dict[str, Any]) -> str:
    """What a newcomer reads: who to be, and what to try."""
    lines = ["Sign in as"]
    for person in demo["people"]:
        known = person["password"] or "(password as first printed)"
        lines.append(f"    {person['username']:<7}{known:<30}{', '.join(person['groups'])}")
    if demo["token"]:
        lines.append("These passwords and the token below are shown this once and stored nowhere.")
    else:
        lines.append(
            "A new password: .venv/bin/python manage.py changepassword bob. A new token: carol, in admin."
        )
    lines += [
        f"Propose an order as the bot {demo['bot']}, which {OWNER} owns; then approve it as bob:",
        f"    {demo['curl']}",
    ]
    return "\n".join(lines)


def example(tools_url: str, account: str, token: str | None) -> str:
    """A curl that proposes an order near the market; each call is an order of its own."""
    symbol = WATCHED[0]
    price = starting_price(symbol) * EXAMPLE_MARK_UP
    order = {
        "account": account,
        "symbol": symbol,
        "side": "buy",
        "quantity": "10",
        "order_type": "limit",
        "limit_price": str(price.quantize(Decimal("0.01"), ROUND_UP)),
        "idempotency_key": "try-'$(date +%s)'",
        "reason": "trying it out",
    }
    return (
        f"curl -s {tools_url}/tools/place_order"
        f' -H "Authorization: Bearer {token or "$CERBERO_TOKEN"}" -H "X-Bot-Tag: demo"'
        f" -H 'Content-Type: application/json' -d '{json.dumps(order)}'"
    )


def _ensure_people() -> Iterator[tuple[str, str]]:
    """Make whoever is missing; yields the new ones with their passwords."""
    for name, groups in PEOPLE.items():
        if User.objects.filter(username=name).exists():
            continue
        found = list(Group.objects.filter(name__in=groups))
        if len(found) != len(groups):
            raise CommandError("The groups are missing; run `manage.py prepare_database` first.")
        password = secrets.token_urlsafe(15)
        user = User.objects.create_user(name, password=password, first_name=name.title(), is_staff=True)
        user.groups.set(found)
        _record("user.created", "user", user.pk, {"username": name, "groups": groups})
        yield name, password


def _ensure_bot() -> tuple[Bot, str | None]:
    """The bot, and its token when both were made just now."""
    owner = User.objects.get(username=OWNER)
    bot, made = Bot.objects.get_or_create(
        name=BOT, defaults={"owner": owner, "environment": Environment.PAPER}
    )
    ensure_states(bot=bot)
    if not made:
        return bot, None
    _record("bot.created", "bot", bot.pk, {"name": BOT, "owner": OWNER})
    token = issue_token(bot, days=TOKEN_DAYS, label="made at the first start")
    details = {
        "prefix": token.split("_")[1],
        "scopes": sorted(DEFAULT_SCOPES),
        "days": TOKEN_DAYS,
        "environment": bot.environment,
    }
    _record("token.issued", "bot", bot.pk, details)
    return bot, token


def _ensure_login(told: dict[str, Any]) -> Login:
    """The login with the simulator's keys, pointed at where the simulator listens now."""
    urls = {name: told[name] for name in ("base_url", "ws_url")}
    login, made = Login.objects.get_or_create(name=LOGIN, defaults={"environment": Environment.PAPER, **urls})
    if made:
        _record("login.created", "login", login.pk, {"name": LOGIN, **urls})
    elif urls != {name: getattr(login, name) for name in urls}:
        Login.objects.filter(pk=login.pk).update(**urls)
        _record("login.moved", "login", login.pk, {"name": LOGIN, **urls})
    keys = {name: told[name] for name in ("consumer_key", "access_token")}
    # In whatever status: keys that a rotation replaced must not come back.
    if not login.credentials.filter(**keys).exists():
        store_credential(
            actor=ACTOR,
            login=login,
            signature_key_pem=Path(told["signature_key_path"]).read_bytes(),
            encryption_key_pem=Path(told["encryption_key_path"]).read_bytes(),
            dh_prime=told["dh_prime"],
            access_token_secret=told["access_token_secret"],
            **keys,
        )
    return login


def _ensure_accounts(login: Login, bot: Bot, names: list[str]) -> None:
    """The accounts with their limits. Whether they are paper is the broker's word, which the session brings."""
    for name in names:
        account, made = Account.objects.get_or_create(login=login, broker_account_id=name)
        _, limited = Limits.objects.get_or_create(account=account)
        ensure_states(account, bot)
        if made or limited:
            _record("account.added", "account", account.pk, {"account": name})


def _ensure_watch_list(login: Login) -> None:
    for symbol in WATCHED:
        instrument, made = Instrument.objects.get_or_create(
            symbol=symbol, asset_class="STK", currency="USD", defaults={"is_allowed": True}
        )
        if made:
            _record("instrument.allowed", "instrument", instrument.pk, {"symbol": symbol})
            # Only then: what a person took off the list stays off.
            Subscription.objects.create(login=login, instrument=instrument)


def _record(event: str, kind: str, subject_id: UUID, details: dict[str, Any]) -> None:
    record(event, actor=ACTOR, subject_kind=kind, subject_id=subject_id, details=details)
