"""A tiny OAuth 1.0a client of its own, so that the simulator is not held against the product's client."""

import base64
import functools
import hashlib
import hmac
import secrets
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from websockets.sync.client import ClientConnection, connect


class WireClient:
    """One client of one simulator. `style` is how the query takes part in the signature (§1.4)."""

    def __init__(self, credentials: dict[str, Any]):
        self.credentials = credentials
        self.base_url: str = credentials["base_url"]
        self.account: str = credentials["accounts"][0]
        self.http = httpx.Client(headers={"User-Agent": "wire-client"}, timeout=60, verify=False)
        self.live_session_token = b""
        self.style = "A"

    def close(self) -> None:
        self.http.close()

    def oauth_params(self, method: str) -> dict[str, str]:
        return {
            "oauth_consumer_key": self.credentials["consumer_key"],
            "oauth_nonce": secrets.token_hex(16),
            "oauth_signature_method": method,
            "oauth_timestamp": str(int(time.time())),
            "oauth_token": self.credentials["access_token"],
        }

    def secret(self) -> bytes:
        key = private_key(self.credentials["encryption_key_path"])
        return key.decrypt(base64.b64decode(self.credentials["access_token_secret"]), PKCS1v15())

    def mint_request(self, a: int, **changes: str | None) -> httpx.Response:
        """Ask for a live session token; `changes` replaces or (None) removes header parameters."""
        prime = int(self.credentials["dh_prime"], 16)
        params = {
            **self.oauth_params("RSA-SHA256"),
            "diffie_hellman_challenge": f"{pow(2, a, prime):x}",
            **changes,
        }
        params = {k: v for k, v in params.items() if v is not None}
        url = f"{self.base_url}/oauth/live_session_token"
        base = f"{self.secret().hex()}POST&{quote_plus(url)}&{quote_plus(_join(params))}"
        key = private_key(self.credentials["signature_key_path"])
        signature = base64.b64encode(key.sign(base.encode(), PKCS1v15(), SHA256())).decode()
        return self.http.post(url, headers={"Authorization": _header(params, signature)})

    def mint(self) -> dict[str, Any]:
        """Get and validate a live session token."""
        a = secrets.randbits(256) | 1
        answer = self.mint_request(a)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        shared = pow(int(body["diffie_hellman_response"], 16), a, int(self.credentials["dh_prime"], 16))
        key = shared.to_bytes(shared.bit_length() // 8 + 1, "big")
        self.live_session_token = hmac.digest(key, self.secret(), hashlib.sha1)
        consumer = self.credentials["consumer_key"].encode()
        proof = hmac.digest(self.live_session_token, consumer, hashlib.sha1).hex()
        assert proof == body["live_session_token_signature"]
        return body

    def authorization(self, method: str, url: str, query: dict[str, str], **changes: str | None) -> str:
        params = {**self.oauth_params("HMAC-SHA256"), **changes}
        params = {k: v for k, v in params.items() if v is not None}
        signed_url, signed = url, dict(params)
        if self.style == "B":
            signed |= query
        if self.style == "C" and query:
            signed_url = f"{url}?{urlencode(query)}"
        base = f"{method}&{quote_plus(signed_url)}&{quote_plus(_join(signed))}"
        digest = hmac.digest(self.live_session_token, base.encode(), hashlib.sha256)
        return _header(params, base64.b64encode(digest).decode())

    def request(self, method: str, path: str, json: Any = None, **query: Any) -> httpx.Response:
        query = {k: str(v) for k, v in query.items()}
        url = self.base_url + path
        headers = {"Authorization": self.authorization(method, url, query)}
        full = f"{url}?{urlencode(query)}" if query else url
        return self.http.request(method, full, headers=headers, json=json)

    def get(self, path: str, **query: Any) -> Any:
        answer = self.request("GET", path, **query)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def post(self, path: str, json: Any = None) -> Any:
        answer = self.request("POST", path, json)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def bring_up(self) -> "WireClient":
        """Everything up to trading: token, brokerage session, accounts, the first empty answers."""
        self.mint()
        self.post("/iserver/auth/ssodh/init", {"publish": True, "compete": True})
        self.get("/iserver/accounts")
        self.get("/iserver/account/orders")
        self.get("/iserver/account/trades")
        self.get("/iserver/marketdata/snapshot", conids=265598, fields="31,84,86,88,85")
        return self

    def quote(self, conid: int = 265598) -> dict[str, Any]:
        self.get("/iserver/marketdata/snapshot", conids=conid, fields="31,84,86")
        return self.get("/iserver/marketdata/snapshot", conids=conid, fields="31,84,86")[0]

    def ticket(self, **changes: Any) -> dict[str, Any]:
        """A buy of 10 AAPL, one per cent under the market, that therefore rests."""
        bid = float(self.quote()["84"]) if "price" not in changes else 0.0
        ticket = {
            "conid": 265598,
            "orderType": "LMT",
            "side": "BUY",
            "quantity": 10,
            "tif": "DAY",
            "price": round(bid * 0.99, 2),
            "cOID": secrets.token_hex(16),
        } | changes
        return {k: v for k, v in ticket.items() if v is not None}

    def place(self, *tickets: dict[str, Any], account: str | None = None) -> Any:
        return self.post(f"/iserver/account/{account or self.account}/orders", {"orders": list(tickets)})

    def row(self, order_id: int | str) -> dict[str, Any]:
        rows = self.get("/iserver/account/orders")["orders"]
        return next(row for row in rows if row["orderId"] == int(order_id))

    def wait_status(self, order_id: int | str, status: str, seconds: float = 60.0) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while (row := self.row(order_id))["status"] != status:
            assert time.monotonic() < deadline, f"still {row['status']}, not {status}"
            time.sleep(0.02)
        return row

    def stream(self) -> ClientConnection:
        session = self.post("/tickle")["session"]
        url = f"{self.credentials['ws_url']}?oauth_token={self.credentials['access_token']}"
        return connect(url, additional_headers={"Cookie": f"api={session}"}, proxy=None)

    @property
    def origin(self) -> str:
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"


@functools.cache
def private_key(path: str) -> Any:
    """Loading checks the key, which takes longer than all else here."""
    return load_pem_private_key(Path(path).read_bytes(), None)


def _join(params: dict[str, str]) -> str:
    return "&".join(f"{k}={v}" for k, v in sorted(params.items()))


def _header(params: dict[str, str], signature: str) -> str:
    pairs = {"realm": "limited_poa", **params, "oauth_signature": quote_plus(signature)}
    return "OAuth " + ", ".join(f'{k}="{v}"' for k, v in pairs.items())
