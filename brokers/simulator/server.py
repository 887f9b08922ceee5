"""Starting and stopping: sockets, signals, the client's credential file."""

import argparse
import asyncio
import errno
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from . import (
    contract_api,
    control_api,
    gateway_api,
    market_api,
    order_api,
    performance_api,
    portfolio_api,
    scanner_api,
    session_api,
    stream_api,
)
from .credentials import StateMismatch
from .front import API, front
from .gateway import certificate
from .simulator import SIM, Simulator, StateInUse, background

logger = logging.getLogger("brokers.simulator")
MODULES = (
    session_api,
    contract_api,
    market_api,
    order_api,
    portfolio_api,
    scanner_api,
    performance_api,
    stream_api,
    gateway_api,
    control_api,
)


class PortUnavailable(Exception):
    """The address to listen on is taken or not ours."""


def build_app(sim: Simulator) -> web.Application:
    """The application of one login."""
    app = web.Application(middlewares=[front])
    app[SIM] = sim
    for module in MODULES:
        app.add_routes(module.ROUTES)
    app.cleanup_ctx.append(background)
    app.on_shutdown.append(sim.hub.close_all)
    return app


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that both ways of starting share."""
    parser.add_argument("--port", type=int, default=5055, help="0 picks a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--gateway-port", type=int, metavar="PORT", help="also be IBKR's gateway there, by https; 0 picks one"
    )
    parser.add_argument("--state-dir", type=Path, required=True, help="keys, orders and credentials.json")
    parser.add_argument("--live", action="store_true", help="a login that calls itself live")
    parser.add_argument("--seed", type=int, default=7, help="of the random walk")


def run(
    *, port: int, host: str, state_dir: Path, live: bool, seed: int, gateway_port: int | None = None
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. A start that cannot work says why on stderr."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        listener = _listen(host, port)
        by_gateway = None if gateway_port is None else _listen(host, gateway_port)
        sim = Simulator(state_dir, live=live, seed=seed)
    except (PortUnavailable, StateInUse, StateMismatch, OSError) as error:
        sys.stderr.write(f"The simulator cannot start: {error}\n")
        return 1
    asyncio.run(_serve(sim, listener, by_gateway, host))
    return 0


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be bound: {error.strerror}"
        raise PortUnavailable(f"port {port} {reason}; choose another with --port") from None
    return listener


async def _serve(
    sim: Simulator, listener: socket.socket, by_gateway: socket.socket | None, host: str
) -> None:
    port = listener.getsockname()[1]
    shown = "127.0.0.1" if host in ("0.0.0.0", "") else host  # noqa: S104 - compared, not bound
    sim.origins = list(dict.fromkeys(f"http://{name}:{port}" for name in (shown, "127.0.0.1", "localhost")))
    runner = web.AppRunner(build_app(sim), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    sites, places = [_site_of(host, listener)], _places("http", f"{shown}:{port}")
    if by_gateway is not None:
        sites.append(_site_of(host, by_gateway, certificate(sim.state_dir)))
        places["gateway"] = _places("https", f"{shown}:{by_gateway.getsockname()[1]}")
    await sim.door.open(runner, *sites)
    base_url = places["base_url"]
    path = sim.registrations.write_client_file(places)
    kind = "live" if sim.registrations.live else "paper"
    logger.info("simulator (%s) ready on %s; credentials in %s", kind, base_url, path)
    await _until_told_to_stop()
    await runner.cleanup()
    sim.close()


def _site_of(
    host: str, first: socket.socket, tls: ssl.SSLContext | None = None
) -> Callable[[web.AppRunner], web.BaseSite]:
    """Sites on one address: the first by the socket that holds it already."""
    port, sockets = first.getsockname()[1], [first]

    def site(runner: web.AppRunner) -> web.BaseSite:
        listener = sockets.pop() if sockets else _listen(host, port)
        return web.SockSite(runner, listener, backlog=1024, ssl_context=tls)

    return site


def _places(scheme: str, address: str) -> dict[str, Any]:
    """The addresses of one way in, as a login has them."""
    return {
        "base_url": f"{scheme}://{address}{API}",
        "ws_url": f"{scheme.replace('http', 'ws')}://{address}{API}/ws",
    }


async def _until_told_to_stop() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
