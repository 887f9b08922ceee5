"""`manage.py doctor`: is this installation whole, from the browser's address to the broker? Changes and places nothing."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import httpx
from django.conf import settings
from django.contrib.auth.models import Group
from django.core import checks
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from audit import verifying
from brokers.credentials import open_credential
from brokers.models import Account, Credential, Login, SessionState
from brokers.proving import ask_what_if
from brokers.services import broker_for
from brokers.ways import Usability, WayIn
from cerbero import health
from cerbero.errors import CerberoError
from cerbero.models import User
from cerbero.people import passkeys, profile
from cerbero.people.models import Passkey
from keyrotation import calendar
from orders import policies
from orders.models import Limits

Level = Literal["ok", "warn", "fail"]
WEB_SECONDS = 5.0
LAG_SECONDS_MAX = 60
FAILED = 1


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `detail` says what was seen or, where it is not well, what to do."""

    level: Level
    name: str
    detail: str


class Command(BaseCommand):
    """Look at settings, servers, processes, web, secrets, the trail, people, rules, and each login at its broker.

    Exit code 0 when nothing failed, 1 otherwise. The broker is asked for accounts, positions and one what-if, within
    the shared pace; nothing is placed, changed or brought up. Run it as any process of ours runs.
    """

    help = __doc__ or ""
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
        parser.add_argument(
            "--url", default=settings.PUBLIC_URL, help="where people reach it; default: PUBLIC_URL"
        )
        parser.add_argument("--without-broker", action="store_true", help="leave the brokers alone")

    def handle(self, *, url: str, without_broker: bool, **options: Any) -> None:
        looks = [
            _settings,
            lambda: _web(url),
            _database,
            _processes,
            _gateways,
            _secrets,
            _trail,
            _people,
            _rules,
        ]
        found = [each for look in looks for each in _looked(look)]
        if not without_broker and _database_answers(found):
            found += _looked(_brokers)
        counts = {level: sum(each.level == level for each in found) for level in ("ok", "warn", "fail")}
        if options["json"]:
            self.stdout.write(json.dumps({"findings": [asdict(each) for each in found], **counts}))
        else:
            for each in found:
                self.stdout.write(f"{each.level:4}  {each.name}: {each.detail}")
            self.stdout.write(f"{counts['ok']} well, {counts['warn']} to look at, {counts['fail']} failed.")
        if counts["fail"]:
            sys.exit(FAILED)


def _looked(look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """All that a look finds; one that breaks off is a finding, too."""
    found: list[Finding] = []
    try:
        found.extend(look())
    except CerberoError as refusal:
        found.append(Finding("fail", look.__name__.strip("_"), refusal.message))
    except (DatabaseError, OSError) as error:
        # The kind alone: a driver's message may hold a host, a user or a path.
        found.append(Finding("fail", look.__name__.strip("_"), f"broke off: {type(error).__name__}"))
    return found


def _database_answers(found: list[Finding]) -> bool:
    return not any(each.name == "postgres" and each.level == "fail" for each in found)


def _settings() -> Iterator[Finding]:
    problems = checks.run_checks(include_deployment_checks=not settings.EMBEDDED_SERVERS)
    for each in problems:
        level: Level = "fail" if each.level >= checks.ERROR else "warn"
        yield Finding(level, f"settings {each.id}", " ".join(filter(None, (str(each.msg), each.hint))))
    if not problems:
        yield Finding("ok", "settings", f"whole; live trading is {settings.LIVE_TRADING}")


def _web(url: str) -> Iterator[Finding]:
    started = time.perf_counter()
    try:
        answer = httpx.get(f"{url.rstrip('/')}/health", timeout=WEB_SECONDS)
        is_ours = answer.status_code == 200 and answer.json().get("status") == "alive"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        yield Finding("fail", "web", f"{url} does not answer ({type(error).__name__}); is PUBLIC_URL right?")
        return
    took = round((time.perf_counter() - started) * 1000)
    if is_ours:
        yield Finding("ok", "web", f"{url} answers in {took} ms")
    else:
        yield Finding("fail", "web", f"{url} answers {answer.status_code}, and not as Cerbero does")


def _database() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        yield Finding("fail", "migrations", f"{len(missing)} not applied: run manage.py prepare_database")
    else:
        yield Finding("ok", "migrations", "all applied")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolsuper OR rolcreaterole OR rolbypassrls, current_user, extract(epoch FROM clock_timestamp())"
            " FROM pg_roles WHERE rolname = current_user"
        )
        is_mighty, role, at = cursor.fetchone()
    skew = abs(time.time() - float(at))
    yield Finding(
        "warn" if is_mighty else "ok", "database role", f"{role}{', which may do anything' * is_mighty}"
    )
    yield Finding("fail" if skew > 1 else "ok", "clock", f"{skew:.2f} s from the database's")


