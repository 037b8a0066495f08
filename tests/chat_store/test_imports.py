import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from chat_store.database.engine import Database
from chat_store.distinct_channels import distinct_channel_id
from chat_store.imports.lines import CHUNK_RECORDS, ImportResult, LineError, import_lines
from chat_store.models import (
    MAX_ATTACHMENTS_BYTES,
    Channel,
    Device,
    Member,
    Message,
    PushProvider,
    User,
    WriteMode,
)
from chat_store.paging import PageRequest
from chat_store.sql.stores import sql_chat_store
from chat_store.sql.tables import devices, reads
from chat_store.store import ChatStore

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
THEN = "2024-05-01T10:00:00.123456789+02:00"
THEN_UTC = datetime(2024, 5, 1, 8, 0, 0, 123456, tzinfo=UTC)
CID = "messaging:general"


def line(type_: str, **data: Any) -> bytes:
    return json.dumps({"type": type_, "data": data}).encode() + b"\n"


def user(id_: str, **data: Any) -> bytes:
    return line("user", id=id_, **data)


def channel(**data: Any) -> bytes:
    return line("channel", **{"type": "messaging", "id": "general", "created_by": "anna", **data})


def member(**data: Any) -> bytes:
    named = {"channel_type": "messaging", "channel_id": "general", "user_id": "anna"}
    return line("member", **{**named, **data})


def message(**data: Any) -> bytes:
    named = {"channel_type": "messaging", "channel_id": "general", "user": "anna"}
    return line("message", **{"id": "m", **named, **data})


BASE = (user("anna"), channel(), member())


@pytest.fixture
def store(database: Database) -> ChatStore:
    return sql_chat_store(database)


async def imported(
    store: ChatStore,
    *lines: bytes,
    mode: WriteMode = WriteMode.REPLACE,
    moment: datetime = NOON,
) -> ImportResult:
    return await import_lines(lines, store, mode, lambda: moment)


async def members_of(store: ChatStore, cid: str) -> tuple[Member, ...]:
    return (await store.channels.query_members(cid, PageRequest(10))).items


async def messages_of(store: ChatStore, cid: str) -> tuple[Message, ...]:
    return (await store.messages.in_channel(cid, PageRequest(10))).items


async def read_positions(database: Database) -> dict[str, datetime]:
    async with database.snapshot() as connection:
        rows = await connection.execute(select(reads.c.user_id, reads.c.read_at))
        return {row.user_id: row.read_at for row in rows}


async def test_a_user_has_its_fields_and_every_unknown_key_as_custom_data(
    store: ChatStore,
) -> None:
    result = await imported(
        store,
        user(
            "anna@home",
            name="Anna",
            role="admin",
            image="https://example.com/a.png",
            teams=["red"],
            language="en",
            created_at=THEN,
            last_active=THEN,
            deactivated_at=THEN,
            deleted_at=THEN,
            push_preferences={"chat_level": "all"},
            country="USA",
            address={"city": "Austin", "geo": [1, 2.5, None]},
            invisible=True,
            privacy_settings={"typing_indicators": {"enabled": False}},
        ),
    )

    assert (result.lines, result.users, result.failed) == (1, 1, 0)
    assert await store.users.get("anna@home") == User(
        id="anna@home",
        name="Anna",
        role="admin",
        image="https://example.com/a.png",
        teams=("red",),
        language="en",
        custom={"country": "USA", "address": {"city": "Austin", "geo": [1, 2.5, None]}},
        push_preferences={"chat_level": "all"},
        created_at=THEN_UTC,
        updated_at=NOON,
        last_active=THEN_UTC,
        deactivated_at=THEN_UTC,
        deleted_at=THEN_UTC,
    )


async def test_a_channel_has_its_fields_and_every_unknown_key_as_custom_data(
    store: ChatStore,
) -> None:
    await imported(
        store,
        user("anna"),
        channel(name="General", team="red", frozen=True, disabled=True, created_at=THEN, topic="x"),
    )

    assert await store.channels.get(CID) == Channel(
        type="messaging",
        id="general",
        name="General",
        team="red",
        created_by_id="anna",
        custom={"topic": "x"},
        frozen=True,
        disabled=True,
        created_at=THEN_UTC,
        updated_at=NOON,
    )


