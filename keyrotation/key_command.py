"""What the commands have in common that replace a key of this machine which lives in a file."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, transaction

from audit.services import record
from cerbero import access
from cerbero.key_files import write_key
from keyrotation.renewing import Made, renew_all

LOCK = "cerbero replaces "
AFTER = "Restart every process, so that all of them use the new key; then run this with --finish."


class KeyCommand(BaseCommand):
    """A new key goes before the old one in its file and everything is made anew under it; --finish takes the old one out."""

    setting: str
    event: str
    columns: Iterable[Made]

    def new_key(self) -> str:
        """A key that nobody has seen."""
        raise NotImplementedError

    def keys(self) -> list[str]:
        """The keys that this process was given, the newest first."""
        raise NotImplementedError

    def use(self, keys: list[str]) -> None:
        """Take these for this process."""
        raise NotImplementedError

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--finish", action="store_true", help="after the restart: drop the old keys")

    def handle(self, *, finish: bool, **options: Any) -> None:
        with _alone(self.setting):
            self._handle(finish, getattr(settings, f"{self.setting}_PATH"), self.keys())

    def _handle(self, finish: bool, path: Path | None, keys: list[str]) -> None:
        _require_unchanged(path, keys)
        if finish:
            self._renew()
            self._drop(path, keys)
            return
        if len(keys) == 1:
            if path is None:
                raise CommandError(
                    f"{self.setting} stands in the environment: put a new key and a space before the old one there, "
                    "restart every process, and run this again."
                )
            keys = [self.new_key(), *keys]
            _write(path, keys)
            self.use(keys)
        self._renew()
        self.stdout.write(AFTER)

    def _renew(self) -> None:
        outcomes = renew_all(self.columns)
        for each in outcomes:
            self.stdout.write(
                f"{each.column}: {each.renewed} put under the new key, {each.left} were already"
            )
        unreadable = [f"{each.column} ({each.unreadable})" for each in outcomes if each.unreadable]
        if unreadable:
            raise CommandError(f"No key here opens {', '.join(unreadable)}; nothing was dropped.")
        with transaction.atomic():
            record(
                self.event,
                actor=access.system(f"rotate_{self.setting.lower()}"),
                subject_kind="systemkey",
                subject_id=self.setting,
                details={each.column: each.renewed for each in outcomes},
            )

    def _drop(self, path: Path | None, keys: list[str]) -> None:
        if len(keys) == 1:
            self.stdout.write("There is one key only, and everything is under it.")
        elif path is None:
            self.stdout.write(f"Everything is under the first key: take the others out of {self.setting}.")
        else:
            _write(path, keys[:1])
            self.stdout.write(f"{path} holds the new key alone. Keep a copy of it elsewhere.")


@contextmanager
def _alone(setting: str) -> Iterator[None]:
    """Two runs at once would each make a key, and the file would keep one: what is under the other would be lost."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [LOCK + setting])
        if not cursor.fetchone()[0]:
            raise CommandError(f"Another run is replacing {setting} now; wait until it is done.")
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(hashtext(%s))", [LOCK + setting])


def _require_unchanged(path: Path | None, keys: list[str]) -> None:
    """What this process was given must be what stands in the file: it is about to be written anew."""
    try:
        is_same = path is None or path.read_text().split() == keys
    except OSError:
        # Writing it says why, and what to do.
        return
    if not is_same:
        raise CommandError(f"{path} was changed since this command began: run it again.")


def _write(path: Path, keys: list[str]) -> None:
    try:
        write_key(path, "\n".join(keys))
    except OSError as problem:
        raise CommandError(
            f"{path} cannot be written ({problem.strerror}): put a new key on a line before the old one there, or after "
            "--finish take the old one out; restart every process, and run this again."
        ) from None
