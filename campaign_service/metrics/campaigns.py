"""The worker that reads the metrics of campaigns under way from the database."""

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from time import monotonic

from prometheus_client import CollectorRegistry, Gauge

from campaign_service.campaigns.model import Status
from campaign_service.campaigns.waiting import Cause, RunningCampaign, cause_of
from campaign_service.metrics.lags import POLL_SECONDS, READ_SECONDS
from campaign_service.storage.measures import SqlMeasures
from chat_store.errors import StoreUnavailableError
from herald_rpc.process.outages import RepeatingWorker

# Campaigns with series of their own: so many that began first. Each has about a dozen.
_MOST_CAMPAIGNS = 100
# rows are counted again after a pause of so many times the last count: a hundredth of the time
_RECOUNT_PAUSE = 99.0
_PENDING = "pending"


class CampaignMetrics(RepeatingWorker):
    """Reads two small statements every 2 s. Whether it can do so does not matter to health."""

    is_well = True

    def __init__(
        self,
        registry: CollectorRegistry,
        measures: SqlMeasures,
        *,
        lease_time: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__("the metrics of campaigns", StoreUnavailableError, TimeoutError)
        self._measures = measures
        self._lease_time = lease_time
        self._now = now
        self._shown: set[str] = set()
        # campaigns to recount: those that run, have just ended, or were wrong the last time
        self._to_recount: set[str] = set()
        self._wrong: dict[str, int] = {}
        self._next_recount = 0.0
        self._gauges = _Gauges(registry)

    async def step(self) -> float:
        await self.run_once()
        return POLL_SECONDS

    async def run_once(self) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                running = await self._measures.running(_MOST_CAMPAIGNS)
                under_way = await self._measures.under_way()
        except (StoreUnavailableError, TimeoutError):
            for campaign_id in self._shown:
                self._gauges.show_cause(campaign_id, Cause.DATABASE)
            raise
        for status, count in under_way.items():
            self._gauges.campaigns.labels(status).set(count)
        self._show(running)
        if monotonic() >= self._next_recount:
            await self._recount()

    def recount_at_once(self) -> None:
        """Ends the pause before the next recount."""
        self._next_recount = 0.0

    def _show(self, running: Collection[RunningCampaign]) -> None:
        now = self._now()
        ids = {campaign.campaign_id for campaign in running}
        for campaign_id in self._shown - ids:
            self._gauges.forget(campaign_id)
            # a last time, at its end
            self._to_recount.add(campaign_id)
        for campaign in running:
            self._gauges.show(campaign, cause_of(campaign, now, self._lease_time))
        self._shown = ids
        self._to_recount |= {
            campaign.campaign_id for campaign in running if campaign.status is Status.IN_PROGRESS
        }

    async def _recount(self) -> None:
        began = monotonic()
        for campaign_id in sorted(self._to_recount | self._wrong.keys()):
            account = await self._measures.account(campaign_id)
            self._wrong.pop(campaign_id, None)
            if account and account.unaccounted_targets:
                self._wrong[campaign_id] = account.unaccounted_targets
        self._to_recount.clear()
        self._gauges.unaccounted.set(sum(self._wrong.values()))
        ended = monotonic()
        self._next_recount = ended + (ended - began) * _RECOUNT_PAUSE


class _Gauges:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.campaigns = Gauge(
            "herald_campaigns",
            "Campaigns that are in progress or scheduled.",
            ["status"],
            registry=registry,
        )
        self._waiting = Gauge(
            "herald_campaign_waiting",
            "1 for the cause for which a campaign waits, 0 for the others.",
            ["campaign_id", "cause"],
            registry=registry,
        )
        self._targets = Gauge(
            "herald_campaign_targets",
            "Targets of a campaign under way: sent, skipped, failed, and pending.",
            ["campaign_id", "outcome"],
            registry=registry,
        )
        self.unaccounted = Gauge(
            "herald_unaccounted_targets",
            "Targets that counters have too many or too few, counted row by row; always 0.",
            registry=registry,
        )

    def show(self, campaign: RunningCampaign, cause: Cause | None) -> None:
        handled = sum(campaign.handled.values())
        pending = max(0, campaign.targets_total - handled)
        for outcome, targets in {**campaign.handled, _PENDING: pending}.items():
            self._targets.labels(campaign.campaign_id, outcome).set(targets)
        self.show_cause(campaign.campaign_id, cause)

    def show_cause(self, campaign_id: str, cause: Cause | None) -> None:
        for each in Cause:
            self._waiting.labels(campaign_id, each).set(each is cause)

    def forget(self, campaign_id: str) -> None:
        self._waiting.remove_by_labels({"campaign_id": campaign_id})
        self._targets.remove_by_labels({"campaign_id": campaign_id})
