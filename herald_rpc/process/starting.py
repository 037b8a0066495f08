"""Waiting at the start for what a server depends on."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import structlog

from herald_rpc.process.waiting import Backoff, wait_at_most

_BETWEEN_LINES_SECONDS = 60.0

logger = structlog.get_logger(__name__)


class StoppedWhileStartingError(Exception):
    """The server got a stop signal before it could begin."""


async def begin(
    work: Callable[[], Awaitable[None]],
    stop: asyncio.Event,
    *,
    waiting_for: str,
    outage: type[Exception],
    described: Callable[[Exception], str],
    within_seconds: float | None,
) -> None:
    """Repeats the work until it succeeds, and logs once a minute why it does not.

    Raises the last `outage` after `within_seconds`; None means no limit. Raises
    `StoppedWhileStartingError` as soon as `stop` is set. Any other exception ends the wait.
    """
    began = monotonic()
    logged_at: float | None = None
    backoff = Backoff()
    while True:
        try:
            await work()
        except outage as error:
            now = monotonic()
            if within_seconds is not None and now - began >= within_seconds:
                raise
            if logged_at is None or now - logged_at >= _BETWEEN_LINES_SECONDS:
                logged_at = now
                logger.warning(
                    "waiting to start",
                    what=waiting_for,
                    error=described(error),
                    seconds=round(now - began, 1),
                )
        else:
            if logged_at is not None:
                seconds = round(monotonic() - began, 1)
                logger.info("can start", what=waiting_for, seconds=seconds)
            return
        pause = backoff.next()
        if within_seconds is not None:
            pause = min(pause, max(0.0, began + within_seconds - monotonic()))
        if await wait_at_most(stop, pause):
            raise StoppedWhileStartingError
