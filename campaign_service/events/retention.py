"""The worker that deletes old events and attempts."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from campaign_service.storage.event_ports import AttemptStore, EventLog
from chat_store.errors import StoreUnavailableError
from herald_rpc.process.outages import Outages, repeat

_PAUSE_SECONDS = 60.0
# pages of up to 10,000 targets each, so that the transaction stays short
_ENTRIES_AT_ONCE = 500
_ATTEMPTS_AT_ONCE = 5_000


class Retention:
    """Deletes rows that are older than the retention. Several of these may run."""

    def __init__(
        self,
        log: EventLog,
        attempts: AttemptStore,
        retention: timedelta,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._log = log
        self._attempts = attempts
        self._retention = retention
        self._now = now
        self._outages = Outages(StoreUnavailableError)

    @property
    def is_well(self) -> bool:
        return not self._outages

    async def run(self, stop: asyncio.Event) -> None:
        async def step() -> float:
            return 0.0 if await self.run_once() else _PAUSE_SECONDS

        await repeat("the retention of events", step, stop, self._outages)

    async def run_once(self) -> bool:
        """Deletes a bounded number of old rows. Returns whether there may be more."""
        # entries that nobody has read yet have no position, and would be kept
        await self._log.ends()
        before = self._now() - self._retention
        entries = await self._log.forget(before, _ENTRIES_AT_ONCE)
        attempts = await self._attempts.forget(before, _ATTEMPTS_AT_ONCE)
        return entries == _ENTRIES_AT_ONCE or attempts == _ATTEMPTS_AT_ONCE
