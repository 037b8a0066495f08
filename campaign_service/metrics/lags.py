"""The worker that reads from the database how far the sinks of events are behind."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge

from campaign_service.campaigns.events import Offset
from campaign_service.storage.measures import SqlMeasures
from chat_store.errors import StoreUnavailableError
from herald_rpc.process.outages import RepeatingWorker

POLL_SECONDS = 2.0
# for statements of a millisecond
READ_SECONDS = 3.0


class Sink(Protocol):
    @property
    def reached(self) -> Offset | None:
        """The offset in the log of events that it has reached; None: it has read all."""


class LagMetrics(RepeatingWorker):
    """Reads a few small statements every 2 s. Whether it can do so does not matter to health.

    `sinks` are those of this process. `of_webhooks` adds the webhooks, whose lanes are in the
    database, the same for all processes.
    """

    is_well = True

    def __init__(
        self,
        registry: CollectorRegistry,
        measures: SqlMeasures,
        sinks: Mapping[str, Sink],
        *,
        of_webhooks: bool = False,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__("the lag of events", StoreUnavailableError, TimeoutError)
        self._measures = measures
        self._sinks = sinks
        self._of_webhooks = of_webhooks
        self._now = now
        self._entries = Gauge(
            "herald_event_lag_entries",
            "Changes and pages of campaigns whose events a sink still has to get.",
            ["sink"],
            registry=registry,
        )
        self._seconds = Gauge(
            "herald_event_lag_seconds",
            "Age of the oldest of them.",
            ["sink"],
            registry=registry,
        )

    async def step(self) -> float:
        async with asyncio.timeout(READ_SECONDS):
            await self.run_once()
        return POLL_SECONDS

    async def run_once(self) -> None:
        end = await self._measures.end_of_log()
        reached = {name: _position(sink.reached) for name, sink in self._sinks.items()}
        if self._of_webhooks:
            reached["webhook"] = await self._measures.webhooks_reached()
        for name, position in reached.items():
            entries, seconds = 0, 0.0
            if position is not None and position < end:
                written_at = await self._measures.written_at(position)
                entries = end - max(position, 1)
                if written_at is not None:
                    seconds = max(0.0, (self._now() - written_at).total_seconds())
            self._entries.labels(name).set(entries)
            self._seconds.labels(name).set(seconds)


def _position(offset: Offset | None) -> int | None:
    return None if offset is None else offset.position
