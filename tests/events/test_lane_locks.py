"""Dispatchers don't wait for each other in a circle: all lock lanes and attempts in one order.

As `chat_store/test_row_locks.py` shows it for the chat store.
"""

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import ColumnElement

from campaign_service.campaigns.events import Offset
from campaign_service.campaigns.webhooks import Webhook
from campaign_service.storage.event_tables import webhook_attempts, webhook_lanes
from campaign_service.storage.webhook_attempts import SqlAttemptStore
from campaign_service.storage.webhook_lanes import SqlLaneStore
from campaign_service.storage.webhooks import SqlWebhookStore
from chat_store.database.engine import Database, open_database
from tests.events.dispatching import SECRET, a_sent_campaign
from tests.events.lanes import LATER, NO_LEASE, NOW, a_lane, an_attempt, leased, store_lanes
from tests.events.reading import a_reader
from tests.harness.lock_order import MIDDLE, STORED, UP_TO_THE_MIDDLE, locked_before


async def store_attempts(database: Database) -> None:
    await store_lanes(database, [a_lane("crm", "spring")])
    for id_ in STORED:
        await SqlLaneStore(database).advance(leased("crm"), Offset(1), [an_attempt(id_, 1)])


async def distribution(database: Database) -> Coroutine[Any, Any, object]:
    await a_sent_campaign(database, "spring", ["anna"])
    await store_lanes(database, [a_lane(id_, "spring") for id_ in STORED])
    end = (await a_reader(database).ends()).next
    return SqlLaneStore(database).distribute(end)


async def claim(database: Database) -> Coroutine[Any, Any, object]:
    """Of two webhooks, whose lanes are chosen in turns."""
    lanes = [a_lane("crm" if id_ <= MIDDLE else "shop", id_) for id_ in STORED]
    await store_lanes(database, [lane | NO_LEASE for lane in lanes])
    return SqlLaneStore(database).claim("one", NOW, LATER, most=9, most_of_webhook=9)


async def renewal(database: Database) -> Coroutine[Any, Any, object]:
    await store_lanes(database, [a_lane(id_, "spring") for id_ in STORED])
    return SqlLaneStore(database).renew([leased(id_) for id_ in STORED], LATER)


async def deletion_of_lanes(database: Database) -> Coroutine[Any, Any, object]:
    await store_lanes(database, [a_lane("crm", id_) for id_ in STORED])
    return SqlWebhookStore(database).delete("crm", NOW)


async def deletion_of_attempts(database: Database) -> Coroutine[Any, Any, object]:
    await store_attempts(database)
    return SqlWebhookStore(database).delete("crm", NOW)


async def retention(database: Database) -> Coroutine[Any, Any, object]:
    await store_attempts(database)
    return SqlAttemptStore(database).forget(LATER, 100)


async def repetition(database: Database) -> Coroutine[Any, Any, object]:
    """Several attempts that had been announced are stored together."""
    await store_attempts(database)
    attempts = [an_attempt(id_, 2) for id_ in STORED]
    return SqlLaneStore(database).advance(leased("crm"), Offset(2), attempts)


@dataclass(frozen=True, slots=True)
class Case:
    """`key` is the column in which the rows of its table differ."""

    key: ColumnElement[str]
    write: Callable[[Database], Coroutine[Any, Any, Coroutine[Any, Any, object]]]

    def __str__(self) -> str:
        return f"{self.key} by {self.write.__name__}"


CASES = [
    Case(webhook_lanes.c.webhook_id, distribution),
    Case(webhook_lanes.c.campaign_id, claim),
    Case(webhook_lanes.c.webhook_id, renewal),
    Case(webhook_lanes.c.campaign_id, deletion_of_lanes),
    Case(webhook_attempts.c.id, deletion_of_attempts),
    Case(webhook_attempts.c.id, retention),
    Case(webhook_attempts.c.id, repetition),
]


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """With webhooks that begin at the first event."""
    opened = open_database(postgres_url)
    for id_ in (*STORED, "crm", "shop"):
        await SqlWebhookStore(opened).create(
            Webhook(id=id_, url="https://example.com", secret=SECRET), NOW
        )
    yield opened
    await opened.close()


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_several_rows_of_a_table_are_locked_in_the_order_of_their_key(
    case: Case, database: Database
) -> None:
    write = await case.write(database)

    locked = await locked_before(database, case.key == MIDDLE, case.key, write)

    assert locked == UP_TO_THE_MIDDLE
