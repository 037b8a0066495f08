"""Assembles the workers that deliver events, each from settings and a database."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from campaign_service.campaigns.addresses import AddressPolicy, Rules
from campaign_service.events.dispatcher import Dispatcher
from campaign_service.events.pushes import Pusher
from campaign_service.events.reader import EventReader
from campaign_service.metrics.opening import lag_workers
from campaign_service.settings import CampaignSettings
from campaign_service.storage.event_log import SqlEventLog
from campaign_service.storage.pushes import SqlPushStore
from campaign_service.storage.traces import trace_of
from campaign_service.storage.webhook_lanes import SqlLaneStore
from campaign_service.storage.webhooks import SqlWebhookStore
from chat_store.database.engine import Database, open_database
from chat_store.sql.stores import sql_chat_store
from herald_rpc.metrics.opening import Metrics, open_metrics_of_worker
from herald_rpc.process.worker import Worker

if TYPE_CHECKING:
    from campaign_service.events.jetstream import JetStreamPublisher
    from campaign_service.metrics.delivering import EventMetrics
    from campaign_service.metrics.lags import Sink


@asynccontextmanager
async def open_for_dispatchers(settings: CampaignSettings) -> AsyncIterator[Database]:
    """Opens the database with few connections, as a background user.

    On SQLite its many small writes then let callers go first.
    """
    database = open_database(settings.database_url, pool_size=2, background=True)
    try:
        yield database
    finally:
        await database.close()


def dispatcher_metrics(
    settings: CampaignSettings, database: Database
) -> AbstractAsyncContextManager[Metrics]:
    return open_metrics_of_worker(
        settings.dispatcher_metrics_listen, {"dispatchers": database.connection_uses}
    )


async def begin_pushes(settings: CampaignSettings, database: Database) -> None:
    """With a `push_url`, lets pushes begin with the next event, if there have not been any yet."""
    if settings.push_url:
        await SqlPushStore(database).begin()


def event_workers(
    settings: CampaignSettings, database: Database, metrics: Metrics
) -> Sequence[Worker]:
    counters = None
    if metrics.registry:
        from campaign_service.metrics.delivering import EventMetrics  # noqa: PLC0415

        counters = EventMetrics(metrics.registry)
    publishers = _jetstream_publishers(settings, database, counters)
    pushers = _pushers(settings, database, counters)
    workers: list[Worker] = [
        _webhook_dispatcher(settings, database, counters),
        *publishers,
        *pushers,
    ]
    metrics.follow(lambda: all(worker.is_well for worker in workers))
    sinks: dict[str, Sink] = dict(zip(["jetstream"], publishers, strict=False))
    sinks |= dict(zip(["push"], pushers, strict=False))
    return [*workers, *lag_workers(metrics, database, sinks, of_webhooks=True)]


def _webhook_dispatcher(
    settings: CampaignSettings, database: Database, counters: "EventMetrics | None"
) -> Dispatcher:
    lanes = SqlLaneStore(database)
    if counters:
        from campaign_service.metrics.delivering import MeasuredLanes  # noqa: PLC0415

        lanes = MeasuredLanes(counters, database)
    return Dispatcher(
        EventReader(SqlEventLog(database), sql_chat_store(database)),
        SqlWebhookStore(database),
        lanes,
        address_policy(settings),
        now=partial(datetime.now, UTC),
        lease=timedelta(seconds=settings.lease_seconds),
    )


def _jetstream_publishers(
    settings: CampaignSettings, database: Database, counters: "EventMetrics | None"
) -> "Sequence[JetStreamPublisher]":
    """Returns one publisher, or none without a `nats_url`."""
    if not settings.nats_url:
        return []
    # imported here: the NATS client is an extra
    from campaign_service.events.jetstream import JetStreamPublisher  # noqa: PLC0415

    reader = EventReader(SqlEventLog(database), sql_chat_store(database))
    publisher = JetStreamPublisher(
        reader, settings.nats_url, settings.nats_stream, partial(trace_of, database)
    )
    if counters:
        publisher.on_published = counters.published
    return [publisher]


def _pushers(
    settings: CampaignSettings, database: Database, counters: "EventMetrics | None"
) -> Sequence[Pusher]:
    """Returns one pusher, or none without a `push_url`."""
    if not settings.push_url:
        return []
    chat = sql_chat_store(database)
    pushes = SqlPushStore(database)
    if counters:
        from campaign_service.metrics.delivering import MeasuredPushes  # noqa: PLC0415

        pushes = MeasuredPushes(counters, database)
    pusher = Pusher(
        EventReader(SqlEventLog(database), chat),
        chat,
        pushes,
        settings.push_url,
        ttl=timedelta(seconds=settings.push_ttl_seconds),
        now=partial(datetime.now, UTC),
    )
    return [pusher]


def address_policy(settings: CampaignSettings) -> AddressPolicy:
    return AddressPolicy(Rules.read(settings.webhook_allow), Rules.read(settings.webhook_deny))
