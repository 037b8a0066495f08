"""Assembles the workers that deliver events, each from settings and a database."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from campaign_service.campaigns.addresses import AddressPolicy, Rules
from campaign_service.events.dispatcher import Dispatcher
from campaign_service.events.pushes import Pusher
from campaign_service.events.reader import EventReader
from campaign_service.settings import CampaignSettings
from campaign_service.storage.event_log import SqlEventLog
from campaign_service.storage.pushes import SqlPushStore
from campaign_service.storage.webhook_lanes import SqlLaneStore
from campaign_service.storage.webhooks import SqlWebhookStore
from chat_store.database.engine import Database, open_database
from chat_store.sql.stores import sql_chat_store
from herald_rpc.process.worker import Worker

if TYPE_CHECKING:
    from campaign_service.events.jetstream import JetStreamPublisher


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


async def begin_pushes(settings: CampaignSettings, database: Database) -> None:
    """With a `push_url`, lets pushes begin with the next event, if there have not been any yet."""
    if settings.push_url:
        await SqlPushStore(database).begin()


def event_workers(settings: CampaignSettings, database: Database) -> Sequence[Worker]:
    return [
        _webhook_dispatcher(settings, database),
        *_jetstream_publishers(settings, database),
        *_pushers(settings, database),
    ]


def _webhook_dispatcher(settings: CampaignSettings, database: Database) -> Dispatcher:
    return Dispatcher(
        EventReader(SqlEventLog(database), sql_chat_store(database)),
        SqlWebhookStore(database),
        SqlLaneStore(database),
        address_policy(settings),
        now=partial(datetime.now, UTC),
        lease=timedelta(seconds=settings.lease_seconds),
    )


def _jetstream_publishers(
    settings: CampaignSettings, database: Database
) -> "Sequence[JetStreamPublisher]":
    """Returns one publisher, or none without a `nats_url`."""
    if not settings.nats_url:
        return []
    # imported here: the NATS client is an extra
    from campaign_service.events.jetstream import JetStreamPublisher  # noqa: PLC0415

    reader = EventReader(SqlEventLog(database), sql_chat_store(database))
    return [JetStreamPublisher(reader, settings.nats_url, settings.nats_stream)]


def _pushers(settings: CampaignSettings, database: Database) -> Sequence[Pusher]:
    """Returns one pusher, or none without a `push_url`."""
    if not settings.push_url:
        return []
    chat = sql_chat_store(database)
    pusher = Pusher(
        EventReader(SqlEventLog(database), chat),
        chat,
        SqlPushStore(database),
        settings.push_url,
        ttl=timedelta(seconds=settings.push_ttl_seconds),
        now=partial(datetime.now, UTC),
    )
    return [pusher]


def address_policy(settings: CampaignSettings) -> AddressPolicy:
    return AddressPolicy(Rules.read(settings.webhook_allow), Rules.read(settings.webhook_deny))
