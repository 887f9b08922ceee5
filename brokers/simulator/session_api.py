"""Sessions over HTTP: token mint, brokerage session, tickle, logout, accounts (ibkr-web-api.md §1.2, §2.2)."""

from typing import Any

from aiohttp import web

from . import oauth
from .answers import Refusal, answer, bad_request, read_json
from .front import API, TOKEN_PATH, signed_header, trace_id, unauthorized
from .gateway import comes_by_gateway
from .login_body import accounts_body
from .sessions import HARDWARE
from .simulator import SIM

USER_ID = 123456789


async def mint(request: web.Request) -> web.Response:
    """POST /oauth/live_session_token."""
    sim = request.app[SIM]
    header = signed_header(sim, request, "RSA-SHA256")
    token = header["oauth_token"]
    key_set = sim.registrations.find(header["oauth_consumer_key"], token)
    if key_set is None or not key_set.opens(request.path):
        text = f"id: {trace_id()}, error: LST failed, error: No access secret key found for <{token}>"
        raise Refusal(401, {"error": text, "statusCode": 401})
    urls = [origin + request.raw_path for origin in sim.origins]
    bases = [oauth.session_token_base(url, header, key_set.secret) for url in urls]
    if not any(oauth.verify_rsa(key_set.signature_key, base, header["oauth_signature"]) for base in bases):
        raise unauthorized("wrong RSA signature")
    try:
        challenge = header.get("diffie_hellman_challenge", "")
        response, lst = oauth.answer_challenge(challenge, key_set.dh_prime, key_set.secret)
    except ValueError:
        text = f"id: {trace_id()}, error: LST failed, error: "
        raise Refusal(401, {"error": text, "statusCode": 401}) from None
    if sim.config.mint_ends_session and sim.tokens.others(token):
        sim.tokens.forget()
        sim.session.roll_over()
        sim.hub.tell_status()
    expires_ms = sim.tokens.add(token, lst, sim.config.session_token_seconds)
    return answer(
        {
            "diffie_hellman_response": response,
            "live_session_token_signature": oauth.proof(lst, key_set.consumer_key),
            "live_session_token_expiration": expires_ms,
        }
    )


async def init(request: web.Request) -> web.Response:
    """POST /iserver/auth/ssodh/init; `compete: true` evicts another session, false leaves it."""
    sim, body = request.app[SIM], await read_json(request)
    session = sim.session
    if session.competing and body.get("compete") is not True:
        return answer(_init_body(authenticated=False, competing=True))
    was_open = session.established
    session.open(bring_up_seconds=sim.config.bring_up)
    sim.hub.tell_status()
    return answer(_init_body(authenticated=True, competing=False, established=was_open))


def _init_body(*, authenticated: bool, competing: bool, established: bool = False) -> dict[str, Any]:
    return {
        "passed": True,
        "authenticated": authenticated,
        "established": established,
        "competing": competing,
        "connected": True,
        "hardware_info": HARDWARE,
    }


async def auth_status(request: web.Request) -> web.Response:
    """POST or GET /iserver/auth/status."""
    return answer(request.app[SIM].session.status())


async def tickle(request: web.Request) -> web.Response:
    """POST /tickle: `hmds` "no bridge" is normal."""
    session = request.app[SIM].session
    status = {key: value for key, value in session.status().items() if key != "fail"}
    body = {"hmds": {"error": "no bridge"}, "iserver": {"authStatus": status}}
    sso = {}
    if comes_by_gateway(request):
        sso = {"ssoExpires": request.app[SIM].gateway.expires_ms, "collission": False, "userId": USER_ID}
    return answer({"session": session.session_id, **sso, **body})


async def logout(request: web.Request) -> web.Response:
    """POST /logout ends the outer session: the live session token is unusable after."""
    sim = request.app[SIM]
    if comes_by_gateway(request):
        sim.gateway.sign_out()
    else:
        sim.tokens.forget(request["access_token"])
    sim.session.roll_over()
    sim.hub.tell_status()
    return answer({"status": True})


async def reauthenticate(request: web.Request) -> web.Response:
    """POST /iserver/reauthenticate, deprecated."""
    return answer({"message": "triggered"})


async def accounts(request: web.Request) -> web.Response:
    """GET /iserver/accounts: unlocks market data, live orders, modify and cancel."""
    sim = request.app[SIM]
    sim.session.accounts_listed = True
    return answer(accounts_body(sim))


async def switch_account(request: web.Request) -> web.Response:
    """POST /iserver/account: select the account that /orders and /trades act on."""
    sim, body = request.app[SIM], await read_json(request)
    account = body.get("acctId")
    if not account:
        raise bad_request("acctId is missing")
    if account not in sim.accounts:
        raise Refusal(500, {"error": "unknown account"})
    if account == sim.session.selected_account:
        return answer({"success": "Account already set"})
    sim.session.selected_account = account
    return answer({"set": True, "acctId": account})


ROUTES = [
    web.post(TOKEN_PATH, mint),
    web.post(f"{API}/iserver/auth/ssodh/init", init),
    web.route("GET", f"{API}/iserver/auth/status", auth_status),
    web.route("POST", f"{API}/iserver/auth/status", auth_status),
    web.post(f"{API}/iserver/reauthenticate", reauthenticate),
    web.route("GET", f"{API}/tickle", tickle),
    web.route("POST", f"{API}/tickle", tickle),
    web.post(f"{API}/logout", logout),
    web.get(f"{API}/iserver/accounts", accounts),
    web.post(f"{API}/iserver/account", switch_account),
]
