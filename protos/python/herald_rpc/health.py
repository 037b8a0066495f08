"""The worker that keeps a server's health true to what the server depends on."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from herald_rpc.server import RunningServer

_POLL_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class HealthWorker:
    """Asks every second. Clients that balance, ours among them, call servers that say SERVING.

    `is_well` has a time-out of its own. A server that has just started counts as well.
    """

    def __init__(self, server: RunningServer, is_well: Callable[[], Awaitable[bool]]) -> None:
        self._server = server
        self._is_well = is_well
        self._was_well = True

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Health from then on is the business of whoever stops the server."""
        while not stop.is_set():
            await self.run_once(stop)
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await stop.wait()

    async def run_once(self, stop: asyncio.Event) -> None:
        well = await self._is_well()
        if well is self._was_well or stop.is_set():
            return
        self._was_well = well
        if well:
            logger.info("serving again")
        else:
            logger.warning("not serving: what the server depends on does not answer")
        await self._server.set_serving(well)
