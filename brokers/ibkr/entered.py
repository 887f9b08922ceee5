"""What a person copied from the broker's portal, held against the usual mistakes. Values in, sentences out.

Forms: ibkr-web-api.md §1.1. A secret that fits the keys can still be another token's: only the broker knows that.
"""

import re
from base64 import b64decode
from dataclasses import dataclass, field

from brokers import primes
from brokers.ibkr.oauth import IbkrCredentials, decrypt_secret, private_key

CONSUMER_KEY_LETTERS = 9
ACCESS_TOKEN = re.compile(r"[0-9a-f]{20}")
# The plain secret is short; with other keys the decryption gives bytes of any length, or none.
PLAIN_SECRET_BYTES_MAX = 64


@dataclass(frozen=True)
class Entered:
    """What was typed."""

    consumer_key: str
    access_token: str = field(repr=False)
    access_token_secret: str = field(repr=False)


def mistakes(entered: Entered, staged: IbkrCredentials, current: IbkrCredentials) -> list[dict[str, str]]:
    """Each problem with its field, in the form's order; empty when nothing is wrong that we can see."""
    found = {
        "consumer_key": _of_consumer_key(entered.consumer_key),
        "access_token": _of_token(entered, current),
        "access_token_secret": _of_secret(entered.access_token_secret, staged, current),
        "dh_prime": "" if primes.is_prime(staged.dh_prime, 8) else "The Diffie-Hellman prime is not a prime.",
    }
    return [{"field": name, "problem": problem} for name, problem in found.items() if problem]


def _of_consumer_key(typed: str) -> str:
    if typed != typed.upper():
        return "The portal silently makes it upper case; enter it in capital letters, as it counts there."
    if not (len(typed) == CONSUMER_KEY_LETTERS and typed.isascii() and typed.isalpha()):
        return f"It has {CONSUMER_KEY_LETTERS} letters; this has {len(typed)} characters, or others than letters."
    return ""


def _of_token(entered: Entered, current: IbkrCredentials) -> str:
    typed = entered.access_token
    if typed == current.access_token:
        return "This is the token in use now; the new one stands beside its secret."
    if len(typed) > 100:
        return "This looks like the secret; the token is the short one of the two."
    if typed != typed.lower() and ACCESS_TOKEN.fullmatch(typed.lower()):
        return "It is written in small letters."
    if not ACCESS_TOKEN.fullmatch(typed):
        return f"It has 20 digits and letters from a to f; this has {len(typed)} characters, or others."
    return ""


def _of_secret(typed: str, staged: IbkrCredentials, current: IbkrCredentials) -> str:
    try:
        cipher = b64decode(typed, validate=True)
    except ValueError:
        return "It is not base64: was all of it copied, and nothing else? It often ends in one or two =."
    key = private_key(staged.encryption_key_pem)
    if len(cipher) * 8 != key.key_size:
        return f"It has {len(cipher)} bytes; encrypted for these keys it would have {key.key_size // 8}. Was it cut?"
    if _opens(staged, typed):
        return ""
    if _opens(current, typed):
        return "It was made for the keys in use now: at the portal upload the new keys first, then make the token."
    return "The new encryption key does not open it: compare its fingerprint with what the portal has."


def _opens(keys: IbkrCredentials, secret: str) -> bool:
    try:
        return 0 < len(decrypt_secret(secret, private_key(keys.encryption_key_pem))) <= PLAIN_SECRET_BYTES_MAX
    except (ValueError, TypeError):
        return False
