"""What every request passes: faults, pacing, the way in, the brokerage gate; and what every error becomes."""

import asyncio
import logging
import socket
import struct
import time
from ipaddress import ip_address

from aiohttp import web

from . import oauth
from .answers import Refusal, answer, no_bridge
from .faults import Fault
from .gateway import COOKIE, check_signed_in, comes_by_gateway
from .simulator import SIM, Simulator

logger = logging.getLogger("brokers.simulator")
API = "/v1/api"
TOKEN_PATH = f"{API}/oauth/live_session_token"
STREAM_PATH = f"{API}/ws"
CARRIED_OUT = ("drop_after", "half_answer", "late_answer", "refuse")
WITHOUT_BRIDGE = ("/iserver/auth/", "/iserver/reauthenticate")


@web.middleware
async def front(request: web.Request, handler) -> web.StreamResponse:
    """The outermost layer; turns refusals and crashes into IBKR's bodies."""
    try:
        if request.path.startswith("/_sim/"):
            return await _control(request, handler)
        return await _with_faults(request, handler)
    except Refusal as refusal:
        return answer(refusal.body, refusal.status)
    except web.HTTPException as error:
        return answer({"error": error.reason, "statusCode": error.status}, error.status)
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return answer({"error": "Internal Server Error", "statusCode": 500}, 500)


async def _control(request: web.Request, handler) -> web.StreamResponse:
    """Control is for this machine only, and never for a web page."""
    if not request.remote or not ip_address(request.remote).is_loopback or "Origin" in request.headers:
        raise Refusal(403, {"error": "control is for this machine only"})
    try:
        return await handler(request)
    except (ValueError, TypeError, KeyError) as error:
        raise Refusal(400, {"error": f"{type(error).__name__}: {error}"}) from None


async def _with_faults(request: web.Request, handler) -> web.StreamResponse:
    sim = request.app[SIM]
    hit = sim.faults.take(request.method, request.path)
    if hit:
        # Whoever gave up waiting has sent it all the same.
        await request.read()
    for fault in hit:
        if fault.kind == "latency":
            await asyncio.sleep(fault.seconds or 0)
    other = next((fault for fault in hit if fault.kind != "latency"), None)
    if other is None:
        return await _admitted(sim, request, handler)
    return await _disturbed(sim, other, request, handler)


async def _disturbed(sim: Simulator, fault: Fault, request: web.Request, handler) -> web.StreamResponse:
    if fault.kind == "no_bridge":
        raise no_bridge()
    if fault.kind == "silence":
        await asyncio.sleep(fault.seconds or 0)
    if fault.kind in ("drop_before", "silence"):
        return _reset(request)
    response: web.StreamResponse | None = None
    if fault.when == "after" or fault.kind in CARRIED_OUT:
        response = await _refusing(sim, request, handler)
    if response is not None and fault.kind == "late_answer":
        await asyncio.sleep(fault.seconds or 0)
        return response
    if response is not None and fault.kind == "refuse":
        await sim.door.shut(fault.seconds or 0, but=request.transport)
        response.force_close()
        return response
    if fault.kind == "drop_after":
        return _reset(request)
    if fault.kind == "half_answer" and isinstance(response, web.Response):
        return _half(request, response)
    if fault.kind == "empty_200":
        return answer(None)
    body = (
        fault.body if fault.body is not None else {"error": "Service Unavailable", "statusCode": fault.status}
    )
    return answer(body, fault.status)


async def _refusing(sim: Simulator, request: web.Request, handler) -> web.StreamResponse:
    try:
        return await _admitted(sim, request, handler)
    except Refusal as refusal:
        return answer(refusal.body, refusal.status)


