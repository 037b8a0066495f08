"""Bounds how long a server waits for its own workers when it stops."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from time import monotonic
from typing import Any

import structlog

# For the `finally` blocks of a cancelled worker.
_UNWINDING_SECONDS = 2.0

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Grace:
    """The seconds that workers and calls in progress share, from `begin` on."""

    seconds: float
    _ends_at: float | None = None

    def begin(self) -> None:
        self._ends_at = monotonic() + self.seconds

    @property
    def left(self) -> float:
        return self.seconds if self._ends_at is None else max(0.0, self._ends_at - monotonic())


async def run_bounded(
    work: Coroutine[Any, Any, None], stop: asyncio.Event, grace_seconds: float
) -> None:
    """Runs a worker that ends by itself some time after `stop`. Raises what the worker raises.

    Work that outlasts the grace is cancelled. If it has not ended 2 s later, it is abandoned, so
    that the server's end does not wait for it.
    """
    working = asyncio.create_task(work, name=getattr(work, "__qualname__", None))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({working}, timeout=grace_seconds)
    finally:
        stopping.cancel()
        await _cancel(working)
    if working.done() and not working.cancelled():
        working.result()


async def _cancel(working: "asyncio.Task[None]") -> None:
    if working.done():
        return
    logger.info("a worker is cancelled during its work", worker=working.get_name())
    working.cancel()
    await asyncio.wait({working}, timeout=_UNWINDING_SECONDS)
    if not working.done():
        logger.error("a worker does not end", worker=working.get_name(), task=str(working))
