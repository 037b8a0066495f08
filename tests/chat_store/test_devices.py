import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from chat_store.database.engine import Database
from chat_store.errors import UserNotFoundError
from chat_store.models import Device, PushProvider, User, WriteMode
from chat_store.sql.stores import sql_chat_store
from chat_store.store import ChatStore

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def device(id_: str, user_id: str = "anna", created_at: datetime | None = None) -> Device:
    return Device(id=id_, user_id=user_id, push_provider=PushProvider.APN, created_at=created_at)


@pytest.fixture
async def store(database: Database) -> ChatStore:
    store = sql_chat_store(database)
    await store.users.upsert([User(id="anna"), User(id="bob")], NOON)
    return store


async def test_a_replaced_device_keeps_only_its_creation(store: ChatStore) -> None:
    first = Device(
        id="d", user_id="anna", push_provider=PushProvider.HUAWEI, push_provider_name="beta"
    )
    await store.devices.upsert([first], NOON)

    assert await store.devices.upsert([device("d", "bob")], LATER) == [device("d", "bob", NOON)]
    moved = device("d", "bob", LATER)
    assert await store.devices.upsert([moved], LATER) == [moved]


async def test_an_inserted_device_leaves_what_is_there_alone(store: ChatStore) -> None:
    await store.devices.upsert([device("d")], NOON)

    stored = await store.devices.upsert([device("d", "bob"), device("e")], LATER, WriteMode.INSERT)

    assert stored == [device("d", created_at=NOON), device("e", created_at=LATER)]


async def test_the_first_user_who_is_not_there_is_named(store: ChatStore) -> None:
    with pytest.raises(UserNotFoundError) as caught:
        await store.devices.upsert(
            [device("a"), device("c", "nobody"), device("b", "no one")], NOON
        )

    assert caught.value.user_id == "nobody"
    assert await store.devices.delete(["a"]) == 0


async def test_two_writers_of_the_same_devices_never_wait_for_each_other(
    store: ChatStore,
) -> None:
    given = [device(str(number)) for number in range(100)]
    await store.devices.upsert(given, NOON)

    await asyncio.gather(
        *(store.devices.upsert(given[:: (-1) ** number], NOON) for number in range(8))
    )

    assert await store.devices.delete([each.id for each in given]) == 100