async def _admitted(sim: Simulator, request: web.Request, handler) -> web.StreamResponse:
    """Pacing, then the signature, then the gate of the brokerage session."""
    if not sim.pacer.admits():
        raise Refusal(429, {"error": "Too many requests", "statusCode": 429})
    if request.path != STREAM_PATH:
        if comes_by_gateway(request):
            return await _by_gateway(sim, request, handler)
        if request.path != TOKEN_PATH:
            check_signature(sim, request)
        check_bridge(sim, request.path)
    return await handler(request)


async def _by_gateway(sim: Simulator, request: web.Request, handler) -> web.StreamResponse:
    """Its own pages are open; the rest passes while a person is signed in, and takes the gateway's cookie along."""
    if not request.path.startswith(API):
        return await handler(request)
    check_signed_in(sim.gateway, request)
    check_bridge(sim, request.path)
    response = await handler(request)
    if COOKIE not in request.cookies:
        response.set_cookie(COOKIE, sim.gateway.cookie, secure=True, httponly=True)
    return response


def _reset(request: web.Request) -> web.Response:
    """End the connection with a TCP reset; the answer that is returned goes nowhere."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


def _half(request: web.Request, response: web.Response) -> web.Response:
    """A head that promises the whole body, half of it, and then nothing."""
    body = bytes(response.body) if isinstance(response.body, bytes | bytearray) else b"{}"
    head = f"HTTP/1.1 {response.status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    if request.transport is not None:
        request.transport.write(head.encode() + body[: len(body) // 2])
        request.transport.close()
    return web.Response()


# OAuth


def unauthorized(reason: str) -> Refusal:
    """401 with an empty body, as for a wrong signature (§1.7); the reason is for our log only."""
    logger.info("unauthorized: %s", reason)
    return Refusal(401)


def trace_id() -> int:
    """IBKR's per-request number in authorisation errors."""
    return time.time_ns() // 1000 % 1_000_000


def invalid_consumer() -> Refusal:
    return Refusal(401, {"error": f"id: {trace_id()}, error: invalid consumer", "statusCode": 401})


def signed_header(sim: Simulator, request: web.Request, method: str) -> dict[str, str]:
    """The OAuth header, complete and of the right method."""
    header = oauth.parse_header(request.headers.get("Authorization", ""))
    if not sim.registrations.knows_consumer(header.get("oauth_consumer_key", "")):
        raise invalid_consumer()
    for name in ("oauth_nonce", "oauth_signature", "oauth_token"):
        if not header.get(name):
            raise unauthorized(f"{name} is missing")
    if header.get("oauth_signature_method") != method:
        raise unauthorized(f"the signature method is not {method}")
    timestamp = header.get("oauth_timestamp", "")
    if not (timestamp.isdigit() and len(timestamp) == 10):
        raise unauthorized("the timestamp is missing or not ten digits")
    if not sim.nonces.fresh(header["oauth_nonce"], timestamp):
        raise unauthorized("the nonce was used before")
    return header


def check_signature(sim: Simulator, request: web.Request) -> None:
    """Any unexpired token of the named key set, any accepted base URL, any accepted style."""
    header = signed_header(sim, request, "HMAC-SHA256")
    token = header["oauth_token"]
    key_set = sim.registrations.find(header["oauth_consumer_key"], token)
    if key_set is None or not key_set.opens(request.path):
        raise unauthorized("unknown access token")
    path, _, query = request.raw_path.partition("?")
    for live_session_token in sim.tokens.valid(token):
        for origin in sim.origins:
            for base in oauth.base_strings(request.method, origin + path, query, header):
                if oauth.verify_hmac(live_session_token, base, header["oauth_signature"]):
                    request["access_token"] = token
                    return
    raise unauthorized("no live session token fits the signature")


def check_bridge(sim: Simulator, path: str) -> None:
    """The inner tier: /iserver needs the brokerage session (§2.1)."""
    sim.session.expire()
    sim.session.touch()
    free = any(path.startswith(API + prefix) for prefix in WITHOUT_BRIDGE)
    if path.startswith(f"{API}/iserver/") and not free and not sim.session.established:
        raise no_bridge()
