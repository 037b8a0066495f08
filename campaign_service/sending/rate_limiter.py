"""Keeping below the limits: under one, a page waits for its turn before it is written."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from campaign_service.storage.ports import EVERY_CAMPAIGN, RunStore

# A page is a burst: so many a second make the rate a smooth one.
_PAGES_PER_SECOND = 14
# messages a second that a run hardly reaches by itself
_FULL_SPEED = 10_000


def limits_of(campaign_id: str, own: int, of_all: int) -> Mapping[str, int]:
    """Messages a second for each pace that the campaign has to keep; 0 is no limit.

    One of its own that is above that of all campaigns together would never be felt.
    """
    limits = {}
    if own and not 0 < of_all <= own:
        limits[campaign_id] = own
    if of_all:
        limits[EVERY_CAMPAIGN] = of_all
    return limits


class Pace:
    """One run's turns. Without limits it costs nothing: there is nothing to wait for."""

    def __init__(
        self, limits: Mapping[str, int], runs: RunStore, now: Callable[[], datetime]
    ) -> None:
        self._limits = limits
        self._runs = runs
        self._now = now
        # when the turn before was due; unset while there is nothing to be late with
        self._due_at: datetime | None = None

    @property
    def makes_wait(self) -> bool:
        """Whether a run that keeps it waits most of the time."""
        return bool(self._limits) and min(self._limits.values()) < _FULL_SPEED

    def page_size(self, most: int) -> int:
        if not self._limits:
            return most
        return max(1, min(most, min(self._limits.values()) // _PAGES_PER_SECOND))

    async def wait(self, messages: int, stop: asyncio.Event) -> timedelta:
        """Returns when it is the turn of so many messages, or when `stop` is set.

        Tells how long that was to take. Holds neither a transaction nor a connection meanwhile.
        """
        if not self._limits or not messages:
            self._due_at = None
            return timedelta(0)
        now = self._now()
        turn = await self._runs.reserve(self._limits, messages, self._due_at or now, now)
        self._due_at = turn.due_at
        pause = turn.at - now
        if pause > timedelta(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(pause.total_seconds()):
                    await stop.wait()
        return pause
