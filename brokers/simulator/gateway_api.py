"""The gateway's page, where a person signs in by hand, and the same as a control call for tests."""

from aiohttp import web

from .answers import answer, read_json
from .gateway import GatewayLogin
from .simulator import SIM

LOGIN_PATH = "/sso/Login"
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Simulated gateway</title>
<body><h1>Simulated Client Portal Gateway</h1><p>{said}</p>
<form method="post"><button name="do" value="{do}">{label}</button></form></body></html>"""


async def front_page(request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": LOGIN_PATH})


async def login_page(request: web.Request) -> web.Response:
    return _page(request.app[SIM].gateway)


async def press_button(request: web.Request) -> web.Response:
    """IBKR's own page asks for a password and a second factor; here there is nothing to protect."""
    login, form = request.app[SIM].gateway, await request.post()
    if form.get("do") == "sign_out":
        login.sign_out()
    else:
        login.sign_in()
    return _page(login)


def _page(login: GatewayLogin) -> web.Response:
    words = {"said": "Nobody is signed in.", "do": "sign_in", "label": "Sign in"}
    if login.is_signed_in:
        words = {"said": "Client login succeeds.", "do": "sign_out", "label": "Sign out"}
    return web.Response(text=PAGE.format(**words), content_type="text/html")


async def control(request: web.Request) -> web.Response:
    login, body = request.app[SIM].gateway, await read_json(request)
    if body.get("sign_in") is True:
        login.sign_in()
    elif body.get("sign_in") is False:
        login.sign_out()
    return answer({"signed_in": login.is_signed_in, "expires_ms": login.expires_ms})


ROUTES = [
    web.get("/", front_page),
    web.get(LOGIN_PATH, login_page),
    web.post(LOGIN_PATH, press_button),
    web.get("/_sim/gateway", control),
    web.post("/_sim/gateway", control),
]
