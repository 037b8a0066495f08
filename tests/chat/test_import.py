import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from chat_store.imports import lines
from chat_store.imports.lines import ImportResult, import_lines
from chat_store.models import User
from chat_store.paging import PageRequest
from herald.chat.v1 import chat_service_pb2 as pb
from segment_service.chat_import import begun
from tests.chat.running_chat import CID, NOON, Chat, refusal

pytestmark = pytest.mark.nightly_on("postgres")

INSERT, REPLACE = pb.UPSERT_MODE_INSERT, pb.UPSERT_MODE_REPLACE
SPECIAL = ["'\"\\", "%_", "e\u0301 \u202e\u05e9\u05dc\u05d5\u05dd", "a\n\tb", "😀", "\\u0000"]


@pytest.fixture(params=["sqlite", "postgres"])
def dialect(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(lines, "CHUNK_RECORDS", 10)
    return 10


def record(type_: str, **data: Any) -> str:
    return json.dumps({"type": type_, "data": data})


def user(id_: str, **data: Any) -> str:
    return record("user", id=id_, **data)


def device(id_: str, **data: Any) -> str:
    return record("device", **{"id": id_, "user_id": "anna", "push_provider_type": "apn", **data})


GENERAL = record("channel", type="messaging", id="general", created_by="anna")
IN_GENERAL = {"channel_type": "messaging", "channel_id": "general"}


async def imported(chat: Chat, *parts: list[str], mode: Any = REPLACE) -> pb.ImportResponse:
    """The first message has the mode, all others have the other one."""
    others = INSERT if mode == REPLACE else REPLACE
    messages = [
        pb.ImportRequest(mode=others if place else mode, records=part)
        for place, part in enumerate(parts)
    ]
    answer: pb.ImportResponse = await chat.call.Import(iter(messages))
    return answer


async def test_a_user_base_comes_in_with_all_it_has(chat: Chat) -> None:
    answer = await imported(
        chat,
        [user("anna", country="USA"), user("bob")],
        [],
        [device("d"), device("e", user_id="bob"), GENERAL],
        [record("member", user_id="anna", **IN_GENERAL)],
        [
            record("channel_member", user_id="bob", **IN_GENERAL),
            *(record("message", id=id_, user="anna", **IN_GENERAL) for id_ in "abc"),
        ],
    )

    assert answer == pb.ImportResponse(
        imported=pb.ImportCounts(users=2, devices=2, channels=1, members=2, messages=3)
    )
    assert (await chat.store.users.get("anna")).custom == {"country": "USA"}
    channel = await chat.store.channels.get(CID)
    assert (channel.member_count, channel.message_count) == (2, 3)
    assert await chat.store.devices.delete(["d", "e"]) == 2


async def test_bad_records_are_told_by_their_place_in_the_stream(
    chat: Chat, small_chunks: int
) -> None:
    good = [user(f"user-{number}") for number in range(small_chunks)]

    answer = await imported(
        chat,
        [user("anna"), "{nonsense", *good],
        [user("b,b"), device("d", user_id="nobody"), ""],
        [record("member", user_id="anna", **IN_GENERAL), record("reaction", id="r"), user("bob")],
    )

    assert answer.imported == pb.ImportCounts(users=12)
    assert answer.failed == 5
    assert [(e.line, e.item_type, e.item_id) for e in answer.errors] == [
        (2, "", ""),
        (13, "user", "b,b"),
        (14, "device", "d"),
        (16, "member", "anna"),
        (17, "reaction", "r"),
    ]
    assert [error.error for error in answer.errors][1:3] == [
        "user.id must not contain a comma",
        'reference error: device.user_id "nobody" doesn\'t exist',
    ]
    assert "bob" in await chat.store.users.by_id(["bob"])


@pytest.mark.parametrize(
    ("mode", "name"), [(INSERT, "Anna"), (REPLACE, "New"), (pb.UPSERT_MODE_UNSPECIFIED, "New")]
)
async def test_the_mode_is_that_of_the_first_message(chat: Chat, mode: Any, name: str) -> None:
    await chat.store.users.upsert([User(id="anna", name="Anna")], NOON)

    answer = await imported(chat, [], [user("anna", name="New")], mode=mode)

    assert answer.imported.users == 1
    assert (await chat.store.users.get("anna")).name == name


async def test_an_unknown_mode_is_refused_before_anything_is_written(chat: Chat) -> None:
    unknown = pb.ImportRequest(mode=9, records=[user("anna")])  # type: ignore[arg-type]

    refused = await refusal(chat.call.Import(iter([unknown])))

    assert (refused.code, refused.reason, refused.fields) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
        ["mode"],
    )
    assert await chat.store.users.by_id(["anna"]) == {}