async def test_members_of_both_names_are_counted(store: ChatStore, database: Database) -> None:
    await imported(
        store,
        user("anna"),
        user("bob"),
        channel(),
        member(channel_role="owner", hide_channel=True, archived_at=THEN, last_read=THEN, seat=1),
        line("channel_member", channel_type="messaging", channel_id="general", user_id="bob"),
    )

    assert await members_of(store, CID) == (
        Member(
            cid=CID,
            user_id="anna",
            channel_role="owner",
            hidden=True,
            archived_at=THEN_UTC,
            custom={"seat": 1},
            created_at=NOON,
        ),
        Member(cid=CID, user_id="bob", created_at=NOON),
    )
    assert (await store.channels.get(CID)).member_count == 2
    # who has no position has read everything
    assert await read_positions(database) == {"anna": THEN_UTC, "bob": NOON}


async def test_a_message_has_its_fields_and_is_counted(store: ChatStore) -> None:
    await imported(
        store,
        *BASE,
        message(
            text="Hi",
            html="<p>Hi</p>",
            attachments=[{"type": "image"}],
            created_at=THEN,
            priority="high",
        ),
    )

    assert await messages_of(store, CID) == (
        Message(
            id="m",
            cid=CID,
            user_id="anna",
            text="Hi",
            attachments=({"type": "image"},),
            custom={"priority": "high"},
            searchable=True,
            created_at=THEN_UTC,
        ),
    )
    found = await store.channels.get(CID)
    assert (found.message_count, found.last_message_at) == (1, THEN_UTC)


async def devices_of(database: Database) -> list[Device]:
    statement = select(*(devices.c[field.name] for field in fields(Device))).order_by(devices.c.id)
    async with database.snapshot() as connection:
        return [Device(**row._asdict()) for row in await connection.execute(statement)]


def device(**data: Any) -> bytes:
    return line("device", **{"id": "d", "user_id": "anna", "push_provider_type": "apn", **data})


async def test_a_device_has_its_fields_and_no_custom_data(
    store: ChatStore, database: Database
) -> None:
    whole = device(push_provider_name="beta", created_at=THEN, disabled=True)

    result = await imported(store, user("anna"), whole, device(id="e"))

    assert (result.devices, result.failed) == (2, 0)
    assert await devices_of(database) == [
        Device(
            id="d",
            user_id="anna",
            push_provider=PushProvider.APN,
            push_provider_name="beta",
            created_at=THEN_UTC,
        ),
        Device(id="e", user_id="anna", push_provider=PushProvider.APN, created_at=NOON),
    ]


@pytest.mark.parametrize(
    ("mode", "kept"), [(WriteMode.REPLACE, "huawei"), (WriteMode.INSERT, "apn")]
)
async def test_a_device_imported_again_is_one_device(
    store: ChatStore, database: Database, mode: WriteMode, kept: str
) -> None:
    await imported(store, user("anna"), device())

    result = await imported(store, device(push_provider_type="huawei"), mode=mode, moment=LATER)

    assert result.devices == 1
    (found,) = await devices_of(database)
    assert (found.push_provider, found.created_at) == (kept, NOON)


async def test_a_distinct_channel_is_named_by_its_members_everywhere(store: ChatStore) -> None:
    pair = ["bob", "anna"]
    result = await imported(
        store,
        user("anna"),
        user("bob"),
        line("channel", type="messaging", member_ids=pair, created_by="anna"),
        line("member", channel_type="messaging", channel_member_ids=pair, user_id="anna"),
        line("message", id="m", channel_type="messaging", channel_member_ids=pair, user="bob"),
    )

    assert result.errors == []
    found = await store.channels.get(f"messaging:{distinct_channel_id(pair)}")
    assert (found.distinct, found.member_count, found.message_count) == (True, 1, 1)


async def test_importing_twice_is_importing_once(store: ChatStore, database: Database) -> None:
    lines = (*BASE, message(text="Hi"))
    await imported(store, *lines)

    result = await imported(store, *lines, moment=LATER)

    assert (result.users, result.channels, result.members, result.messages) == (1, 1, 1, 1)
    found = await store.channels.get(CID)
    assert (found.member_count, found.message_count) == (1, 1)
    assert (found.created_at, found.last_message_at) == (NOON, NOON)
    assert await read_positions(database) == {"anna": NOON}


