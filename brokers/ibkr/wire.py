"""One HTTP exchange with IBKR, and what each way to fail means (ibkr-web-api.md §6.3, §8; gates.md §3).

A read that fails is BrokerUnavailable: nothing changed by asking. A write that fails is OutcomeUnknown
unless it certainly did not leave (BrokerUnavailable) or the broker's own words prove that it was refused.
Nothing is ever sent twice.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx

from brokers.ibkr.auth import Access, auth_of
from brokers.ibkr.gateway import GatewayAccess
from brokers.ibkr.refusals import refusal_of
from brokers.ibkr.tls import trusted
from brokers.ibkr.values import dump_json, load_json
from cerbero import failpoints
from cerbero.errors import BrokerError, BrokerUnavailable, OutcomeUnknown

TIMEOUT = httpx.Timeout(connect=2.0, read=10.0, write=10.0, pool=2.0)
ANSWER_SECONDS_MAX = 20
ANSWER_BYTES_MAX = 16 * 1024 * 1024
WORDS_MAX = 400
USER_AGENT = "Cerbero/0.1"

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
Pace = Callable[[str, str], None]
Before = Callable[[], None]
Params = Mapping[str, str]


class Wire:
    """The connection of one login. `pace` is asked before each request and raises to refuse it."""

    def __init__(
        self,
        base_url: str,
        access: Access,
        session_token: bytes | None,
        pace: Pace | None,
        transport: httpx.BaseTransport | None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.auth = auth_of(access, session_token)
        self._pace = pace
        is_verified = access.is_verified if isinstance(access, GatewayAccess) else True
        self._http = httpx.Client(
            auth=self.auth,
            timeout=TIMEOUT,
            headers={"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "gzip,deflate"},
            transport=transport,
            verify=trusted(base_url, is_verified=is_verified),
            trust_env=False,
            follow_redirects=False,
        )

    def close(self) -> None:
        self._http.close()

    def read(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        may_be_empty: bool = False,
    ) -> Any:
        """Ask; anything that is no answer raises BrokerUnavailable, SessionExpired or BrokerRejected.

        An empty body is None where it may be one, and else no answer.
        """
        try:
            response = self._exchange(method, path, params, body)
        except (httpx.HTTPError, AnswerTooLong) as error:
            raise BrokerUnavailable("The broker did not answer.", **_cause(path, error)) from error
        if may_be_empty and response.status_code == 200 and not response.content.strip():
            return None
        return self._read_answer(path, response)

    def exchange_token(self, path: str, header: str) -> Any:
        """The live session token request: signed by the caller, no body (§1.2)."""
        request = self._http.build_request("POST", self.base_url + path, headers={"Authorization": header})
        self._ask_pace("POST", path)
        try:
            response = self._collect(request, auth=None)
        except (httpx.HTTPError, AnswerTooLong) as error:
            raise BrokerUnavailable("The broker did not answer.", **_cause(path, error)) from error
        return self._read_answer(path, response)

    def write(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        is_gated: bool = True,
        before: Before | None = None,
    ) -> Any:
        """Send once. `is_gated` False where a refusal at the gate leaves an earlier request in the air.

        `before` is called last, when the wait for the budget is over; what it raises keeps the request here.
        """
        deed = _deed(method, path)
        failpoints.reach(f"{deed}.before_send")
        try:
            response = self._exchange(method, path, params, body, deed, before)
        except NOT_SENT as error:
            raise BrokerUnavailable(**_cause(path, error)) from error
        except (httpx.HTTPError, AnswerTooLong) as error:
            raise OutcomeUnknown(**_cause(path, error)) from error
        finally:
            failpoints.reach(f"{deed}.after_answer")
        return self._write_answer(path, response, is_gated)

    def _exchange(
        self,
        method: str,
        path: str,
        params: Params | None,
        body: Any,
        deed: str = "",
        before: Before | None = None,
    ) -> httpx.Response:
        content = None if body is None else dump_json(body).encode()
        headers = {} if content is None else {"Content-Type": "application/json"}
        sent: bytes | Iterator[bytes] | None = content
        if deed:
            headers["Content-Length"] = str(len(content or b""))
            sent = failpoints.body(deed, content)
        url = self.base_url + path
        request = self._http.build_request(method, url, params=params, content=sent, headers=headers)
        self._ask_pace(method, path)
        if before is not None:
            before()
        return self._collect(request, auth=self.auth)

    def _ask_pace(self, method: str, path: str) -> None:
        if self._pace is not None:
            self._pace(method, path)

    def _collect(self, request: httpx.Request, auth: httpx.Auth | None) -> httpx.Response:
        """The whole answer within a time and a size; a body that drips is no answer."""
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        response = self._http.send(request, auth=auth, stream=True)
        try:
            chunks, size = [], 0
            for chunk in response.iter_bytes():
                size += len(chunk)
                chunks.append(chunk)
                if size > ANSWER_BYTES_MAX or time.monotonic() > deadline:
                    raise AnswerTooLong(f"{size} bytes")
        finally:
            response.close()
        return httpx.Response(response.status_code, content=b"".join(chunks))

    def _read_answer(self, path: str, response: httpx.Response) -> Any:
        if response.status_code != 200:
            raise self._refusal(path, response, is_write=False)
        try:
            data = load_json(response.content)
        except ValueError as error:
            raise BrokerUnavailable("The broker's answer cannot be read.", path=path, status=200) from error
        if self.error_words(data) is not None:
            raise self._refusal(path, response, is_write=False)
        return data

    def _write_answer(self, path: str, response: httpx.Response, is_gated: bool) -> Any:
        details: dict[str, Any] = {"path": path, "http_status": response.status_code}
        try:
            data = load_json(response.content)
        except ValueError as error:
            if response.status_code == 200:
                raise OutcomeUnknown("The broker's answer cannot be read.", **details) from error
            data = None
        if response.status_code != 200 or self.error_words(data) is not None:
            raise self._refusal(path, response, is_write=True, is_gated=is_gated)
        return data

    def _refusal(
        self, path: str, response: httpx.Response, *, is_write: bool, is_gated: bool = True
    ) -> BrokerError:
        is_empty = not response.content.strip()
        words = self._words(response)
        return refusal_of(is_write, path, response.status_code, words, is_empty=is_empty, is_gated=is_gated)

    def error_words(self, data: Any) -> str | None:
        """The text of `{"error": …}`, without what identifies us; None where there is no error."""
        if not isinstance(data, dict) or not data.get("error"):
            return None
        words = str(data["error"])
        for own in self.auth.own_words:
            words = words.replace(own, "…")
        return words[:WORDS_MAX]

    def _words(self, response: httpx.Response) -> str:
        try:
            return self.error_words(load_json(response.content)) or ""
        except ValueError:
            return ""


class AnswerTooLong(Exception):
    """The answer went on beyond ANSWER_SECONDS_MAX or ANSWER_BYTES_MAX."""


def _deed(method: str, path: str) -> str:
    """What a write does."""
    if method == "DELETE":
        return "cancel"
    if path.startswith("/iserver/reply/"):
        return "reply"
    return "place" if path.endswith("/orders") else "amend"


def _cause(path: str, error: Exception) -> dict[str, str]:
    return {"path": path, "cause": type(error).__name__}
