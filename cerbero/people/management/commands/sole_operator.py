"""`manage.py sole_operator enter|leave|passkey|show`: one person in place of two, or two again.

`enter erin` lets erin decide alone, by passkey and after a delay; `leave` undoes it; `passkey` confirms the first
passkey of a sole operator, whom nobody else could confirm. Each is told to everybody and stands in the trail.
"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from cerbero.access import SERVER
from cerbero.errors import CerberoError
from cerbero.models import User
from cerbero.people import changes, profile


class Command(BaseCommand):
    """The one way into the profile after set-up; there is no page and no tool for it."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("do", choices=["enter", "leave", "passkey", "show"])
        parser.add_argument("operator", nargs="?", help="for `enter`: an Administrator and Approver")
        add_delays(parser)

    def handle(self, *, do: str, operator: str | None, **options: Any) -> None:
        try:
            {"enter": self._enter, "leave": self._leave, "passkey": self._passkey, "show": self._show}[do](
                operator, options
            )
        except CerberoError as refusal:
            raise CommandError(refusal.message) from None

    def _enter(self, operator: str | None, options: dict[str, Any]) -> None:
        person = User.objects.filter(username=operator or "").first()
        if person is None:
            raise CommandError("Name the sole operator, who must exist: `sole_operator enter erin`.")
        with transaction.atomic(durable=True):
            row = profile.enter(actor=SERVER, operator=person, **delays(options))
        self.stdout.write(f"From now on {row}. Everybody is told; live approvals are barred for 24 hours.")

    def _leave(self, operator: str | None, options: dict[str, Any]) -> None:
        profile.leave(actor=SERVER)
        self.stdout.write("Two people decide from now on. Everybody is told.")

    def _passkey(self, operator: str | None, options: dict[str, Any]) -> None:
        row = profile.sole()
        if row is None or row.operator is None:
            raise CommandError("Two people decide: an Administrator confirms a new passkey.")
        key = changes.confirm_first_passkey(operator=row.operator)
        self.stdout.write(f"Confirmed: {key}. Everybody is told; live approvals are barred for 24 hours.")

    def _show(self, operator: str | None, options: dict[str, Any]) -> None:
        self.stdout.write(f"{profile.sole() or 'two people decide'}")


def add_delays(parser: CommandParser) -> None:
    """The two delays, for this command and for the bootstrap."""
    parser.add_argument("--order-delay-seconds", type=int, default=profile.ORDER_DELAY_SECONDS)
    parser.add_argument("--change-delay-seconds", type=int, default=profile.CHANGE_DELAY_SECONDS)


def delays(options: dict[str, Any]) -> dict[str, int]:
    return {name: options[name] for name in ("order_delay_seconds", "change_delay_seconds")}
