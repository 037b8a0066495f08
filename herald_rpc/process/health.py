"""The worker that reports a server's health by the state of its dependencies."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from herald_rpc.process.outages import RepeatingWorker
from herald_rpc.server.serving import RunningServer

_POLL_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class HealthWorker(RepeatingWorker):
    """Checks every second. Clients with load balancing, as ours, call only servers that serve.

    `is_well` has a time-out of its own; if it raises, the server is not well. A server that has just
    started counts as well.
    """

    def __init__(self, server: RunningServer, is_well: Callable[[], Awaitable[bool]]) -> None:
        super().__init__("the health check", longest_pause_seconds=_POLL_SECONDS)
        self._server = server
        self._ask_whether_well = is_well
        self._was_well = True
        self._stop = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Reports until `stop` is set. After that, the code that stops the server sets its health."""
        self._stop = stop
        await super().run(stop)

    async def step(self) -> float:
        await self.run_once(self._stop)
        return _POLL_SECONDS

    async def run_once(self, stop: asyncio.Event) -> None:
        try:
            well = await self._ask_whether_well()
        except Exception:
            await self._tell(stop, well=False)
            raise
        await self._tell(stop, well=well)

    async def _tell(self, stop: asyncio.Event, *, well: bool) -> None:
        if well is self._was_well or stop.is_set():
            return
        self._was_well = well
        if well:
            logger.info("serving again")
        else:
            logger.warning("not serving: the server, or what it depends on, is not well")
        await self._server.set_serving(well)
