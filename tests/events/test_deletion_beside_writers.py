"""A deleted webhook leaves nothing behind, whatever is written about it at the same moment.

PostgreSQL only: on SQLite one writes after the other.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Table, func, select, text

from campaign_service.campaigns.events import Offset
from campaign_service.campaigns.webhooks import (
    AttemptNotFoundError,
    AttemptOutcome,
    Batch,
    LaneLostError,
    Webhook,
    WebhookNotFoundError,
)
from campaign_service.storage.event_tables import (
    webhook_attempts,
    webhook_lanes,
    webhook_replays,
    webhooks,
)
from campaign_service.storage.webhook_attempts import SqlAttemptStore
from campaign_service.storage.webhook_lanes import SqlLaneStore
from campaign_service.storage.webhooks import SqlWebhookStore
from chat_store.audit.callers import Caller, calling
from chat_store.audit.tables import audit_pending
from chat_store.database.engine import Database, open_database
from tests.events.dispatching import SECRET, a_sent_campaign
from tests.events.lanes import LATER, NO_LEASE, NOW, a_lane, an_attempt, leased, store_lanes
from tests.events.reading import a_reader
from tests.harness.lock_order import waits

LANE = leased("crm")
BATCH = Batch(end=Offset(2), event_id="event", event_type="message.new", events=1, body=b"{}")

Write = Callable[[Database], Coroutine[Any, Any, object]]


async def redelivery(database: Database) -> object:
    return await SqlAttemptStore(database).redeliver("dead", NOW)


async def replay(database: Database) -> object:
    return await SqlAttemptStore(database).replay("crm", [], None, None, "once", NOW)


async def change(database: Database) -> object:
    return await SqlWebhookStore(database).update("crm", lambda webhook: webhook, NOW)


async def distribution(database: Database) -> None:
    end = (await a_reader(database).ends()).next
    await SqlLaneStore(database).distribute(end)


async def progress(database: Database) -> None:
    await SqlLaneStore(database).advance(LANE, Offset(2), [an_attempt("second")])


async def announcement_of_a_retry(database: Database) -> None:
    await SqlLaneStore(database).retry(LANE, BATCH, an_attempt("second"), NOW, [])


async def disabling(database: Database) -> None:
    attempts = [an_attempt("second")]
    await SqlLaneStore(database).disable_webhook(LANE, Offset(2), attempts, "gone", NOW)


@dataclass(frozen=True, slots=True)
class Case:
    """`last` is the table that the writer changes last."""

    write: Write
    last: Table

    def __str__(self) -> str:
        return self.write.__name__


CASES = [
    Case(redelivery, audit_pending),
    Case(replay, audit_pending),
    Case(change, audit_pending),
    Case(distribution, webhooks),
    Case(progress, webhook_attempts),
    Case(announcement_of_a_retry, webhook_attempts),
    Case(disabling, webhook_attempts),
]


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """With a webhook that has a lane, a dead attempt, and events that are in no lane yet."""
    opened = open_database(postgres_url)
    await SqlWebhookStore(opened).create(
        Webhook(id="crm", url="https://example.com", secret=SECRET), NOW
    )
    await store_lanes(opened, [a_lane("crm", "spring")])
    dead = an_attempt("dead", outcome=AttemptOutcome.DEAD)
    await SqlLaneStore(opened).advance(LANE, Offset(1), [dead])
    await a_sent_campaign(opened, "autumn", ["anna"])
    yield opened
    await opened.close()


async def delete(database: Database) -> bool:
    return await SqlWebhookStore(database).delete("crm", NOW)


async def audited(write: Coroutine[Any, Any, object]) -> object:
    with calling(Caller(method="a test")):
        return await write


@asynccontextmanager
async def no_writes_of(table: Table, database: Database) -> AsyncIterator[None]:
    """Rows can be locked, and not be changed."""
    async with database.transaction() as connection:
        await connection.execute(text(f"LOCK TABLE {table.name} IN SHARE MODE"))
        yield


async def rows_left(database: Database) -> dict[str, int]:
    left = {}
    async with database.autocommit() as connection:
        for table in (webhooks, webhook_lanes, webhook_attempts, webhook_replays):
            if count := await connection.scalar(select(func.count()).select_from(table)):
                left[table.name] = count
    return left


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_webhook_that_is_deleted_while_it_is_written_about_leaves_no_row(
    case: Case, database: Database
) -> None:
    async with no_writes_of(case.last, database):
        writing = asyncio.create_task(audited(case.write(database)))
        await waits(database, writing)
        deleting = asyncio.create_task(delete(database))
        await waits(database, deleting, others=1)
    await asyncio.gather(writing, deleting)

    assert await rows_left(database) == {}


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_nothing_can_be_written_about_a_webhook_that_is_being_deleted(
    case: Case, database: Database
) -> None:
    async with no_writes_of(audit_pending, database):
        deleting = asyncio.create_task(audited(delete(database)))
        await waits(database, deleting)
        writing = asyncio.create_task(case.write(database))
        await waits(database, writing, others=1)
    await deleting
    (outcome,) = await asyncio.gather(writing, return_exceptions=True)

    assert outcome is None or isinstance(
        outcome, WebhookNotFoundError | AttemptNotFoundError | LaneLostError
    )
    assert await rows_left(database) == {}


async def test_a_deletion_knows_of_events_that_a_dispatcher_is_just_about_to_send(
    database: Database,
) -> None:
    """It would otherwise not wait for their end, and events would come after its answer."""
    lanes_to_claim = [a_lane("crm", id_) | NO_LEASE for id_ in ("summer", "winter")]
    await store_lanes(database, lanes_to_claim)
    lanes = webhook_lanes.c
    async with database.transaction() as holder:
        last = select(lanes.campaign_id).where(lanes.campaign_id == "winter").with_for_update()
        await holder.execute(last)
        claim = SqlLaneStore(database).claim("one", NOW, LATER, most=9, most_of_webhook=9)
        claiming = asyncio.create_task(claim)
        await waits(database, claiming)
        deleting = asyncio.create_task(delete(database))
        await waits(database, deleting, others=1)

    assert len(await claiming) == 2
    assert await deleting
