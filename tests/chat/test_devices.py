from datetime import timedelta

import pytest
from sqlalchemy import select

from chat_store.database.engine import open_database
from chat_store.sql.tables import devices
from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as pb
from tests.chat.running_chat import NOON, Chat, refusal, time

pytestmark = pytest.mark.nightly_on("postgres")

LATER = NOON + timedelta(hours=1)
APN, FIREBASE = chat_pb2.PUSH_PROVIDER_APN, chat_pb2.PUSH_PROVIDER_FIREBASE


@pytest.fixture(params=["sqlite", "postgres"])
def dialect(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def device(
    id_: str, user_id: str = "anna", provider: chat_pb2.PushProvider.ValueType = APN
) -> chat_pb2.Device:
    return chat_pb2.Device(
        id=id_, user_id=user_id, push_provider=provider, created_at=time(NOON - timedelta(days=1))
    )


async def upserted(
    chat: Chat,
    *given: chat_pb2.Device,
    mode: pb.UpsertMode.ValueType = pb.UPSERT_MODE_UNSPECIFIED,
) -> list[chat_pb2.Device]:
    answer = await chat.call.UpsertDevices(pb.UpsertDevicesRequest(devices=given, mode=mode))
    return list(answer.devices)


async def stored_ids(url: str) -> list[str]:
    database = open_database(url)
    async with database.snapshot() as connection:
        found = list(await connection.scalars(select(devices.c.id).order_by(devices.c.id)))
    await database.close()
    return found


@pytest.mark.parametrize(
    "provider", [value for value in chat_pb2.PushProvider.values() if value], ids=str
)
async def test_a_device_comes_back_as_it_was_given(
    chat_with_members: Chat, provider: chat_pb2.PushProvider.ValueType
) -> None:
    given = device("token", provider=provider)
    given.push_provider_name = "beta"
    given.hardware_id = "phone"

    assert await upserted(chat_with_members, given) == [given]


async def test_only_the_store_disables_a_device(chat_with_members: Chat) -> None:
    given = device("token")
    given.disabled, given.disabled_reason = True, "because"

    assert await upserted(chat_with_members, given) == [device("token")]


@pytest.mark.parametrize(
    ("mode", "disabled"), [(pb.UPSERT_MODE_REPLACE, False), (pb.UPSERT_MODE_INSERT, True)]
)
async def test_a_disabled_device_says_so_until_it_is_registered_again(
    chat_with_members: Chat, mode: pb.UpsertMode.ValueType, *, disabled: bool
) -> None:
    await upserted(chat_with_members, device("token"))
    await chat_with_members.store.devices.disable({"token": "Unregistered"})

    (answer,) = await upserted(chat_with_members, device("token"), mode=mode)

    reason = "Unregistered" if disabled else ""
    assert (answer.disabled, answer.disabled_reason) == (disabled, reason)


async def test_devices_are_answered_in_the_order_given_and_the_last_of_two_counts(
    chat_with_members: Chat,
) -> None:
    last = device("z", "bob", FIREBASE)

    answer = await upserted(chat_with_members, device("z"), device("b"), last, device("a"))

    assert answer == [last, device("b"), last, device("a")]


async def test_a_replaced_device_may_be_another_user_s(chat_with_members: Chat) -> None:
    first = device("token")
    first.push_provider_name = "beta"
    await upserted(chat_with_members, first)

    moved = device("token", "bob", FIREBASE)
    moved.created_at.CopyFrom(time(LATER))

    assert await upserted(chat_with_members, moved, mode=pb.UPSERT_MODE_REPLACE) == [moved]


async def test_an_insert_leaves_what_is_there_alone(chat_with_members: Chat) -> None:
    await upserted(chat_with_members, device("token"))

    answer = await upserted(
        chat_with_members, device("token", "bob"), device("new", "bob"), mode=pb.UPSERT_MODE_INSERT
    )

    assert answer == [device("token"), device("new", "bob")]


async def test_an_unset_created_at_is_now_and_then_as_stored(chat_with_members: Chat) -> None:
    given = device("token")
    given.ClearField("created_at")
    (registered,) = await upserted(chat_with_members, given)
    chat_with_members.clock.now = LATER
    (again,) = await upserted(chat_with_members, given)

    assert (registered.created_at, again.created_at) == (time(NOON), time(NOON))


async def test_all_devices_are_written_or_none(chat_with_members: Chat) -> None:
    request = pb.UpsertDevicesRequest(
        devices=[device("a"), device("b", "zoe"), device("c", "nobody")]
    )

    refused = await refusal(chat_with_members.call.UpsertDevices(request))

    assert (refused.reason, refused.metadata) == ("USER_NOT_FOUND", {"user_id": "zoe"})
    assert await stored_ids(chat_with_members.url) == []


async def test_the_user_of_a_device_that_does_not_count_is_not_asked_for(
    chat_with_members: Chat,
) -> None:
    assert (
        await upserted(chat_with_members, device("a", "nobody"), device("a")) == [device("a")] * 2
    )


async def test_deleted_devices_are_counted_once_and_gone(chat_with_members: Chat) -> None:
    await upserted(chat_with_members, device("a"), device("b"), device("c"))

    for deleted in (2, 0):
        request = pb.DeleteDevicesRequest(ids=["a", "c", "a", "none"])
        assert (await chat_with_members.call.DeleteDevices(request)).deleted == deleted

    assert await stored_ids(chat_with_members.url) == ["b"]


async def test_special_characters_come_back_as_they_were_given(
    chat_with_members: Chat,
) -> None:
    ids = ["'\"\\", "%_", "e\u0301 \u202e\u05e9\u05dc\u05d5\u05dd", "a\n\tb", "😀" * 255, "\x01"]
    given = [device(id_) for id_ in ids]
    for each in given:
        each.push_provider_name = each.id

    assert await upserted(chat_with_members, *given) == given

    deletion = pb.DeleteDevicesRequest(ids=ids[:-1])
    assert (await chat_with_members.call.DeleteDevices(deletion)).deleted == len(ids) - 1
    assert await stored_ids(chat_with_members.url) == ids[-1:]
