"""Writers of the same rows don't wait for each other in a circle: all lock them in one order.

PostgreSQL would end one of them after a second. One row is held here, and the writer that comes to
it must have locked the rows before, and none behind.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import ColumnElement, update

from chat_store.database.bulk.batches import execute_in_transaction
from chat_store.database.engine import Database, open_database
from chat_store.errors import StoreUnavailableError
from chat_store.models import Channel, Device, Member, Message, PushProvider, User, WriteMode
from chat_store.page_rows import PageRows
from chat_store.sql.page_writes import page_writes
from chat_store.sql.stores import sql_chat_store
from chat_store.sql.tables import channels, devices, members, messages, reads, users
from chat_store.store import ChannelDraft, ChatStore, ImportBatch
from tests.harness.lock_order import MIDDLE, STORED, UP_TO_THE_MIDDLE, locked_before
from tests.harness.postgres import FAST_AND_UNSAFE, Postgres, PostgresError, temporary_postgres

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
# each writer gets them in a third order
GIVEN = [*STORED[4:], *STORED[:4]]
TOGETHER = "messaging:together"

Write = Callable[[Database, ChatStore], Coroutine[Any, Any, None]]


def cid(key: str) -> str:
    return f"messaging:{key}"


def a_device(key: str) -> Device:
    return Device(id=key, user_id=key, push_provider=PushProvider.FIREBASE)


def a_message(key: str, text: str = "") -> Message:
    return Message(id=key, cid=cid(key), user_id=key, text=text)


def a_page() -> PageRows:
    return PageRows(
        moment=LATER,
        messages_per_channel=dict.fromkeys(map(cid, GIVEN), 1),
        sender_joins=list(map(cid, GIVEN)),
        sender_id="k8",
        unhidden={"cid": [TOGETHER], "user_id": ["k0"]},
    )


def an_import() -> ImportBatch:
    return ImportBatch(
        users=[User(id=key) for key in GIVEN],
        devices=[a_device(key) for key in GIVEN],
        channels=[Channel(type="messaging", id=key) for key in GIVEN],
        members=[Member(cid=TOGETHER, user_id=key, hidden=True) for key in GIVEN],
        last_read=dict.fromkeys([(TOGETHER, key) for key in GIVEN], LATER),
        messages=[a_message(key, "again") for key in GIVEN],
    )


async def upsert_users(_: Database, store: ChatStore) -> None:
    await store.users.upsert([User(id=key) for key in GIVEN], LATER)


async def deactivate(_: Database, store: ChatStore) -> None:
    await store.users.deactivate(GIVEN, LATER)


async def delete_users(_: Database, store: ChatStore) -> None:
    await store.users.delete(GIVEN, LATER)


async def import_all(_: Database, store: ChatStore) -> None:
    await store.imports.write(an_import(), LATER, WriteMode.REPLACE)


async def import_members(_: Database, store: ChatStore) -> None:
    batch = ImportBatch(members=[Member(cid=cid(key), user_id="k8") for key in GIVEN])
    await store.imports.write(batch, LATER, WriteMode.INSERT)


async def upsert_devices(_: Database, store: ChatStore) -> None:
    await store.devices.upsert([a_device(key) for key in GIVEN], LATER)


async def disable_devices(_: Database, store: ChatStore) -> None:
    await store.devices.disable(dict.fromkeys(GIVEN, "unregistered"))


async def delete_devices(_: Database, store: ChatStore) -> None:
    await store.devices.delete(GIVEN)


async def upsert_channels(_: Database, store: ChatStore) -> None:
    drafts = [ChannelDraft(Channel(type="messaging", id=key)) for key in GIVEN]
    await store.channels.upsert(drafts, LATER)


async def delete_channels(_: Database, store: ChatStore) -> None:
    await store.channels.delete([cid(key) for key in GIVEN], LATER)


async def add_messages(_: Database, store: ChatStore) -> None:
    new = [replace(a_message(key), id=f"new-{key}") for key in GIVEN]
    await store.messages.upsert(new, LATER)


async def change_messages(_: Database, store: ChatStore) -> None:
    await store.messages.upsert([a_message(key, "again") for key in GIVEN], LATER)


async def move_messages(_: Database, store: ChatStore) -> None:
    """All into one channel: the others have fewer."""
    moved = [replace(a_message(key), cid=TOGETHER) for key in GIVEN]
    await store.messages.upsert(moved, LATER)


async def import_moved_messages(_: Database, store: ChatStore) -> None:
    batch = ImportBatch(messages=[replace(a_message(key), cid=TOGETHER) for key in GIVEN])
    await store.imports.write(batch, LATER, WriteMode.REPLACE)


async def remove_members(_: Database, store: ChatStore) -> None:
    await store.channels.remove_members(TOGETHER, GIVEN)


async def add_members(_: Database, store: ChatStore) -> None:
    await store.channels.add_members(TOGETHER, [Member(cid=TOGETHER, user_id="new")], LATER)


async def write_page(database: Database, _: ChatStore) -> None:
    """Of a campaign, with a message for each channel, which the sender enters."""
    await execute_in_transaction(database, "", page_writes(database.dialect, a_page()))


async def write_page_of_several_messages(database: Database, _: ChatStore) -> None:
    """Several statements count them, each those of other channels."""
    page = replace(a_page(), messages_per_channel={cid(key): 1 + int(key[1:]) % 3 for key in GIVEN})
    await execute_in_transaction(database, "", page_writes(database.dialect, page))


@dataclass(frozen=True, slots=True)
class Case:
    """`key` is the column in which the rows of its table differ."""

    key: ColumnElement[str]
    write: Write

    def __str__(self) -> str:
        return f"{self.key} by {self.write.__name__}"


CASES = [
    *(Case(users.c.id, write) for write in (upsert_users, deactivate, delete_users, import_all)),
    *(
        Case(devices.c.id, write)
        for write in (upsert_devices, disable_devices, delete_devices, import_all)
    ),
    *(
        Case(channels.c.id, write)
        for write in (
            upsert_channels,
            delete_channels,
            add_messages,
            change_messages,
            move_messages,
            import_all,
            import_members,
            import_moved_messages,
            write_page,
            write_page_of_several_messages,
        )
    ),
    Case(members.c.user_id, import_all),
    Case(reads.c.user_id, import_all),
    *(Case(messages.c.id, write) for write in (change_messages, import_all)),
]


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    opened = open_database(postgres_url)
    yield opened
    await opened.close()


@pytest.fixture
async def store(database: Database) -> ChatStore:
    """Of nine records of each kind, and one channel of all users."""
    store = sql_chat_store(database)
    for key in STORED:
        await store.users.upsert([User(id=key)], NOON)
        await store.devices.upsert([a_device(key)], NOON)
        await store.channels.upsert([ChannelDraft(Channel(type="messaging", id=key))], NOON)
        await store.messages.upsert([a_message(key)], NOON)
    together = Channel(type="messaging", id="together")
    await store.users.upsert([User(id="new")], NOON)
    await store.channels.upsert([ChannelDraft(together)], NOON)
    for key in STORED:
        batch = ImportBatch(
            members=[Member(cid=TOGETHER, user_id=key, hidden=True)],
            last_read={(TOGETHER, key): NOON},
        )
        await store.imports.write(batch, NOON, WriteMode.INSERT)
    return store


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_several_rows_of_a_table_are_locked_in_the_order_of_their_key(
    case: Case, database: Database, store: ChatStore
) -> None:
    held = case.key == MIDDLE

    locked = await locked_before(database, held, case.key, case.write(database, store))

    assert locked == UP_TO_THE_MIDDLE


@pytest.mark.parametrize(
    "write", [import_all, add_members, remove_members, write_page], ids=lambda w: w.__name__
)
@pytest.mark.parametrize("later", [members.c.user_id, messages.c.id], ids=str)
async def test_channels_are_locked_before_their_members_and_messages(
    later: ColumnElement[str], write: Write, database: Database, store: ChatStore
) -> None:
    held = channels.c.cid == (cid(MIDDLE) if write is write_page else TOGETHER)

    locked = await locked_before(database, held, later, write(database, store))

    assert not locked


@pytest.mark.nightly
async def test_the_tests_postgresql_fails_at_its_end_if_transactions_waited_for_each_other() -> (
    None
):
    with (
        pytest.raises(PostgresError, match="waits for ShareLock"),
        temporary_postgres(FAST_AND_UNSAFE) as server,
    ):
        assert await errors_of_a_circle(server) == [StoreUnavailableError]


async def errors_of_a_circle(server: Postgres) -> list[type[object]]:
    database = open_database(server.url(server.fresh_database()))
    store = sql_chat_store(database)
    await store.users.upsert([User(id="anna"), User(id="bob")], NOON)
    both_began = asyncio.Barrier(2)

    async def rename(first: str, then: str) -> None:
        async with database.transaction() as connection:
            await connection.execute(update(users).where(users.c.id == first).values(name=""))
            await both_began.wait()
            await connection.execute(update(users).where(users.c.id == then).values(name=""))

    outcomes = await asyncio.gather(
        rename("anna", "bob"), rename("bob", "anna"), return_exceptions=True
    )
    await database.close()
    return [type(outcome) for outcome in outcomes if outcome]
