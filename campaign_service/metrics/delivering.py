"""Counters of events by sink and outcome, which grow where outcomes are stored."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter

from campaign_service.campaigns.events import Offset
from campaign_service.campaigns.pushes import PushOutcome, PushResult
from campaign_service.campaigns.webhooks import Attempt, AttemptOutcome, Batch, Lane, LaneLostError
from campaign_service.storage.pushes import SqlPushStore
from campaign_service.storage.webhook_lanes import SqlLaneStore
from chat_store.database.engine import Database

# a push that the gateway has refused for good is as dead as an event that a webhook has refused
_OF_PUSHES = {
    PushOutcome.SENT: "delivered",
    PushOutcome.FAILED: "dead",
    PushOutcome.SKIPPED: "skipped",
}


class EventMetrics:
    """The counters begin at 0 with the process. Streams have no dead letters: they are resumed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "herald_events",
            "Events by their sink and the outcome of an attempt, and pushes by theirs.",
            ["sink", "outcome"],
            registry=registry,
        )
        self.lost_lanes = Counter(
            "herald_lane_losses",
            "Lanes of webhooks that another server has claimed while this one still sent them.",
            registry=registry,
        )
        # all of them from the start, so that a rate has a first value
        for outcome in AttemptOutcome:
            self._events.labels("webhook", outcome)
        for word in _OF_PUSHES.values():
            self._events.labels("push", word)
        self._events.labels("jetstream", "delivered")

    def attempted(self, attempts: Collection[Attempt]) -> None:
        for attempt in attempts:
            self._events.labels("webhook", attempt.outcome).inc(attempt.events)

    def pushed(self, counts: Mapping[tuple[str, PushResult], int]) -> None:
        for (_, result), pushes in counts.items():
            self._events.labels("push", _OF_PUSHES[result.outcome]).inc(pushes)

    def published(self, events: int) -> None:
        self._events.labels("jetstream", "delivered").inc(events)


class MeasuredLanes(SqlLaneStore):
    def __init__(self, metrics: EventMetrics, database: Database) -> None:
        super().__init__(database)
        self._metrics = metrics

    async def advance(self, lane: Lane, offset: Offset, attempts: Sequence[Attempt]) -> None:
        try:
            await super().advance(lane, offset, attempts)
        except LaneLostError:
            self._metrics.lost_lanes.inc()
            raise
        self._metrics.attempted(attempts)

    async def disable_webhook(
        self, lane: Lane, offset: Offset, attempts: Sequence[Attempt], reason: str, now: datetime
    ) -> None:
        await super().disable_webhook(lane, offset, attempts, reason, now)
        self._metrics.attempted(attempts)

    async def retry(
        self,
        lane: Lane,
        batch: Batch,
        attempt: Attempt,
        first_attempt_at: datetime,
        before: Sequence[Attempt],
    ) -> None:
        await super().retry(lane, batch, attempt, first_attempt_at, before)
        self._metrics.attempted([*before, attempt])


class MeasuredPushes(SqlPushStore):
    def __init__(self, metrics: EventMetrics, database: Database) -> None:
        super().__init__(database)
        self._metrics = metrics

    async def count(self, counts: Mapping[tuple[str, PushResult], int]) -> None:
        await super().count(counts)
        self._metrics.pushed(counts)