async def test_an_upsert_replaces_what_is_there(store: ChatStore, database: Database) -> None:
    await imported(
        store,
        user("anna", name="Anna", country="USA", deleted_at=THEN),
        channel(topic="x"),
        member(seat=1),
        message(text="old"),
    )
    await imported(
        store,
        user("anna", age=3),
        channel(name="New"),
        member(hide_channel=True, last_read="2030-01-01T00:00:00Z"),
        message(text="new"),
        moment=LATER,
    )

    anna = await store.users.get("anna")
    assert (anna.name, anna.custom, anna.deleted_at) == (None, {"age": 3}, None)
    found = await store.channels.get(CID)
    assert (found.name, found.custom, found.member_count) == ("New", {}, 1)
    assert await members_of(store, CID) == (
        Member(cid=CID, user_id="anna", hidden=True, created_at=NOON),
    )
    assert [(m.text, m.created_at) for m in await messages_of(store, CID)] == [("new", NOON)]
    assert await read_positions(database) == {"anna": datetime(2030, 1, 1, tzinfo=UTC)}


async def test_an_insert_leaves_what_is_there_alone(store: ChatStore) -> None:
    await imported(store, user("anna", name="Anna"), channel(name="A"), member(seat=1), message())

    result = await imported(
        store,
        user("anna"),
        user("bob"),
        channel(name="B"),
        member(),
        message(text="new"),
        mode=WriteMode.INSERT,
    )

    assert (result.users, result.failed) == (2, 0)
    assert (await store.users.get("anna")).name == "Anna"
    assert (await store.channels.get(CID)).name == "A"
    assert (await members_of(store, CID))[0].custom == {"seat": 1}
    assert (await messages_of(store, CID))[0].text == ""
    assert (await store.users.get("bob")).created_at == NOON


async def test_bad_records_are_told_by_line_and_hold_up_no_other(store: ChatStore) -> None:
    result = await imported(
        store,
        user("anna"),
        b"{not json\n",
        b"\n",
        user("b,b"),
        line("reaction", id="r"),
        b'["user"]\n',
        member(user_id="nobody"),
        channel(type="messaging", id="x", cid="y"),
        user("bob"),
    )

    assert (result.lines, result.users, result.failed) == (9, 2, 6)
    assert set(await store.users.by_id(["anna", "bob"])) == {"anna", "bob"}
    json_error, *others = result.errors
    assert (json_error.line, json_error.item_type, json_error.item_id) == (2, "", "")
    assert json_error.error.startswith("invalid JSON: ")
    assert others == [
        LineError(4, "user", "b,b", "user.id must not contain a comma"),
        LineError(5, "reaction", "r", 'type "reaction" is not imported'),
        LineError(6, "", "", 'a record is an object such as {"type": "user", "data": {…}}'),
        LineError(7, "member", "nobody", 'reference error: member.user_id "nobody" doesn\'t exist'),
        LineError(8, "channel", "messaging:x", "channel.cid is a reserved field"),
    ]


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (
            line("device", id="d", user_id="nobody", push_provider_type="apn"),
            'device.user_id "nobody" doesn\'t exist',
        ),
        (channel(created_by="nobody"), 'channel.created_by "nobody" doesn\'t exist'),
        (
            channel(id=None, member_ids=["anna", "nobody"]),
            'channel.member_ids "nobody" doesn\'t exist',
        ),
        (
            channel(id="!members-x"),
            'channel.channel "messaging:!members-x" doesn\'t exist',
        ),
        (member(channel_id="x"), 'member.channel "messaging:x" doesn\'t exist'),
        (message(user="nobody"), 'message.user "nobody" doesn\'t exist'),
        (message(channel_id="x"), 'message.channel "messaging:x" doesn\'t exist'),
    ],
)
async def test_what_a_record_refers_to_must_be_there(
    store: ChatStore, record: bytes, error: str
) -> None:
    result = await imported(store, user("anna"), channel(), record)

    assert [(each.line, each.error) for each in result.errors] == [(3, f"reference error: {error}")]


async def test_a_record_refers_to_what_is_stored_or_on_a_line_before(store: ChatStore) -> None:
    await imported(store, user("anna"))
    await store.users.delete(["anna"], NOON)

    result = await imported(store, member(), channel(), member(), message(user="bob"), user("bob"))

    assert [(error.line, error.item_type) for error in result.errors] == [
        (1, "member"),
        (4, "message"),
    ]
    assert (result.channels, result.members, result.users) == (1, 1, 1)


