"""`manage.py halt_trading`: the kill switch for a terminal; it needs Postgres and the broker, not the web."""

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from brokers.models import Account
from cerbero import access, plain
from cerbero.errors import CerberoError
from cerbero.models import Bot, User
from orders import halting
from orders.models import HaltMode, TradingState

Scope = TradingState.Scope
WORDS = {"everything": Scope.EVERYTHING, "broker": Scope.BROKER, "account": Scope.ACCOUNT, "bot": Scope.BOT}


def scope_of(text: str) -> tuple[str, str]:
    """`everything`, `broker:ibkr`, `account:DU1234567` or `bot:scanner-alpha`, as the row's key."""
    word, _, name = text.partition(":")
    if word not in WORDS or bool(name) != (word != "everything"):
        raise ArgumentTypeError("everything, broker:NAME, account:NUMBER or bot:NAME")
    return WORDS[word], name


class Command(BaseCommand):
    """Halt now; prints what is proven. Exit code 1 while something is still open: the orders loop goes on."""

    help = __doc__ or ""
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--scope", type=scope_of, default=(Scope.EVERYTHING, ""), help=(scope_of.__doc__ or "")
        )
        parser.add_argument("--mode", choices=HaltMode.values, default=HaltMode.STOP_AND_CANCEL_OPENING)
        parser.add_argument("--reason", required=True)
        parser.add_argument("--by", metavar="USERNAME", help="who you are; flatten needs it: a person closes")
        parser.add_argument("--drill", action="store_true")
        parser.add_argument("--wait", type=float, default=30.0, metavar="SECONDS")
        parser.add_argument("--json", action="store_true", help="the whole report, for a program")

    def handle(self, **options: Any) -> None:
        scope, name = options["scope"]
        try:
            report = halting.halt_trading(
                actor=_actor(options["by"]),
                scope=scope,
                scope_id=_row_id(scope, name),
                mode=options["mode"],
                reason=options["reason"],
                is_drill=options["drill"],
                wait_seconds=options["wait"],
            )
        except CerberoError as refusal:
            raise CommandError(f"{refusal.message} ({refusal.code})") from None
        self.stdout.write(plain.dumps(report) if options["json"] else _told(report))
        if report["problems"] or report["still_open"]:
            raise CommandError("Not everything is proven yet; the orders process goes on.", returncode=1)


def _actor(username: str | None) -> access.Actor:
    if username is None:
        return access.system("terminal")
    user = User.objects.filter(username=username, is_active=True).first()
    if user is None:
        raise CommandError(f"There is no active user {username}.")
    return access.person(user, door="terminal")


def _row_id(scope: str, name: str) -> str:
    rows = {
        Scope.ACCOUNT: Account.objects.filter(broker_account_id=name),
        Scope.BOT: Bot.objects.filter(name=name),
    }
    if scope not in rows:
        return name
    found = list(rows[Scope(scope)][:2])
    if len(found) != 1:
        raise CommandError(f"{len(found)} rows are named {name}; exactly one is needed.")
    return str(found[0].pk)


def _told(report: dict[str, Any]) -> str:
    lines = [f"Halted in {report['seconds_to_halt']} s. Nothing new leaves."]
    lines += [
        f"  {row['action']}  {row['what']} ({row['broker_order_id']}): {row['fate']}"
        for row in report["orders"]
    ]
    lines += [f"In flight: {each}" for each in report["unsettled"]]
    lines += [
        f"CANNOT REACH {each['login']}: {each['message']} ({each['tries']} tries). Call the trade desk, or use "
        "`manage.py break_glass`."
        for each in report["problems"]
    ]
    proven = {True: "proven", False: "NOT PROVEN"}
    lines.append(f"No working orders: {proven[report['no_working_orders']]}. Flat: {proven[report['flat']]}.")
    return "\n".join(lines)
