"""Keeps a run below its limits: each page waits for a reservation before it is written."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from campaign_service.storage.ports import GLOBAL_LIMIT, RunStore
from herald_rpc.process.waiting import wait_at_most

# A page is sent at once, so a limited run sends at least 14 small pages a second.
_PAGES_PER_SECOND = 14
# messages a second that a run hardly reaches without a limit
_FULL_SPEED = 10_000


def applicable_limits(
    campaign_id: str, campaign_limit: int, global_limit: int
) -> Mapping[str, int]:
    """Returns the limits that the campaign must keep, in messages a second; 0 means no limit.

    Leaves out a limit of its own that is not below the limit of all campaigns together.
    """
    limits = {}
    if campaign_limit and not 0 < global_limit <= campaign_limit:
        limits[campaign_id] = campaign_limit
    if global_limit:
        limits[GLOBAL_LIMIT] = global_limit
    return limits


class RateLimiter:
    """Reserves times for the messages of one run. Costs nothing without limits."""

    def __init__(
        self, limits: Mapping[str, int], runs: RunStore, now: Callable[[], datetime]
    ) -> None:
        self._limits = limits
        self._runs = runs
        self._now = now
        # when the reservation before was due; unset if there is none to be late for
        self._last_scheduled_at: datetime | None = None

    @property
    def is_throttled(self) -> bool:
        """Whether a run with these limits waits most of the time."""
        return bool(self._limits) and min(self._limits.values()) < _FULL_SPEED

    def page_size(self, limit: int) -> int:
        if not self._limits:
            return limit
        return max(1, min(limit, min(self._limits.values()) // _PAGES_PER_SECOND))

    async def wait_for_reservation(self, messages: int, stop: asyncio.Event) -> timedelta:
        """Waits until the messages may be sent, or `stop` is set; returns how long that would be.

        Holds neither a transaction nor a connection meanwhile.
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
