"""Where clients come in; while it is shut, connections are refused."""

import asyncio
from collections.abc import Callable

from aiohttp import web


class Door:
    """The listening socket of one simulator."""

    def __init__(self) -> None:
        self._runner: web.AppRunner | None = None
        self._site: web.BaseSite | None = None
        self._site_of: Callable[[web.AppRunner], web.BaseSite] | None = None

    async def open(self, runner: web.AppRunner, site_of: Callable[[web.AppRunner], web.BaseSite]) -> None:
        """Listen; `site_of` makes a new site of the same address each time."""
        self._runner, self._site_of = runner, site_of
        await self._listen()

    async def shut(self, seconds: float, *, but: asyncio.BaseTransport | None) -> None:
        """End every connection but one, and refuse new ones for so long."""
        if self._site is None or self._runner is None or self._runner.server is None:
            return
        await self._site.stop()
        self._site = None
        for connection in self._runner.server.connections:
            if connection.transport is not None and connection.transport is not but:
                connection.transport.abort()
        asyncio.get_running_loop().call_later(seconds, lambda: asyncio.ensure_future(self._listen()))

    async def _listen(self) -> None:
        if self._runner is not None and self._site_of is not None:
            self._site = self._site_of(self._runner)
            await self._site.start()
