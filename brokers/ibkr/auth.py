"""The door of `oauth`: it adds the clock, the nonce and the random exponent."""

import secrets
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from brokers.base import SessionToken
from brokers.ibkr import oauth
from brokers.ibkr.gateway import GatewayAccess, GatewaySession
from brokers.ibkr.oauth import IbkrCredentials
from brokers.ibkr.values import moment
from cerbero.errors import SessionExpired

if TYPE_CHECKING:
    from brokers.ibkr.wire import Wire

__all__ = ["Access", "IbkrCredentials", "OAuth1a", "TokenExchange", "auth_of"]

TOKEN_PATH = "/oauth/live_session_token"  # noqa: S105
# The two ways in: keys of our own, or a person at IBKR's gateway.
Access = IbkrCredentials | GatewayAccess


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

    @property
    def own_words(self) -> tuple[str, ...]:
        """What must not be repeated in an error."""
        return tuple(filter(None, (self._credentials.access_token, self._credentials.consumer_key)))

    def mint(self, wire: "Wire") -> SessionToken:
        """A validated live session token, used from now on (§1.2).

        Raises SessionExpired when the keys cannot be used or the broker's proof does not hold.
        """
        try:
            exchange = TokenExchange.begin(self._credentials, wire.base_url + TOKEN_PATH)
        except (ValueError, TypeError) as error:
            raise SessionExpired("The login's keys cannot be used.", reason="unusable_keys") from error
        data = wire.exchange_token(TOKEN_PATH, exchange.header)
        said = data if isinstance(data, dict) else {}
        expires_at = moment(said.get("live_session_token_expiration"))
        if expires_at is None:
            raise SessionExpired("The broker's token has no expiry.", reason="no_expiry")
        token = exchange.finish(
            str(said.get("diffie_hellman_response") or ""),
            str(said.get("live_session_token_signature") or ""),
        )
        self.live_session_token = token
        return SessionToken(secret=token, expires_at=expires_at)


def auth_of(access: Access, session_token: bytes | None) -> OAuth1a | GatewaySession:
    """What signs a login's requests, by the way that it comes in."""
    if isinstance(access, GatewayAccess):
        return GatewaySession(session_token)
    return OAuth1a(access, session_token)


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
