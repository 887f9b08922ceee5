"""A machine's key in its file: the newest first, on a line of its own; and seeing one that came after this process began."""

import os
from pathlib import Path


def written_since(path: Path | None, stamp: int) -> str:
    """What the file holds now, where it was written since `stamp`; else nothing: there is no news, or no file."""
    try:
        return "" if path is None or path.stat().st_mtime_ns == stamp else path.read_text()
    except OSError:
        return ""


def write_key(path: Path, text: str) -> None:
    """Replace a secret's file in one step, with the mode that it had."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    # What is written under the new key is on disk at its commit: so must be the key.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
