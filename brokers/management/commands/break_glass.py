"""`manage.py break_glass`: cancel every order at the broker when nothing of Cerbero runs."""

import getpass
import os
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import django
from django.core.management.base import BaseCommand, CommandError, CommandParser

from brokers.break_glass import Journal, stop_everything
from brokers.sealed_bundle import seal, unseal
from cerbero.errors import CerberoError


class Command(BaseCommand):
    """Opens the sealed bundle, mints its own session, cancels, proves, lists positions, and journals each step.

    Make the bundle ahead of time, and again after each rotation of keys, with --seal: that alone needs the
    database. Exit code 1 while it is not proven that no order works.
    """

    help = __doc__ or ""
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bundle", type=Path, required=True, metavar="FILE")
        parser.add_argument("--seal", action="store_true", help="make the bundle from the enabled logins")
        parser.add_argument("--trade-desk", default="", metavar="NUMBER", help="with --seal: kept and shown")
        parser.add_argument("--passphrase-file", type=Path, metavar="FILE", help="instead of asking for it")
        parser.add_argument("--journal", type=Path, metavar="FILE")
        parser.add_argument("--login", action="append", metavar="NAME", help="only this one; may be repeated")
        parser.add_argument("--take-over", action="store_true", help="evict another platform's session")
        parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on for each login")

    def handle(self, **options: Any) -> None:
        passphrase = _passphrase(options["passphrase_file"], twice=options["seal"])
        try:
            if options["seal"]:
                self._seal(options["bundle"], passphrase, options["trade_desk"])
            else:
                self._break(passphrase, options)
        except CerberoError as refusal:
            raise CommandError(f"{refusal.message} ({refusal.code})") from None

    def _seal(self, path: Path, passphrase: str, trade_desk: str) -> None:
        django.setup()
        logins, without = _logins()
        if without:
            self.stdout.write(f"NOT IN THE BUNDLE, for want of keys: {', '.join(without)}.")
        if not logins:
            raise CommandError("There is no enabled login with an active credential.")
        seal(path, passphrase, {"logins": logins, "trade_desk": trade_desk})
        _record_sealing([login["name"] for login in logins])
        self.stdout.write(
            f"{path}: {', '.join(login['name'] for login in logins)}. Keep it off this machine, too."
        )

    def _break(self, passphrase: str, options: dict[str, Any]) -> None:
        content, made_at = unseal(options["bundle"], passphrase)
        number = content.get("trade_desk") or "not in the bundle; look at the broker's site"
        self.stdout.write(f"The broker's trade desk: {number}")
        self.stdout.write(f"The bundle is of {made_at:%Y-%m-%d %H:%M} UTC.")
        path = options["journal"] or Path(f"break-glass-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl")
        wanted = _wanted(content["logins"], options["login"])
        say = lambda words: self.stdout.write(words)  # noqa: E731
        journal = Journal(path, say)
        try:
            journal.write(
                "glass.broken",
                by=_who(),
                bundle_of=made_at.isoformat(),
                logins=[w["name"] for w in wanted],
            )
            is_proven = stop_everything(
                wanted, journal, say, seconds=options["seconds"], take_over=options["take_over"]
            )
            journal.write("glass.ended", is_proven=is_proven)
            is_kept = journal.is_kept
        finally:
            journal.close()
        if is_kept:
            self.stdout.write(f"The journal is {path}; later: manage.py import_break_glass {path}")
        if not is_proven:
            raise CommandError(f"NOT PROVEN. Call the trade desk: {number}", returncode=1)


def _wanted(logins: list[dict[str, Any]], names: list[str] | None) -> list[dict[str, Any]]:
    known = [login["name"] for login in logins]
    if unknown := sorted(set(names or ()) - set(known)):
        raise CommandError(f"Not in the bundle: {', '.join(unknown)}. It has: {', '.join(known)}.")
    return [login for login in logins if not names or login["name"] in names]


def _who() -> str:
    """Who runs it; a container's user may have no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def _passphrase(path: Path | None, *, twice: bool) -> str:
    if path is not None:
        try:
            return path.read_text().strip()
        except OSError as problem:
            raise CommandError(f"{path} cannot be read: {type(problem).__name__}") from None
    given = getpass.getpass("Passphrase: ")
    if twice and getpass.getpass("Once more: ") != given:
        raise CommandError("The two differ.")
    return given


def _logins() -> tuple[list[dict[str, Any]], list[str]]:
    """What goes into the bundle, and the names of enabled logins that cannot."""
    from brokers.credentials import load_credentials
    from brokers.models import Login
    from brokers.ways import WayIn
    from cerbero.errors import CredentialMissing

    found, without = [], []
    for login in Login.objects.filter(is_enabled=True).order_by("name"):
        try:
            # A gateway's login has none: whoever stops everything signs in there.
            credentials = None if login.way_in == WayIn.GATEWAY else _shown(load_credentials(login))
        except CredentialMissing:
            without.append(login.name)
            continue
        accounts = list(login.accounts.values_list("broker_account_id", flat=True))
        found.append(
            {
                "name": login.name,
                "environment": login.environment,
                "base_url": login.base_url,
                "is_verified": login.is_verified,
                "accounts": accounts,
                "credentials": credentials,
            }
        )
    return found, without


def _shown(keys: Any) -> dict[str, str]:
    return {
        "consumer_key": keys.consumer_key,
        "access_token": keys.access_token,
        "access_token_secret": keys.access_token_secret,
        "dh_prime": f"{keys.dh_prime:x}",
        "signature_key_pem": b64encode(keys.signature_key_pem).decode(),
        "encryption_key_pem": b64encode(keys.encryption_key_pem).decode(),
    }


def _record_sealing(names: list[str]) -> None:
    from audit.services import record
    from cerbero import access

    record(
        "bundle.sealed", actor=access.system("break_glass"), subject_kind="login", details={"logins": names}
    )
