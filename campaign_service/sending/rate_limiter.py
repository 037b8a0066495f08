"""Keeping below the limits: under one, a page waits for its turn before it is written."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from campaign_service.storage.ports import GLOBAL_LIMIT, RunStore
from herald_rpc.process.waiting import wait_at_most

# A page is a burst: so many a second make the rate a smooth one.
_PAGES_PER_SECOND = 14
# messages a second that a run hardly reaches by itself
_FULL_SPEED = 10_000


def applicable_limits(
    campaign_id: str, campaign_limit: int, global_limit: int
) -> Mapping[str, int]:
    """Messages a second for each pace that the campaign has to keep; 0 is no limit.

    One of its own that is above that of all campaigns together would never be felt.
    """
    limits = {}
    if campaign_limit and not 0 < global_limit <= campaign_limit:
        limits[campaign_id] = campaign_limit
    if global_limit:
        limits[GLOBAL_LIMIT] = global_limit
    return limits


class RateLimiter:
    """One run's turns. Without limits it costs nothing: there is nothing to wait for."""

    def __init__(
        self, limits: Mapping[str, int], runs: RunStore, now: Callable[[], datetime]
    ) -> None:
        self._limits = limits
        self._runs = runs
        self._now = now
        # when the turn before was due; unset while there is nothing to be late with
        self._last_scheduled_at: datetime | None = None

    @property
    def is_throttled(self) -> bool:
        """Whether a run that keeps it waits most of the time."""
        return bool(self._limits) and min(self._limits.values()) < _FULL_SPEED

    def page_size(self, limit: int) -> int:
        if not self._limits:
            return limit
        return max(1, min(limit, min(self._limits.values()) // _PAGES_PER_SECOND))

    async def wait_for_reservation(self, messages: int, stop: asyncio.Event) -> timedelta:
        """Returns when it is the turn of so many messages, or when `stop` is set.

        Tells how long that was to take. Holds neither a transaction nor a connection meanwhile.
        """
        if not self._limits or not messages:
            self._last_scheduled_at = None
            return timedelta(0)
        now = self._now()
        reservation = await self._runs.reserve(
            self._limits, messages, self._last_scheduled_at or now, now
        )
        self._last_scheduled_at = reservation.scheduled_at
        pause = reservation.not_before - now
        if pause > timedelta(0):
            await wait_at_most(stop, pause.total_seconds())
        return pause
