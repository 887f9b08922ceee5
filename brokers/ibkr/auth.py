"""The door of `oauth`: it adds the clock, the nonce and the random exponent."""

import secrets
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import httpx

from brokers.ibkr import oauth
from brokers.ibkr.oauth import IbkrCredentials
from cerbero.errors import SessionExpired

__all__ = ["IbkrCredentials", "OAuth1a", "TokenExchange"]


def unix_seconds() -> int:
    return int(time.time())


def fresh_nonce() -> str:
    return secrets.token_hex(16)


class OAuth1a(httpx.Auth):
    """Signs ordinary requests with the live session token; without one nothing is sent."""

    def __init__(
        self,
        credentials: IbkrCredentials,
        live_session_token: bytes | None,
        *,
        now: Callable[[], int] = unix_seconds,
        nonce: Callable[[], str] = fresh_nonce,
    ) -> None:
        self._credentials = credentials
        self._now, self._nonce = now, nonce
        self.live_session_token = live_session_token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self.live_session_token is None:
            raise SessionExpired("There is no live session token; mint one first.")
        request.headers["Authorization"] = oauth.sign_request(
            request.method,
            str(request.url.copy_with(query=None)),
            self._credentials,
            self.live_session_token,
            self._nonce(),
            self._now(),
        )
        yield request


@dataclass(frozen=True)
class TokenExchange:
    """One live session token exchange: what is sent, and what the answer must prove."""

    credentials: IbkrCredentials
    url: str
    secret: bytes = field(repr=False)
    exponent: int = field(repr=False)
    header: str = field(repr=False)

    @classmethod
    def begin(cls, credentials: IbkrCredentials, url: str) -> "TokenExchange":
        """Raises ValueError when a key or the secret cannot be used."""
        secret = oauth.decrypt_secret(
            credentials.access_token_secret, oauth.private_key(credentials.encryption_key_pem)
        )
        exponent = secrets.randbits(256) | 1 << 255
        params = oauth.token_request_params(credentials, exponent, fresh_nonce(), unix_seconds())
        signature = oauth.rsa_signature(
            oauth.base_string("POST", url, params, prepend=secret.hex()),
            oauth.private_key(credentials.signature_key_pem),
        )
        header = oauth.authorization(params, signature, oauth.realm_for(credentials.consumer_key))
        return cls(credentials, url, secret, exponent, header)

    def finish(self, response_hex: str, signature_hex: str) -> bytes:
        """The validated token. Raises SessionExpired when the broker's proof does not hold."""
        try:
            shared = oauth.shared_key(self.credentials.dh_prime, self.exponent, int(response_hex, 16))
        except ValueError as error:
            raise SessionExpired(
                "The broker's Diffie-Hellman response is unusable.", reason="bad_dh_response"
            ) from error
        token = oauth.live_session_token(shared, self.secret)
        if not oauth.token_is_valid(token, self.credentials.consumer_key, signature_hex):
            raise SessionExpired(
                "The live session token does not validate: the consumer key, the access token secret "
                "or the Diffie-Hellman prime is not the one that the broker has.",
                reason="token_mismatch",
            )
        return token
