"""Whether this database lies behind its anchor: it was restored from a backup, or cut (gates.md §8)."""

import re
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path

from audit.models import Link

# What was lost lies right before the restore: the newest notes are enough, however old the anchor is.
NOTES_MAX = 5000
_NOTE = re.compile(rb"cerbero/[^\n]+\n(\d+)\n([^\n]+)\n\n[^\n]+\n")
_BYTES_MAX = NOTES_MAX * 400


@dataclass(frozen=True)
class Lost:
    """The newest head that the anchor holds and the database does not."""

    position: int
    digest: str


def lost_head(anchor: Path) -> Lost | None:
    """None where the database holds every head that the anchor's end holds, or there is no anchor yet.

    Raises OSError when the file is there and cannot be read: then nothing is known.
    """
    if not anchor.exists():
        return None
    with anchor.open("rb") as file:
        file.seek(max(0, anchor.stat().st_size - _BYTES_MAX))
        notes = [(int(each[1]), b64decode(each[2]).hex()) for each in _NOTE.finditer(file.read())]
    held = dict(
        Link.objects.filter(position__in={position for position, _ in notes}).values_list(
            "position", "digest"
        )
    )
    lost = [(position, digest) for position, digest in notes if held.get(position) != digest]
    return Lost(*max(lost)) if lost else None
