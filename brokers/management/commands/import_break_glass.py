"""`manage.py import_break_glass JOURNAL`: bring what was done without the database into the trail."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from audit.models import Entry
from audit.services import record
from brokers.break_glass import read_journal
from cerbero import access
from cerbero.errors import BadInput

SUBJECT = "breakglass"


class Command(BaseCommand):
    """One entry a line, each once however often it is imported; a journal that was changed is refused whole."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("journal", type=Path)

    def handle(self, *, journal: Path, **options: Any) -> None:
        try:
            rows = read_journal(journal.read_text())
        except (OSError, UnicodeDecodeError) as problem:
            raise CommandError(f"{journal} cannot be read: {type(problem).__name__}") from None
        except BadInput as refusal:
            raise CommandError(f"{refusal.message} {refusal.details}") from None
        actor, count = access.system("break_glass"), 0
        with transaction.atomic():
            for row in rows:
                subject = f"{row['journal']}:{row['number']}"
                if Entry.objects.filter(subject_kind=SUBJECT, subject_id=subject).exists():
                    continue
                details = {"at": row["at"], **row["details"]}
                record(row["step"], actor=actor, subject_kind=SUBJECT, subject_id=subject, details=details)
                count += 1
        self.stdout.write(f"{count} of {len(rows)} lines imported; the others were in the trail already.")
