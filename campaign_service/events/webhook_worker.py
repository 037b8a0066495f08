"""The dispatcher of webhooks, put together: it needs nothing but settings and a database."""

from datetime import UTC, datetime, timedelta
from functools import partial

from campaign_service.campaigns.addresses import AddressPolicy, Rules
from campaign_service.events.dispatcher import Dispatcher
from campaign_service.events.reader import EventReader
from campaign_service.settings import CampaignSettings
from campaign_service.storage.event_log import SqlEventLog
from campaign_service.storage.webhook_lanes import SqlLaneStore
from campaign_service.storage.webhooks import SqlWebhookStore
from chat_store.database.engine import Database
from chat_store.sql.stores import sql_chat_store


def webhook_dispatcher(settings: CampaignSettings, database: Database) -> Dispatcher:
    return Dispatcher(
        EventReader(SqlEventLog(database), sql_chat_store(database)),
        SqlWebhookStore(database),
        SqlLaneStore(database),
        address_policy(settings),
        now=partial(datetime.now, UTC),
        lease=timedelta(seconds=settings.lease_seconds),
    )


def address_policy(settings: CampaignSettings) -> AddressPolicy:
    return AddressPolicy(Rules.read(settings.webhook_allow), Rules.read(settings.webhook_deny))
