"""Assembles the workers that read metrics from the database, if metrics are on."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from campaign_service.settings import CampaignSettings
from chat_store.database.engine import Database
from herald_rpc.metrics.opening import Metrics
from herald_rpc.process.worker import Worker

if TYPE_CHECKING:
    from campaign_service.metrics.lags import Sink

_now = partial(datetime.now, UTC)


def campaign_workers(
    metrics: Metrics, settings: CampaignSettings, database: Database
) -> Sequence[Worker]:
    """Returns the worker that shows campaigns."""
    if metrics.registry is None:
        return []
    from campaign_service.metrics.campaigns import CampaignMetrics  # noqa: PLC0415
    from campaign_service.storage.measures import SqlMeasures  # noqa: PLC0415

    return [
        CampaignMetrics(
            metrics.registry,
            SqlMeasures(database, has_global_limit=settings.max_messages_per_second > 0),
            lease_time=timedelta(seconds=settings.lease_seconds),
            now=_now,
        )
    ]


def lag_workers(
    metrics: Metrics,
    database: Database,
    sinks: "Mapping[str, Sink]",
    *,
    of_webhooks: bool = False,
) -> Sequence[Worker]:
    """Returns the worker that shows how far these sinks of events are behind."""
    if metrics.registry is None:
        return []
    from campaign_service.metrics.lags import LagMetrics  # noqa: PLC0415
    from campaign_service.storage.measures import SqlMeasures  # noqa: PLC0415

    measures = SqlMeasures(database)
    return [LagMetrics(metrics.registry, measures, sinks, of_webhooks=of_webhooks, now=_now)]
