"""OAuth 1.0a as IBKR speaks it, byte by byte (ibkr-web-api.md §1.2 to §1.4).

Pure: no I/O, no clock, no randomness; nonce, timestamp and the private exponent are arguments.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote_plus
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

GENERATOR = 2
REALM = "limited_poa"
TEST_CONSUMER, TEST_REALM = "TESTCONS", "test_realm"


@dataclass(frozen=True)
class IbkrCredentials:
    """One login's OAuth material. `access_token_secret` is the base64 RSA ciphertext from the portal."""

    consumer_key: str
    access_token: str = field(repr=False)
    access_token_secret: str = field(repr=False)
    dh_prime: int = field(repr=False)
    signature_key_pem: bytes = field(repr=False)
    encryption_key_pem: bytes = field(repr=False)
    # Of the row that it came from; none where it came from a file.
    credential_id: UUID | None = None


class InvalidKey(ValueError):
    """A key, a secret or the prime cannot be used as it stands."""


def private_key(pem: bytes) -> RSAPrivateKey:
    """The RSA key of an unencrypted PEM; parsing is slow, so only where a token is minted."""
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, RSAPrivateKey):
        raise InvalidKey("The key is not an RSA key.")
    return key


def decrypt_secret(access_token_secret: str, encryption_key: RSAPrivateKey) -> bytes:
    """The plain access token secret (RSAES-PKCS1-v1_5)."""
    return encryption_key.decrypt(base64.b64decode(access_token_secret, validate=True), padding.PKCS1v15())


def challenge(prime: int, exponent: int) -> str:
    """Our public Diffie-Hellman half, lower-case hex without padding."""
    return format(pow(GENERATOR, exponent, prime), "x")


def parameter_string(params: Mapping[str, str]) -> str:
    """Raw values, sorted by key: RFC 5849 would encode each value first, IBKR does not."""
    return "&".join(f"{key}={params[key]}" for key in sorted(params))


def base_string(method: str, url: str, params: Mapping[str, str], prepend: str = "") -> str:
    """What is signed. `prepend` is the secret in hex, for the live session token request only."""
    return f"{prepend}{method}&{quote_plus(url)}&{quote_plus(parameter_string(params))}"


def rsa_signature(text: str, signature_key: RSAPrivateKey) -> str:
    return _base64(signature_key.sign(text.encode(), padding.PKCS1v15(), SHA256()))


def hmac_signature(text: str, live_session_token: bytes) -> str:
    return _base64(hmac.new(live_session_token, text.encode(), hashlib.sha256).digest())


def authorization(params: Mapping[str, str], signature: str, realm: str) -> str:
    """The header: realm first, the rest sorted; only the signature is percent-encoded."""
    pairs = {**params, "oauth_signature": quote_plus(signature)}
    return f'OAuth realm="{realm}", ' + ", ".join(f'{key}="{pairs[key]}"' for key in sorted(pairs))


def realm_for(consumer_key: str) -> str:
    return TEST_REALM if consumer_key == TEST_CONSUMER else REALM


def sign_request(
    method: str, url: str, credentials: IbkrCredentials, live_session_token: bytes, nonce: str, timestamp: int
) -> str:
    """The header of an ordinary request; `url` has no query, and neither has what is signed (style A)."""
    params = {
        "oauth_consumer_key": credentials.consumer_key,
        "oauth_nonce": nonce,
        "oauth_signature_method": "HMAC-SHA256",
        "oauth_timestamp": str(timestamp),
        "oauth_token": credentials.access_token,
    }
    signature = hmac_signature(base_string(method, url, params), live_session_token)
    return authorization(params, signature, realm_for(credentials.consumer_key))


def token_request_params(
    credentials: IbkrCredentials, exponent: int, nonce: str, timestamp: int
) -> dict[str, str]:
    """The six parameters that the live session token request signs."""
    return {
        "diffie_hellman_challenge": challenge(credentials.dh_prime, exponent),
        "oauth_consumer_key": credentials.consumer_key,
        "oauth_nonce": nonce,
        "oauth_signature_method": "RSA-SHA256",
        "oauth_timestamp": str(timestamp),
        "oauth_token": credentials.access_token,
    }


def shared_key(prime: int, exponent: int, response: int) -> int:
    """K of the exchange; a response that would make K guessable is refused."""
    if not 1 < response < prime - 1:
        raise InvalidKey("The Diffie-Hellman response is out of range.")
    return pow(response, exponent, prime)


def key_bytes(shared: int) -> bytes:
    """Minimal two's-complement bytes, as Java's BigInteger writes them; never padded to the prime."""
    return shared.to_bytes(shared.bit_length() // 8 + 1, "big")


def live_session_token(shared: int, secret: bytes) -> bytes:
    """The 20 raw bytes that sign every ordinary request."""
    return hmac.digest(key_bytes(shared), secret, "sha1")


def token_is_valid(token: bytes, consumer_key: str, expected_hex: str) -> bool:
    """The only early sign of a wrong prime, secret or key encoding; always ask."""
    found = hmac.digest(token, consumer_key.encode(), "sha1").hex()
    return hmac.compare_digest(found.encode(), expected_hex.strip().lower().encode())


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
