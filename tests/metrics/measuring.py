"""The metrics of campaigns, read on a clock that a test moves."""

from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry

from campaign_service.campaigns.waiting import Cause
from campaign_service.metrics.campaigns import CampaignMetrics
from campaign_service.storage.measures import SqlMeasures
from chat_store.database.engine import Database
from tests.campaign.builders import MOMENT
from tests.metrics.series import Series, by_label, series_of, value

LEASE_TIME = timedelta(seconds=10)


class Metrics:
    def __init__(self, database: Database, *, has_global_limit: bool = False) -> None:
        self.now = MOMENT
        self.registry = CollectorRegistry()
        measures = SqlMeasures(database, has_global_limit=has_global_limit)
        self.worker = CampaignMetrics(
            self.registry, measures, lease_time=LEASE_TIME, now=self.clock
        )

    def clock(self) -> datetime:
        return self.now

    async def read(self) -> Series:
        await self.worker.run_once()
        return self.series()

    def series(self) -> Series:
        return series_of(self.registry)

    async def causes(self, campaign_id: str = "spring") -> list[str]:
        """The causes whose value is 1; all others must be there, and 0."""
        return causes_in(await self.read(), campaign_id)

    async def unaccounted(self) -> float | None:
        return value(await self.read(), "herald_unaccounted_targets")


def causes_in(series: Series, campaign_id: str = "spring") -> list[str]:
    values = by_label(series, "herald_campaign_waiting", "cause", campaign_id=campaign_id)
    assert set(values) == set(Cause), values
    assert set(values.values()) <= {0.0, 1.0}
    return [cause for cause, number in values.items() if number]
