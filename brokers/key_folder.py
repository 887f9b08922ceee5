"""A folder with one login's new keys, in files: what is made here, what a person uploads, what the broker issued.

Whatever is there already is kept: a setup goes on where it was left, since the broker may take days.
"""

import errno
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from brokers import primes
from brokers.generation import PublicHalf, new_pair, prime_of_pem, prime_pem, public_half
from brokers.ibkr.oauth import private_key
from cerbero.errors import BadInput

KINDS = ("signature", "encryption")
PRIME_FILE, ISSUED_FILE = "dhparam.pem", "credentials.json"
FILE_BYTES_MAX = 64 * 1024
ISSUED = ("consumer_key", "access_token", "access_token_secret")


@dataclass(frozen=True)
class KeyFolder:
    """The files below `path`, a folder of mode 0700. Everything here raises BadInput with a sentence."""

    path: Path

    def make_pairs(self) -> dict[str, PublicHalf]:
        """Both RSA pairs, where they are not there yet; returns the halves to upload, by kind."""
        self._open()
        return {kind: self._pair(kind) for kind in KINDS}

    def has_prime(self) -> bool:
        return (self.path / PRIME_FILE).exists()

    def keep_prime(self, prime: int) -> None:
        _write(self.path / PRIME_FILE, prime_pem(prime), 0o644)

    def prime(self) -> int:
        """The prime of dhparam.pem, held against what the broker needs: 2048 bits, safe, with the generator 2."""
        path = self.path / PRIME_FILE
        try:
            prime = prime_of_pem(_read(path).decode())
        except ValueError as problem:
            raise BadInput(f"{path} cannot be used: {problem}. Remove it, and another one is made.") from None
        if prime.bit_length() != primes.BITS or not primes.is_safe_prime(prime):
            words = f"{path} holds no safe prime of {primes.BITS} bits. Remove it, and another one is made."
            raise BadInput(words)
        return prime

    def private_pem(self, kind: str) -> bytes:
        return read_private(self._private(kind))

    def issued(self) -> dict[str, str] | None:
        """What was entered before, or None."""
        path = self.path / ISSUED_FILE
        return read_issued(path) if path.exists() else None

    def keep_issued(self, issued: dict[str, str], places: dict[str, str]) -> None:
        """In the form that `connect_login` reads, too."""
        paths = {f"{kind}_key_path": str(self._private(kind).resolve()) for kind in KINDS}
        content = issued | {"dh_prime": f"{self.prime():x}"} | paths | places
        _write(self.path / ISSUED_FILE, json.dumps(content, indent=2) + "\n", 0o600)

    def _open(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise BadInput(f"{self.path} cannot be made: {problem.strerror}.") from None
        _only_ours(self.path, self.path.stat())

    def _private(self, kind: str) -> Path:
        return self.path / f"private_{kind}.pem"

    def _pair(self, kind: str) -> PublicHalf:
        path = self._private(kind)
        if not path.exists():
            _write(path, new_pair().private_pem.decode(), 0o600)
        pem = read_private(path)
        try:
            size = private_key(pem).key_size
            half = public_half(pem)
        except (ValueError, TypeError):
            raise BadInput(f"{path} is not an unencrypted RSA private key in PEM form.") from None
        if size < primes.BITS:
            raise BadInput(f"{path} has {size} bits; the broker needs {primes.BITS}.")
        _write(self.path / f"public_{kind}.pem", half.pem, 0o644)
        return half


def read_issued(path: Path) -> dict[str, str]:
    """Consumer key, access token and secret of a JSON file that nobody else can read. Raises BadInput."""
    try:
        content = json.loads(read_private(path))
        return {name: str(content[name]).strip() for name in ISSUED}
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{path} is not JSON with {', '.join(ISSUED)}.") from None


def read_private(path: Path) -> bytes:
    """A file that holds a secret. Raises BadInput for one that others can read or write, a link, or anything but a file."""
    try:
        # What is looked at is what is read; and a pipe keeps nobody waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as problem:
        why = "it is a link" if problem.errno == errno.ELOOP else problem.strerror
        raise BadInput(f"{path} cannot be read: {why}.") from None
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise BadInput(f"{path} is no ordinary file.")
        _only_ours(path, about)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(content) > FILE_BYTES_MAX:
        raise BadInput(f"{path} is longer than {FILE_BYTES_MAX // 1024} KiB: is it the right file?")
    return content


def _only_ours(path: Path, about: os.stat_result) -> None:
    mode = stat.S_IMODE(about.st_mode)
    if mode & 0o077:
        wanted = "700" if stat.S_ISDIR(about.st_mode) else "600"
        raise BadInput(f"{path} is open to others (mode {mode:03o}): chmod {wanted} {path}")
    if about.st_uid != os.geteuid():
        raise BadInput(
            f"{path} belongs to another user of this machine, who can read and replace it: chown it."
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise BadInput(f"{path} cannot be read: {problem.strerror}.") from None


def _write(path: Path, content: str, mode: int) -> None:
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    # Exactly the mode, whatever the umask: a key must never be open for a moment.
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", newline="\n") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.chmod(mode)
    part.replace(path)
