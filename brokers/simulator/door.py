"""Where clients come in, by either way; while it is shut, connections are refused."""

import asyncio
from collections.abc import Callable

from aiohttp import web


class Door:
    """The listening sockets of one simulator."""

    def __init__(self) -> None:
        self._runner: web.AppRunner | None = None
        self._sites: list[web.BaseSite] = []
        self._sites_of: list[Callable[[web.AppRunner], web.BaseSite]] = []

    async def open(self, runner: web.AppRunner, *sites_of: Callable[[web.AppRunner], web.BaseSite]) -> None:
        """Listen; each of `sites_of` makes a new site of the same address each time."""
        self._runner, self._sites_of = runner, list(sites_of)
        await self._listen()

    async def shut(self, seconds: float, *, but: asyncio.BaseTransport | None) -> None:
        """End every connection but one, and refuse new ones for so long."""
        if not self._sites or self._runner is None or self._runner.server is None:
            return
        for site in self._sites:
            await site.stop()
        self._sites = []
        for connection in self._runner.server.connections:
            if connection.transport is not None and connection.transport is not but:
                connection.transport.abort()
        asyncio.get_running_loop().call_later(seconds, lambda: asyncio.ensure_future(self._listen()))

    async def _listen(self) -> None:
        if self._runner is not None:
            self._sites = [site_of(self._runner) for site_of in self._sites_of]
            for site in self._sites:
                await site.start()
