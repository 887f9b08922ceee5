"""Secrets at rest: AES-GCM, each ciphertext bound to its row, so that none can be moved to another."""

import secrets
from base64 import urlsafe_b64decode
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from cerbero.errors import CannotDecrypt

# The first byte says how the rest was made, so that another way can follow one day.
FORMAT = b"\x01"
NONCE_BYTES = 12
KEY_BYTES = 32


def encrypt(plain: bytes, bound_to: str) -> bytes:
    """The ciphertext of `plain`; only `decrypt` with the same `bound_to` opens it."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return FORMAT + nonce + _cipher().encrypt(nonce, plain, _bound(bound_to))


def decrypt(blob: bytes | memoryview, bound_to: str) -> bytes:
    """The plain bytes. Raises CannotDecrypt for another key, another row or a changed byte."""
    content = bytes(blob)
    nonce, sealed = content[1 : 1 + NONCE_BYTES], content[1 + NONCE_BYTES :]
    if content[:1] != FORMAT or len(nonce) != NONCE_BYTES:
        raise CannotDecrypt
    try:
        return _cipher().decrypt(nonce, sealed, _bound(bound_to))
    except InvalidTag:
        raise CannotDecrypt from None


def identity(*parts: Any) -> str:
    """A row's identity as one text. Lengths stand in it: no two lists of parts give the same."""
    return "".join(f"{len(str(part))}:{part}," for part in parts)


def _cipher() -> AESGCM:
    try:
        key = urlsafe_b64decode(settings.ENCRYPTION_KEY)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ImproperlyConfigured("ENCRYPTION_KEY must be 32 bytes in urlsafe base64.")
    return AESGCM(key)


def _bound(identity_text: str) -> bytes:
    return b"cerbero\n" + identity_text.encode()
