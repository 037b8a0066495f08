"""Waits for an event with a time limit, and pauses between tries."""

import asyncio
import random
from contextlib import suppress

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0


async def wait_at_most(event: asyncio.Event, seconds: float | None) -> bool:
    """Waits until the event is set or the time has passed; returns whether the event is set.

    None means no time limit.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


class Backoff:
    """Pauses that double up to the longest one, in seconds.

    Each is shortened by up to a half at random, so that callers that failed together do not retry
    together.
    """

    def __init__(
        self,
        first_seconds: float = FIRST_PAUSE_SECONDS,
        longest_seconds: float = LONGEST_PAUSE_SECONDS,
    ) -> None:
        self._first_seconds = first_seconds
        self._longest_seconds = longest_seconds
        self.reset()

    def reset(self) -> None:
        """Starts again with the first pause."""
        self._next = min(self._first_seconds, self._longest_seconds)

    def next(self) -> float:
        """Returns how many seconds to wait before the next try."""
        pause = self._next * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        self._next = min(2 * self._next, self._longest_seconds)
        return pause
