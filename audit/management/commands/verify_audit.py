"""Say whether the audit trail is whole."""

import json
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from audit import verifying

BROKEN = 2


class Command(BaseCommand):
    help = "Verify the audit trail: 0 when it is whole, 2 when it is broken; names the first fault."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--wait", type=float, metavar="SECONDS", help="until all that is committed by now is sealed"
        )
        parser.add_argument("--anchor", type=Path, default=settings.ANCHOR_PATH, help="default: ANCHOR_PATH")
        parser.add_argument("--public-key", type=Path, help="default: the anchor's name with .pub")

    def handle(self, *, anchor: Path, public_key: Path | None, wait: float | None, **options: Any) -> None:
        is_sealed = wait is None or verifying.wait_until_sealed(wait)
        verdict = verifying.verify(
            anchor=anchor, public_key=public_key or anchor.with_name(f"{anchor.name}.pub")
        )
        if verdict.ok and not is_sealed:
            verdict.ok = False
            verdict.problem = {
                "code": "not_sealed",
                "position": verdict.entries + 1,
                "entry": None,
                "message": f"{verdict.unsealed} entries were not sealed within {wait:g} s; is the sealer running?",
            }
        self.stdout.write(json.dumps(verdict.as_json()) if options["json"] else _sentence(verdict))
        if not verdict.ok:
            sys.exit(BROKEN)


def _sentence(verdict: verifying.Verdict) -> str:
    if verdict.problem:
        place = [f"{key} {verdict.problem[key]}" for key in ("position", "entry") if verdict.problem[key]]
        where = f" at {', '.join(place)}" if place else ""
        return f"The audit trail is broken{where}: {verdict.problem['message']} ({verdict.problem['code']})."
    waiting = (
        f" {verdict.unsealed} entries wait to be sealed, the oldest for {verdict.lag_seconds:.1f} s."
        if verdict.unsealed
        else ""
    )
    return (
        f"The audit trail is whole: {verdict.entries} entries, head {verdict.digest[:16] or 'none'}, "
        f"{verdict.checkpoints} checkpoints, {verdict.anchored} anchored, {verdict.seconds:.2f} s.{waiting}"
    )