def _processes() -> Iterator[Finding]:
    """What the health page knows: servers, processes, tasks, logins."""
    found = health.examine()
    for each in found["dependencies"]:
        yield Finding("ok" if each["is_ok"] else "fail", each["name"], each.get("detail") or "well")
    for each in found["logins"]:
        words = f"{each['state']}. {each['detail']}".strip(" .")
        yield Finding("ok" if each["is_ok"] else "fail", f"login {each['name']}", words)
    if not found["logins"]:
        yield Finding("warn", "logins", "none is entered: manage.py ibkr_setup")


def _gateways() -> Iterator[Finding]:
    """Logins whose person signs in by hand: what is special about them."""
    for login in Login.objects.filter(is_enabled=True, way_in=WayIn.GATEWAY).order_by("name"):
        words = f"by {login.base_url}; {login.usability.label}"
        if not login.is_verified:
            words += "; its certificate is not verified, since it is a program on this machine"
        until = login.session_token_expires_at
        words += f"; IBKR asks for the person again by {until:%Y-%m-%d %H:%M} UTC" if until else ""
        is_usable = login.usability == Usability.USABLE
        yield Finding("ok" if is_usable else "warn", f"gateway of {login.name}", words)


def _secrets() -> Iterator[Finding]:
    used = [Credential.Status.ACTIVE, Credential.Status.STAGED]
    rows = list(Credential.objects.filter(status__in=used).select_related("login"))
    for row in rows:
        try:
            open_credential(row)
        except CerberoError as refusal:
            yield Finding("fail", f"keys of {row.login.name}", refusal.message)
    late = [each for each in calendar.ages() if each.is_late or each.is_soon]
    for each in late:
        yield Finding(
            "warn", f"{each.kind} {each.name}", f"due {each.due_at:%Y-%m-%d}: replace it at {each.path}"
        )
    yield Finding("ok", "secrets", f"{len(rows)} sets of broker keys, {len(late)} secrets due within a month")


def _trail() -> Iterator[Finding]:
    anchor = settings.ANCHOR_PATH
    verdict = verifying.verify(anchor=anchor, public_key=anchor.with_name(f"{anchor.name}.pub"))
    if verdict.problem:
        yield Finding("fail", "audit trail", f"{verdict.problem['message']} ({verdict.problem['code']})")
    elif verdict.unsealed and verdict.lag_seconds > LAG_SECONDS_MAX:
        yield Finding(
            "fail", "audit trail", f"unsealed for {verdict.lag_seconds:.0f} s: is the sealer running?"
        )
    else:
        yield Finding("ok", "audit trail", f"whole, {verdict.entries} entries, {verdict.anchored} anchored")


def _people() -> Iterator[Finding]:
    counts = {
        name: User.objects.filter(is_active=True, groups__name=name).distinct().count()
        for name in Group.objects.filter(name__in=["Administrator", "Approver"]).values_list(
            "name", flat=True
        )
    }
    wanted = 1 if profile.sole() else 2
    for name in ("Administrator", "Approver"):
        have = counts.get(name, 0)
        words = f"{have}; {wanted} are needed to decide for each other"
        yield Finding("ok" if have >= wanted else "warn", f"{name.lower()}s", words)
    if settings.LIVE_TRADING == "enabled":
        keys = Passkey.objects.usable().filter(person__is_active=True, person__groups__name="Approver")
        holders = len({key.person_id for key in keys if passkeys.is_sealed(key)})
        level: Level = "ok" if holders >= wanted else "fail"
        yield Finding(level, "passkeys", f"{holders} approvers can sign for live orders; {wanted} are needed")


def _rules() -> Iterator[Finding]:
    for account in Account.objects.exclude(pk__in=Limits.objects.values("account_id")).order_by("pk"):
        yield Finding("warn", f"limits of {account}", "none are set: every order of it is refused")
    version, rules = policies.active()
    yield Finding("ok", "policy", f"version {version.number} with {len(rules)} rules proves itself")


def _brokers() -> Iterator[Finding]:
    """Per login whose session is up: a signed read and a what-if, which the broker judges and does not keep."""
    for login in Login.objects.filter(is_enabled=True, state=SessionState.UP).order_by("name"):
        started = time.perf_counter()
        account = Account.objects.filter(login=login).order_by("broker_account_id").first()
        try:
            with broker_for(login) as broker:
                listed = broker.listed_accounts()
                if account is not None:
                    broker.positions(account.broker_account_id)
                    ask_what_if(broker, login, account)
        except CerberoError as refusal:
            yield Finding("fail", f"broker of {login.name}", refusal.message)
            continue
        took = round((time.perf_counter() - started) * 1000)
        words = f"{len(listed.broker_account_ids)} accounts, positions and a what-if in {took} ms"
        yield Finding("ok", f"broker of {login.name}", words)