async def test_an_empty_stream_imports_nothing(chat: Chat) -> None:
    assert await imported(chat) == pb.ImportResponse(imported=pb.ImportCounts())


async def test_importing_twice_is_importing_once(chat: Chat) -> None:
    whole = [
        user("anna"),
        device("d"),
        GENERAL,
        record("message", id="m", user="anna", **IN_GENERAL),
    ]

    assert await imported(chat, whole) == await imported(chat, whole)

    assert (await chat.store.channels.get(CID)).message_count == 1


async def test_a_record_too_large_fails_alone(chat: Chat) -> None:
    large = user("large", note="x" * (4 * 1024 * 1024 - 1_000))

    answer = await imported(chat, [user("anna")], [large], [user("bob")])

    assert (answer.imported.users, answer.failed) == (2, 1)
    assert answer.errors[0] == pb.ImportError(
        line=2, item_type="user", item_id="large", error="user.custom max size exceeded (5120)"
    )


async def test_an_answer_full_of_errors_reaches_a_client(chat: Chat) -> None:
    """A client takes 4 MiB at most, however long what the records say of themselves is."""
    bad = [record("😀" * 1_000, id="😀" * 1_000)] * 101

    answer = await imported(chat, *[bad] * 10)

    assert (answer.failed, len(answer.errors)) == (1_010, 1_000)
    assert answer.ByteSize() < 4 * 1024 * 1024


@pytest.mark.parametrize(
    "value", ['"\\ud800"', '"a\\u0000b"', "1e400", "-1e400", "NaN", "Infinity", "9007199254740993"]
)
async def test_what_cannot_be_stored_fails_its_record(chat: Chat, value: str) -> None:
    bad = user("anna", note="HERE").replace('"HERE"', value)

    answer = await imported(chat, [user("bob"), bad])

    assert (answer.imported.users, [error.line for error in answer.errors]) == (1, [2])


async def test_special_characters_are_stored_as_they_were_given(chat: Chat) -> None:
    names = [*SPECIAL, "😀" * 255]
    users = [user("a" * 255, **{f"key {name}": name for name in SPECIAL}), user("anna")]
    messages = [
        record("message", id=name.replace("%", "-"), user="anna", text=name, **IN_GENERAL)
        for name in names
    ]

    answer = await imported(chat, users, [GENERAL], list(map(device, names)), messages)

    assert (answer.imported.devices, answer.imported.messages, answer.failed) == (7, 7, 0)
    stored = await chat.store.users.get("a" * 255)
    assert stored.custom == {f"key {name}": name for name in SPECIAL}
    found = await chat.store.messages.in_channel(CID, PageRequest(10))
    assert {message.text for message in found.items} == set(names)
    assert await chat.store.devices.delete(names) == len(names)


async def test_a_client_that_vanishes_leaves_the_chunks_before(
    chat: Chat, small_chunks: int
) -> None:
    ids = [f"user-{number}" for number in range(small_chunks + 5)]

    async def stalling() -> AsyncIterator[pb.ImportRequest]:
        yield pb.ImportRequest(records=map(user, ids))
        await asyncio.Event().wait()

    call = chat.call.Import(stalling())
    while not await chat.store.users.by_id(ids[:1]):
        assert not call.done()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert set(await chat.store.users.by_id(ids)) == set(ids[:small_chunks])


async def test_the_stream_is_read_as_fast_as_chunks_are_written(
    chat: Chat, small_chunks: int
) -> None:
    taken = 0
    ahead = []

    async def requests() -> AsyncIterator[pb.ImportRequest]:
        nonlocal taken
        for _ in range(5):
            taken += small_chunks
            yield pb.ImportRequest(records=map(user, map(str, range(small_chunks))))

    def report(result: ImportResult) -> None:
        ahead.append(taken - result.lines)

    mode, records = await begun(requests())
    await import_lines(records, chat.store, mode, lambda: NOON, report)

    assert ahead == [0] * 5
