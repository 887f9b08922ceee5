"""The websocket's door (ibkr-web-api.md §7.1)."""

import json

from aiohttp import web

from .answers import Refusal, encode
from .connection import Connection
from .front import STREAM_PATH
from .gateway import check_signed_in, comes_by_gateway
from .simulator import SIM, Simulator


def _session_cookie(request: web.Request) -> str | None:
    """`Cookie: api=<session>`, or the gateway's `api={"session":"…"}`."""
    for part in request.headers.get("Cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == "api":
            return _session_in(value)
    return None


def _session_in(text: str) -> str:
    """The session id in a bare value or in `{"session": "…"}`."""
    try:
        data = json.loads(text.strip().strip('"') if not text.startswith("{") else text)
    except ValueError:
        return text.strip().strip('"')
    return str(data.get("session", "")) if isinstance(data, dict) else text.strip()


async def stream(request: web.Request) -> web.StreamResponse:
    """GET /ws?oauth_token=…: no signature; the access token and the tickle session admit, at the gateway the person (§7.1)."""
    sim = request.app[SIM]
    if comes_by_gateway(request):
        check_signed_in(sim.gateway, request)
    elif not sim.tokens.valid(request.query.get("oauth_token", "")):
        raise Refusal(401)
    socket = web.WebSocketResponse(max_msg_size=64 * 1024, compress=False)
    await socket.prepare(request)
    if _session_cookie(request) != sim.session.session_id and not await _late_session(sim, socket):
        return socket
    connection = Connection(sim, socket, request.transport)
    sim.hub.connections.add(connection)
    try:
        await connection.serve()
    finally:
        sim.hub.connections.discard(connection)
    return socket


async def _late_session(sim: Simulator, socket: web.WebSocketResponse) -> bool:
    """Without the cookie the server waits for a frame `{"session": "…"}`."""
    await socket.send_str(encode({"message": "waiting for session"}))
    async for message in socket:
        if message.type.name == "TEXT" and _session_in(message.data) == sim.session.session_id:
            return True
    return False


ROUTES = [web.get(STREAM_PATH, stream)]
