"""Puts the senders of one process together."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

from campaign_service.segment_client import SegmentClient
from campaign_service.sending.claiming import ClaimCoordinator
from campaign_service.sending.sender import Sender, SenderOptions
from campaign_service.settings import CampaignSettings
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.traced_runs import TracedRuns
from chat_store.database.engine import Database, open_database
from chat_store.sql.stores import sql_chat_store
from herald_rpc.client.channels import open_channels
from herald_rpc.metrics.opening import Metrics, open_metrics_of_worker

# runs in addition to those in the slots, because throttled runs wait most of the time
_MAX_THROTTLED_RUNS = 32


@asynccontextmanager
async def open_for_senders(settings: CampaignSettings) -> AsyncIterator[Database]:
    """Opens the database as a background user, after which callers go first on SQLite."""
    database = open_database(settings.database_url, background=True)
    try:
        yield database
    finally:
        await database.close()


async def run_senders(
    settings: CampaignSettings, database: Database, stop: asyncio.Event, woken: asyncio.Event
) -> None:
    """Sends until `stop` is set; the pages in progress are written first.

    `woken` is set when a campaign may be ready, so that it does not wait for the next poll.
    """
    now = partial(datetime.now, UTC)
    async with (
        open_channels(settings.segment_target, settings.channel_security) as channels,
        open_metrics_of_worker(
            settings.sender_metrics_listen, {"senders": database.connection_uses}
        ) as metrics,
    ):
        segments = SegmentClient(*channels.values())
        options = SenderOptions(
            owner=f"{socket.gethostname()}:{os.getpid()}",
            page_size=settings.page_size,
            lease_time=timedelta(seconds=settings.lease_seconds),
            max_messages_per_second=settings.max_messages_per_second,
            multi_tenancy=settings.multi_tenancy,
        )
        chat = sql_chat_store(database)
        campaigns = SqlCampaignStore(database)
        runs = _runs(settings, database, metrics)
        coordinator = ClaimCoordinator(asyncio.Semaphore(settings.sender_slots), woken)
        metrics.follow(lambda: not coordinator.outages)
        async with asyncio.TaskGroup() as group:
            for _ in range(settings.sender_slots + _MAX_THROTTLED_RUNS):
                sender = Sender(
                    campaigns, runs, chat, segments, options, now=now, coordinator=coordinator
                )
                group.create_task(sender.run(stop))


def _runs(settings: CampaignSettings, database: Database, metrics: Metrics) -> SqlRunStore:
    if metrics.registry is None:
        return TracedRuns(database, monthly_quota=settings.monthly_quota)
    from campaign_service.metrics.sending import MeasuredRuns, SenderMetrics  # noqa: PLC0415

    counters = SenderMetrics(metrics.registry)
    return MeasuredRuns(counters, database, monthly_quota=settings.monthly_quota)
