"""Counters and durations of senders, measured around their transactions."""

from datetime import datetime
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram

from campaign_service.campaigns.errors import RunEndedError
from campaign_service.campaigns.outcomes import Outcome
from campaign_service.planning.page import PlannedPage
from campaign_service.storage.ports import Lease
from campaign_service.storage.traced_runs import TracedRuns
from chat_store.database.engine import Database

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class SenderMetrics:
    """The counters begin at 0 with the process. Exact numbers are those of the campaigns."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pages = Counter("herald_pages", "Pages that were written.", registry=registry)
        self.messages = Counter("herald_messages", "Messages that were written.", registry=registry)
        self.channels = Counter(
            "herald_channels_created", "Channels that were created.", registry=registry
        )
        targets = Counter(
            "herald_targets", "Targets by their outcome.", ["outcome"], registry=registry
        )
        # all of them from the start, so that a rate has a first value
        self.targets = {outcome: targets.labels(outcome) for outcome in Outcome}
        self.claim_seconds = Histogram(
            "herald_claim_seconds",
            "Seconds in which a sender claimed a shard; without those that found none.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "herald_commit_seconds",
            "Seconds from a planned page to its commit, with waiting for locks.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.lost_leases = Counter(
            "herald_lease_losses",
            "Shards that another sender has claimed while this one still worked on them.",
            registry=registry,
        )

    def count(self, page: PlannedPage) -> None:
        refused = [not_sent.reason.outcome for not_sent in page.not_sent]
        self.pages.inc()
        self.messages.inc(page.sent)
        self.channels.inc(page.channels_created)
        self.targets[Outcome.SENT].inc(page.sent)
        for outcome in (Outcome.SKIPPED, Outcome.FAILED):
            self.targets[outcome].inc(refused.count(outcome))


class MeasuredRuns(TracedRuns):
    """Does as the store, and counts what succeeds."""

    def __init__(
        self, metrics: SenderMetrics, database: Database, *, monthly_quota: int = 0
    ) -> None:
        super().__init__(database, monthly_quota=monthly_quota)
        self._metrics = metrics

    async def claim(self, owner: str, now: datetime, until: datetime) -> Lease | None:
        began = perf_counter()
        lease = await super().claim(owner, now, until)
        if lease:
            self._metrics.claim_seconds.observe(perf_counter() - began)
        return lease

    async def renew(self, lease: Lease, until: datetime) -> None:
        try:
            await super().renew(lease, until)
        except RunEndedError:
            await self._note_loss(lease)
            raise

    async def commit_page(self, lease: Lease, page: PlannedPage, cursor: str) -> None:
        began = perf_counter()
        try:
            await super().commit_page(lease, page, cursor)
        except RunEndedError:
            await self._note_loss(lease)
            raise
        self._metrics.commit_seconds.observe(perf_counter() - began)
        self._metrics.count(page)

    async def _note_loss(self, lease: Lease) -> None:
        if await self.is_lost(lease):
            self._metrics.lost_leases.inc()