async def test_a_record_does_not_refer_to_one_that_failed(store: ChatStore) -> None:
    result = await imported(store, user("anna", online=True), channel(), member())

    assert [error.line for error in result.errors] == [1, 2, 3]


async def test_a_distinct_channel_may_be_written_by_its_id_when_it_is_there(
    store: ChatStore,
) -> None:
    await imported(
        store,
        user("anna"),
        user("bob"),
        line("channel", type="messaging", member_ids=["anna", "bob"], created_by="anna"),
    )
    id_ = distinct_channel_id(["anna", "bob"])

    result = await imported(store, channel(id=id_, name="Pair"))

    assert result.errors == []
    assert (await store.channels.get(f"messaging:{id_}")).name == "Pair"


async def test_of_two_records_with_one_id_the_last_counts(store: ChatStore) -> None:
    result = await imported(
        store,
        *BASE,
        user("anna", name="2"),
        channel(name="2"),
        member(seat=2),
        message(),
        message(),
    )

    assert result.errors == []
    assert (await store.users.get("anna")).name == "2"
    found = await store.channels.get(CID)
    assert (found.name, found.member_count, found.message_count) == ("2", 1, 1)
    assert (await members_of(store, CID))[0].custom == {"seat": 2}


async def test_every_chunk_is_durable_when_it_is_reported(store: ChatStore) -> None:
    lines = [user(f"user-{number}") for number in range(CHUNK_RECORDS + 1)]
    reported: list[tuple[int, int]] = []

    result = await import_lines(
        lines,
        store,
        WriteMode.REPLACE,
        lambda: NOON,
        lambda result: reported.append((result.lines, result.bytes)),
    )

    size = len(b"".join(lines))
    assert reported == [(CHUNK_RECORDS, size - len(lines[-1])), (CHUNK_RECORDS + 1, size)]
    assert len(await store.users.by_id(f"user-{n}" for n in range(CHUNK_RECORDS + 1))) == len(lines)
    assert result.users == len(lines)


async def test_lines_are_counted_over_all_chunks(store: ChatStore) -> None:
    lines = [user("anna")] * CHUNK_RECORDS + [user("bob"), user("c,d")]

    result = await imported(store, *lines)

    assert [error.line for error in result.errors] == [CHUNK_RECORDS + 2]


async def test_a_source_that_breaks_off_leaves_the_chunks_before(store: ChatStore) -> None:
    async def breaking_off() -> AsyncIterator[bytes]:
        for number in range(CHUNK_RECORDS + 1):
            yield user(f"user-{number}")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await import_lines(breaking_off(), store, WriteMode.REPLACE, lambda: NOON)

    assert set(await store.users.by_id([f"user-{CHUNK_RECORDS - 1}", f"user-{CHUNK_RECORDS}"])) == {
        f"user-{CHUNK_RECORDS - 1}"
    }


@pytest.mark.nightly
async def test_large_records_make_small_chunks(store: ChatStore) -> None:
    """A chunk is bounded by its bytes, too: 17 messages of half a megabyte are two chunks."""
    attachment = {"a": "x" * (MAX_ATTACHMENTS_BYTES - len('[{"a":""}]'))}
    large = [message(id=f"m{number}", attachments=[attachment]) for number in range(17)]
    reported: list[int] = []

    await import_lines(
        [*BASE, *large],
        store,
        WriteMode.REPLACE,
        lambda: NOON,
        lambda result: reported.append(result.messages),
    )

    assert reported == [16, 17]


async def test_others_get_a_turn_while_an_import_runs(store: ChatStore) -> None:
    lines = [user(f"user-{number}") for number in range(3 * CHUNK_RECORDS)]
    import_ = asyncio.create_task(import_lines(lines, store, WriteMode.REPLACE, lambda: NOON))

    turns = 0
    while not import_.done():
        await store.users.upsert([User(id="other")], NOON)
        turns += 1

    assert (await import_).users == len(lines)
    assert turns > 3


async def test_only_so_many_errors_are_kept(store: ChatStore) -> None:
    result = await imported(store, *[b"{}\n"] * 1_001)

    assert (result.failed, len(result.errors), result.errors[-1].line) == (1_001, 1_000, 1_000)


async def test_a_byte_order_mark_is_no_part_of_the_first_record(store: ChatStore) -> None:
    assert (await imported(store, b"\xef\xbb\xbf" + user("anna"))).users == 1
