"""Events and attempts are kept for as long as the setting says, and no longer."""

from datetime import UTC, datetime, timedelta

from campaign_service.events.retention import Retention
from campaign_service.storage.event_log import SqlEventLog
from campaign_service.storage.webhook_attempts import SqlAttemptStore
from chat_store.database.engine import Database
from tests.campaign.builders import MOMENT
from tests.events.dispatching import Deliveries, a_sent_campaign
from tests.events.reading import Consumer
from tests.harness.webhook_receiver import receiving

WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)
PEOPLE = [f"p{number:03}" for number in range(120)]


async def forget(database: Database, now: datetime) -> None:
    """As the worker does, until there is nothing left to forget."""
    log, attempts = SqlEventLog(database), SqlAttemptStore(database)
    retention = Retention(log, attempts, WEEK, now=lambda: now)
    while await retention.run_once():
        pass


async def test_events_are_forgotten_when_they_are_older_than_the_retention(
    database: Database,
) -> None:
    await a_sent_campaign(database, "spring", PEOPLE)

    await forget(database, MOMENT + WEEK - HOUR)
    kept = await Consumer(database).drain()
    await forget(database, MOMENT + WEEK + HOUR)
    afterwards = await Consumer(database).drain()

    assert len(kept) == len(PEOPLE) + 3
    assert afterwards == []


async def test_events_that_nobody_has_read_yet_are_forgotten_too(database: Database) -> None:
    await a_sent_campaign(database, "spring", PEOPLE)

    await forget(database, MOMENT + WEEK + HOUR)
    await a_sent_campaign(database, "summer", PEOPLE[:1])

    assert {event.campaign_id for event in await Consumer(database).drain()} == {"summer"}


async def test_attempts_are_forgotten_when_they_are_older_than_the_retention(
    database: Database,
) -> None:
    deliveries = Deliveries(database, datetime.now(UTC))
    async with receiving() as receiver:
        await deliveries.create(receiver.url)
        await a_sent_campaign(database, "spring", PEOPLE[:5])
        await deliveries.deliver()

    await forget(database, deliveries.now + WEEK - HOUR)
    kept = await deliveries.all_attempts()
    await forget(database, deliveries.now + WEEK + HOUR)

    assert len(kept) == 5 + 3
    assert await deliveries.all_attempts() == []
