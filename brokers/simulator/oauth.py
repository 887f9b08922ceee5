"""The server's half of OAuth 1.0a (ibkr-web-api.md §1.2, §1.4, §1.9). Pure maths, no state, no I/O."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl, quote, quote_plus, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

GENERATOR = 2
UNSIGNED = ("realm", "oauth_signature")
_PAIR = re.compile(r'(\w+)="([^"]*)"')


def parse_header(value: str) -> dict[str, str]:
    """The pairs of an `Authorization: OAuth k="v", …` header; empty when it is not one."""
    scheme, _, rest = value.partition(" ")
    return dict(_PAIR.findall(rest)) if scheme.lower() == "oauth" else {}


def parameter_string(params: Iterable[tuple[str, str]]) -> str:
    """Raw, unencoded pairs, sorted and joined (§1.2 step 4)."""
    return "&".join(f"{key}={value}" for key, value in sorted(params))


def signed_pairs(header: dict[str, str]) -> list[tuple[str, str]]:
    """What of the header takes part in the signature."""
    return [(key, value) for key, value in header.items() if key not in UNSIGNED]


def base_strings(method: str, url: str, query: str, header: dict[str, str]) -> Iterator[str]:
    """Every base string that production accepts for one request: styles A, B and C of §1.4."""
    pairs = signed_pairs(header)
    plain = parameter_string(pairs)
    yield f"{method}&{quote_plus(url)}&{quote_plus(plain)}"
    if query:
        merged = parameter_string(pairs + parse_qsl(query, keep_blank_values=True))
        yield f"{method}&{quote_plus(url)}&{quote_plus(merged)}"
        yield f"{method}&{quote(url, safe='')}&{quote(merged, safe='')}"
        yield f"{method}&{quote_plus(f'{url}?{query}')}&{quote_plus(plain)}"
        yield f"{method}&{quote(f'{url}?{unquote(query)}', safe='')}&{quote(plain, safe='')}"


def session_token_base(url: str, header: dict[str, str], secret: bytes) -> str:
    """The base string of the live-session-token request: the hex secret, with nothing between (§1.2)."""
    return f"{secret.hex()}POST&{quote_plus(url)}&{quote_plus(parameter_string(signed_pairs(header)))}"


def verify_rsa(key: RSAPublicKey, base: str, signature: str) -> bool:
    """Whether a percent-encoded RSASSA-PKCS1-v1_5 SHA-256 signature fits the base string."""
    try:
        key.verify(base64.b64decode(unquote(signature), validate=True), base.encode(), PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def verify_hmac(live_session_token: bytes, base: str, signature: str) -> bool:
    """Whether a percent-encoded HMAC-SHA256 signature fits the base string."""
    expected = base64.b64encode(hmac.digest(live_session_token, base.encode(), hashlib.sha256))
    return hmac.compare_digest(expected, unquote(signature).encode())


def twos_complement(number: int) -> bytes:
    """Java's BigInteger.toByteArray() of a positive number (§1.2 step 9)."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def derive_token(shared: int, secret: bytes) -> bytes:
    """The 20 raw bytes of the live session token."""
    return hmac.digest(twos_complement(shared), secret, hashlib.sha1)


def proof(live_session_token: bytes, consumer_key: str) -> str:
    """`live_session_token_signature`: what the client checks its own result against (§1.2 step 11)."""
    return hmac.digest(live_session_token, consumer_key.encode(), hashlib.sha1).hex()


def answer_challenge(challenge: str, prime: int, secret: bytes, b: int | None = None) -> tuple[str, bytes]:
    """(hex of B, live session token) for a hex Diffie-Hellman challenge A.

    Raises ValueError for a challenge that is not hex or not within 2 … p-2.
    """
    a_public = int(challenge, 16)
    if not 1 < a_public < prime - 1:
        raise ValueError("Diffie-Hellman challenge out of range")
    b = b or secrets.randbits(256) | 1
    return f"{pow(GENERATOR, b, prime):x}", derive_token(pow(a_public, b, prime), secret)
