"""The anchor: signed heads of the chain, appended to a file outside the database.

Only it finds a cut tail, a full wipe, or a re-chain by whoever holds the seal key (gates.md §7). Copy it to
another machine: a file is as strong as the host that keeps it.
"""

import errno
import fcntl
import os
import re
from pathlib import Path

_NOTE = re.compile(rb"cerbero/[^\n]+\n(\d+)\n[^\n]+\n\n[^\n]+\n")


class KeyMismatch(Exception):
    """The anchor was begun with another seal key."""


class Anchor:
    """An append-only file of checkpoints, flushed to the disk before `append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.public_path = path.with_name(f"{path.name}.pub")
        self.position = 0
        self._last = b""

    def prepare(self, verifier_key: str, former: str = "") -> bool:
        """Make folder and public key where missing, and drop a note torn by a crash. Raises KeyMismatch.

        True where the anchor still ends with the `former` key: then `hand_over` before the next signature.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.public_path.exists():
            if self.path.exists() and self.path.stat().st_size:
                raise KeyMismatch(f"{self.path} holds checkpoints, but {self.public_path} is missing.")
            self._append(self.public_path, f"{verifier_key}\n".encode(), 0o644)
        newest = self.public_path.read_text().strip().split("\n")[-1].split(" ")[0]
        if newest not in {verifier_key, former or verifier_key}:
            raise KeyMismatch(f"{self.public_path} belongs to another SEAL_KEY; bring the old key back.")
        if self.path.exists():
            self._resume()
        return newest != verifier_key

    def hand_over(self, line: str) -> None:
        """Name a new key, as the former one signed it (sealing.handover); flushed before anything is signed by it."""
        self._append(self.public_path, f"{line}\n".encode(), 0o644)

    def append(self, position: int, note: str) -> None:
        """Anchor a head, unless it is the one that stands there last."""
        line = note.encode()
        if line != self._last:
            self._append(self.path, line + b"\n", 0o600)
            self.position, self._last = position, line

    def _resume(self) -> None:
        content = self.path.read_bytes()
        notes = list(_NOTE.finditer(content))
        end = notes[-1].end() + 1 if notes else 0
        if len(content) != end:
            os.truncate(self.path, min(end, len(content)))
            if len(content) < end:
                self._append(self.path, b"\n", 0o600)
        if notes:
            self.position, self._last = int(notes[-1][1]), notes[-1][0]

    @staticmethod
    def _append(path: Path, content: bytes, mode: int) -> None:
        is_new = not path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            if os.write(descriptor, content) != len(content):
                # A full disk: half a note must not stand before the next one.
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
