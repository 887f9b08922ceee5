"""What a person copied from the broker's portal, held against the usual mistakes. Values in, sentences out.

Forms: ibkr-web-api.md §1.1. A secret that fits the keys can still be another token's: only the broker knows that.
"""

import re
from base64 import b64decode
from dataclasses import dataclass, field

from brokers import primes
from brokers.ibkr.oauth import IbkrCredentials, decrypt_secret, private_key
from cerbero.errors import BrokerError, BrokerUnavailable

CONSUMER_KEY_LETTERS = 9
ACCESS_TOKEN = re.compile(r"[0-9a-f]{20}")
PLAIN_SECRET_BYTES = 32
# The plain secret is short; with other keys the decryption gives bytes of any length, or none.
PLAIN_SECRET_BYTES_MAX = 64


@dataclass(frozen=True)
class Entered:
    """What was typed."""

    consumer_key: str
    access_token: str = field(repr=False)
    access_token_secret: str = field(repr=False)


# What the broker's answer to a mint means (§1.7), by its words or by our own reason; the first that fits.
REFUSALS = (
    (
        "invalid consumer",
        "The broker does not know this consumer key: it is not the one at the portal, or it is not active yet "
        "(until the nightly reset, often the next business day, at worst two weeks); nothing else is wrong so far.",
    ),
    (
        "No access secret key found",
        "The broker has no secret for this access token: generate the token anew at the portal, under the username "
        "whose consumer key this is (paper and live have their own), and enter both parts of it.",
    ),
    (
        "LST failed",
        "The broker cannot work with this access token, or with this prime: generate the token anew at the portal, and "
        "see that the Diffie-Hellman parameters there are this folder's dhparam.pem.",
    ),
    (
        "token_mismatch",
        "The broker took the signature and has another Diffie-Hellman prime: upload this folder's dhparam.pem.",
    ),
    (
        "bad_dh_response",
        "The broker's half of the exchange does not fit our prime: upload this folder's dhparam.pem.",
    ),
    ("unusable_keys", "The access token secret cannot be opened with the private encryption key."),
    (
        "no_expiry",
        "What answered is not the broker's API: look at the address, and at proxies on the way to it.",
    ),
)
SIGNATURE_REFUSED = (
    "The broker does not take our signature: the public signature key at the portal is not this folder's, or the two "
    "were uploaded in each other's place, or the secret belongs to an earlier token."
)
# Of these, time alone may mend the first.
WAITING = REFUSALS[0][1]


def why_refused(error: BrokerError) -> str:
    """One sentence on why a live session token was not had: which of the usual mistakes it was (§1.1, §1.7)."""
    details = error.details
    status = details.get("http_status")
    said = f"{details.get('broker_says') or ''} {details.get('reason') or ''}"
    for words, sentence in REFUSALS:
        if words in said:
            return sentence
    if status == 401:
        return SIGNATURE_REFUSED
    if status == 410:
        return "The broker has moved this login: use https://1.api.ibkr.com/v1/api (or 2., and so on) as its address."
    if status == 429:
        return "The broker limits our rate: wait a quarter of an hour, and do not try again before."
    if status in (403, 404):
        return (
            "What answered is not the broker's API, or it does not let this network in: look at the address."
        )
    if isinstance(error, BrokerUnavailable) and status is None:
        return f"The broker cannot be reached at this address ({details.get('cause', 'no answer')})."
    return f"The broker does not answer as it should: {said.strip() or status or error.message}."


def mistakes(
    entered: Entered, staged: IbkrCredentials, current: IbkrCredentials | None
) -> list[dict[str, str]]:
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


def _of_token(entered: Entered, current: IbkrCredentials | None) -> str:
    typed = entered.access_token
    if current is not None and typed == current.access_token:
        return "This is the token in use now; the new one stands beside its secret."
    if len(typed) > 100:
        return "This looks like the secret; the token is the short one of the two."
    if typed != typed.lower() and ACCESS_TOKEN.fullmatch(typed.lower()):
        return "It is written in small letters."
    if not ACCESS_TOKEN.fullmatch(typed):
        return f"It has 20 digits and letters from a to f; this has {len(typed)} characters, or others."
    return ""


def _of_secret(typed: str, staged: IbkrCredentials, current: IbkrCredentials | None) -> str:
    try:
        cipher = b64decode(typed, validate=True)
    except ValueError:
        return "It is not base64: was all of it copied, and nothing else? It often ends in one or two =."
    key = private_key(staged.encryption_key_pem)
    if len(cipher) * 8 != key.key_size:
        return f"It has {len(cipher)} bytes; encrypted for these keys it would have {key.key_size // 8}. Was it cut?"
    opened = _opened_bytes(staged.encryption_key_pem, typed)
    # Bytes of just this length come by chance from one wrong key in two hundred.
    if opened != PLAIN_SECRET_BYTES == _opened_bytes(staged.signature_key_pem, typed):
        return "It was made for the signature key: at the portal the two public keys stand in each other's place."
    if 0 < opened <= PLAIN_SECRET_BYTES_MAX:
        return ""
    if current and 0 < _opened_bytes(current.encryption_key_pem, typed) <= PLAIN_SECRET_BYTES_MAX:
        return "It was made for the keys in use now: at the portal upload the new keys first, then make the token."
    return "The new encryption key does not open it: compare its fingerprint with what the portal has."


def _opened_bytes(key_pem: bytes, secret: str) -> int:
    """How long the secret is that a key makes of it; 0 where it opens nothing."""
    try:
        return len(decrypt_secret(secret, private_key(key_pem)))
    except (ValueError, TypeError):
        return 0
