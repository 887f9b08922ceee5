"""Secrets at rest: AES-GCM, each ciphertext bound to its row, so that none can be moved to another.

An envelope: each secret has a key of its own, which is wrapped by the machine's. So the machine's key is replaced
(`manage.py rotate_encryption_key`) without any secret being decrypted. ENCRYPTION_KEY may hold several keys: the
first wraps, all of them unwrap, and each ciphertext names the one that wrapped it.
"""

import hmac
import secrets
from base64 import urlsafe_b64decode
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from cerbero.errors import CannotDecrypt
from cerbero.key_files import written_since

# The first byte says how the rest was made. The first form had no envelope: nonce, and sealed by the machine's key.
FIRST_FORM, ENVELOPE = b"\x01", b"\x02"
NONCE_BYTES, TAG_BYTES, KEY_BYTES, KEY_ID_BYTES = 12, 16, 32, 4
_WRAPPED_AT = 1 + KEY_ID_BYTES
_SEALED_AT = _WRAPPED_AT + NONCE_BYTES + KEY_BYTES + TAG_BYTES
_WRAPS = b"cerbero data key"


def encrypt(plain: bytes, bound_to: str) -> bytes:
    """The ciphertext of `plain`; only `decrypt` with the same `bound_to` opens it."""
    data_key = secrets.token_bytes(KEY_BYTES)
    return _wrapped(data_key) + _seal(data_key, plain, _bound(bound_to))


def decrypt(blob: bytes | memoryview, bound_to: str) -> bytes:
    """The plain bytes. Raises CannotDecrypt for another key, another row or a changed byte."""
    content = bytes(blob)
    if content[:1] == FIRST_FORM:
        return _open_any([key for _, key in _ring()], content[1:], _bound(bound_to))
    return _open_any([_data_key(content)], content[_SEALED_AT:], _bound(bound_to))


def rewrap(blob: bytes | memoryview, bound_to: str) -> bytes:
    """The same secret under the first key of the ring; unchanged where it is already. Raises CannotDecrypt.

    Of an envelope only the wrapping is made anew: what is inside is not opened.
    """
    content = bytes(blob)
    if content[:1] == FIRST_FORM:
        return encrypt(decrypt(content, bound_to), bound_to)
    if content[1:_WRAPPED_AT] == _ring()[0][0]:
        return content
    return _wrapped(_data_key(content)) + content[_SEALED_AT:]


def mac(purpose: bytes, words: bytes) -> bytes:
    """A MAC by the first key. `purpose` makes a key of its own, so that nothing else can be made to answer as this."""
    return _mac(_ring()[0][1], purpose, words)


def holds_mac(purpose: bytes, words: bytes, given: bytes) -> bool:
    """Whether one of the machine's keys made it."""
    keys = [key for _, key in [*_ring(), *_newer()]]
    return any([hmac.compare_digest(given, _mac(key, purpose, words)) for key in keys])


def identity(*parts: Any) -> str:
    """A row's identity as one text. Lengths stand in it: no two lists of parts give the same."""
    return "".join(f"{len(str(part))}:{part}," for part in parts)


def key_id(key: bytes) -> bytes:
    """What a ciphertext calls the key that wrapped it; says nothing about the key."""
    return sha256(b"cerbero key id\n" + key).digest()[:KEY_ID_BYTES]


def _ring(text: str | None = None) -> list[tuple[bytes, bytes]]:
    """The machine's keys with their ids, the one that wraps first."""
    try:
        keys = [urlsafe_b64decode(word) for word in (text or settings.ENCRYPTION_KEY).split()]
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ImproperlyConfigured("ENCRYPTION_KEY must be 32 bytes in urlsafe base64, or several of those.")
    return [(key_id(key), key) for key in keys]


def _mac(key: bytes, purpose: bytes, words: bytes) -> bytes:
    return hmac.digest(hmac.digest(key, purpose, sha256), words, sha256)


def _wrapped(data_key: bytes) -> bytes:
    wrapping_id, wrapping = _ring()[0]
    return ENVELOPE + wrapping_id + _seal(wrapping, data_key, _WRAPS + wrapping_id)


def _data_key(content: bytes) -> bytes:
    wrapping_id = content[1:_WRAPPED_AT]
    if content[:1] != ENVELOPE or len(content) < _SEALED_AT + NONCE_BYTES + TAG_BYTES:
        raise CannotDecrypt
    keys = [key for each, key in [*_ring(), *_newer()] if each == wrapping_id]
    return _open_any(keys, content[_WRAPPED_AT:_SEALED_AT], _WRAPS + wrapping_id)


def _newer() -> list[tuple[bytes, bytes]]:
    """Keys that came into the file since this process began: whoever wraps by them need not wait for our restart."""
    written = written_since(settings.ENCRYPTION_KEY_PATH, settings.ENCRYPTION_KEY_STAMP)
    try:
        return _ring(written) if written else []
    except ImproperlyConfigured:
        return []


def _seal(key: bytes, plain: bytes, bound: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound)


def _open_any(keys: list[bytes], content: bytes, bound: bytes) -> bytes:
    nonce, sealed = content[:NONCE_BYTES], content[NONCE_BYTES:]
    for key in keys:
        try:
            return AESGCM(key).decrypt(nonce, sealed, bound)
        except (InvalidTag, ValueError):
            continue
    raise CannotDecrypt


def _bound(identity_text: str) -> bytes:
    return b"cerbero\n" + identity_text.encode()
