from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chat_store.database.engine import Database, open_database
from chat_store.errors import ChannelNotFoundError, MemberNotFoundError
from chat_store.models import Channel, Message, User, WriteMode
from chat_store.paging import Page, PageRequest
from chat_store.sql.messages import sent_targets
from chat_store.sql.stores import sql_chat_store
from chat_store.store import ChannelDraft, ChatStore
from tests.chat_store.plans import plan_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CID = "messaging:general"
OTHER = "messaging:other"


def after(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


def message(id_: str, cid: str = CID, minutes: int | None = None) -> Message:
    created_at = None if minutes is None else after(minutes)
    return Message(id=id_, cid=cid, user_id="anna", created_at=created_at)


@pytest.fixture
async def store(database: Database) -> ChatStore:
    """With anna in the channels `general` and `other`, and bob in none."""
    store = sql_chat_store(database)
    await store.users.upsert([User(id="anna"), User(id="bob")], NOON)
    await store.channels.upsert(
        [
            ChannelDraft(Channel(type="messaging", id="general"), ["anna"]),
            ChannelDraft(Channel(type="messaging", id="other"), ["anna"]),
        ],
        NOON,
    )
    return store


async def counted(store: ChatStore, cid: str) -> tuple[int, datetime | None]:
    channel = await store.channels.get(cid)
    return channel.message_count, channel.last_message_at


def ids(page: Page[Message]) -> list[str]:
    return [found.id for found in page.items]


async def test_a_message_comes_back_as_it_was_given(store: ChatStore) -> None:
    whole = Message(
        id="m",
        cid=CID,
        user_id="anna",
        type="system",
        text="Hällo\nthere",
        attachments=({"type": "image", "sizes": [1, 2.5]}, {}),
        poll_id="poll",
        custom={"a": {"b": [None, False]}},
        searchable=True,
        campaign_id="c",
        target_id="t",
        created_at=after(1),
    )

    await store.messages.upsert([whole, message("plain")], NOON)

    page = await store.messages.in_channel(CID, PageRequest(10))
    assert page.items == (whole, replace(message("plain"), created_at=NOON))


async def test_messages_move_their_channels_count_and_latest_time(store: ChatStore) -> None:
    await store.messages.upsert(
        [message("a", CID, 5), message("b", CID, 3), message("c", OTHER)], NOON
    )

    assert await counted(store, CID) == (2, after(5))
    assert await counted(store, OTHER) == (1, NOON)


async def test_an_older_message_does_not_move_the_latest_time_back(store: ChatStore) -> None:
    await store.messages.upsert([message("a", CID, 5)], NOON)
    await store.messages.upsert([message("b", CID, 1)], NOON)

    assert await counted(store, CID) == (2, after(5))


async def test_writing_a_message_twice_is_writing_it_once(store: ChatStore) -> None:
    await store.messages.upsert([message("a", CID, 5), message("a", CID, 5)], NOON)
    await store.messages.upsert([replace(message("a"), text="new")], NOON)

    page = await store.messages.in_channel(CID, PageRequest(10))
    assert [(m.id, m.text, m.created_at) for m in page.items] == [("a", "new", after(5))]
    assert await counted(store, CID) == (1, after(5))


async def test_inserting_leaves_a_message_that_is_there_alone(store: ChatStore) -> None:
    await store.messages.upsert([message("a", CID, 5)], NOON)
    await store.messages.upsert(
        [replace(message("a"), text="new"), message("b", CID, 6)], NOON, WriteMode.INSERT
    )

    page = await store.messages.in_channel(CID, PageRequest(10))
    assert page.items == (message("b", CID, 6), message("a", CID, 5))
    assert await counted(store, CID) == (2, after(6))


async def test_a_message_that_moves_to_another_channel_is_counted_there(store: ChatStore) -> None:
    await store.messages.upsert([message("a", CID, 1), message("b", CID, 2)], NOON)

    await store.messages.upsert([message("a", OTHER, 7)], NOON)

    assert await counted(store, CID) == (1, after(2))
    assert await counted(store, OTHER) == (1, after(7))


async def test_a_replaced_message_keeps_whose_campaign_it_was(store: ChatStore) -> None:
    sent = replace(message("a"), campaign_id="c", target_id="t")
    await store.messages.upsert([sent], NOON)
    await store.messages.upsert([replace(message("a"), text="edited")], NOON)

    (found,) = (await store.messages.of_campaign("c", PageRequest(10))).items
    assert (found.target_id, found.text) == ("t", "edited")


async def test_a_channels_messages_come_newest_first_page_by_page(store: ChatStore) -> None:
    """Where the time is the same, in an order that stays."""
    given = [message(f"m{number}", CID, number // 3) for number in range(8)]
    await store.messages.upsert([*given, message("elsewhere", OTHER, 1)], NOON)

    seen: list[str] = []
    page = await store.messages.in_channel(CID, PageRequest(3))
    while page.next_cursor:
        seen += ids(page)
        page = await store.messages.in_channel(CID, PageRequest(3, cursor=page.next_cursor))
    seen += ids(page)

    assert seen == ["m7", "m6", "m5", "m4", "m3", "m2", "m1", "m0"]
    back = await store.messages.in_channel(CID, PageRequest(3, cursor=page.prev_cursor))
    assert ids(back) == ["m4", "m3", "m2"]


async def test_a_campaigns_messages_come_in_target_order_page_by_page(store: ChatStore) -> None:
    targets = sorted(["b", "a", "ä", "Z", "10"], key=str.encode)
    await store.messages.upsert(
        [
            *(
                replace(message(f"m{i}"), campaign_id="c", target_id=target)
                for i, target in enumerate(reversed(targets))
            ),
            replace(message("x"), campaign_id="other", target_id="a"),
            message("plain"),
        ],
        NOON,
    )
    first = await store.messages.of_campaign("c", PageRequest(3))
    second = await store.messages.of_campaign("c", PageRequest(3, cursor=first.next_cursor))
    back = await store.messages.of_campaign("c", PageRequest(3, cursor=second.prev_cursor))

    assert [m.target_id for m in (*first.items, *second.items)] == targets
    assert (first.prev_cursor, second.next_cursor, back.items) == (None, None, first.items)
    assert (await store.messages.of_campaign("none", PageRequest(3))).items == ()


async def test_messages_of_a_deleted_channel_can_be_read(store: ChatStore) -> None:
    await store.messages.upsert([message("a")], NOON)
    await store.channels.delete([CID], NOON)

    assert ids(await store.messages.in_channel(CID, PageRequest(10))) == ["a"]
    with pytest.raises(ChannelNotFoundError):
        await store.messages.in_channel("messaging:none", PageRequest(10))


async def test_sent_targets_are_those_that_have_a_message(
    database: Database, store: ChatStore
) -> None:
    await store.messages.upsert(
        [
            replace(message("a"), campaign_id="c", target_id="t1"),
            replace(message("b"), campaign_id="other", target_id="t2"),
        ],
        NOON,
    )
    async with database.snapshot() as connection:
        sent = await sent_targets(connection, database.dialect, "c", ["t1", "t2", "t3"])

    assert sent == {"t1"}


async def test_sent_targets_are_looked_up_one_by_one_on_sqlite(sqlite_url: str) -> None:
    """A second pass asks for each of its pages, however much the campaign has sent."""
    database = open_database(sqlite_url)

    async def ask() -> None:
        async with database.snapshot() as connection:
            await sent_targets(connection, database.dialect, "c", ["t1", "t2"])

    steps = await plan_of(database, ask())
    await database.close()

    assert [step for step in steps if step.endswith("(campaign_id=? AND target_id=?)")], steps


async def test_readers_are_counted_by_their_messages_on_sqlite(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    counting = sql_chat_store(database).messages.count_readers(["c1", "c2"])
    steps = await plan_of(database, counting)
    await database.close()

    assert [step for step in steps if "messages" in step and "(campaign_id=?)" in step], steps
    assert [step for step in steps if "reads" in step and "(cid=? AND user_id=?)" in step], steps


async def test_the_next_readers_are_counted_by_the_next_messages_on_sqlite(
    sqlite_url: str,
) -> None:
    """However far the count has come, and however many messages are left."""
    database = open_database(sqlite_url)
    counting = sql_chat_store(database).messages.count_readers_after("c1", "t1", 2)
    steps = await plan_of(database, counting)
    await database.close()

    assert [step for step in steps if "(campaign_id=? AND target_id>?)" in step], steps
    assert [step for step in steps if "reads" in step and "(cid=? AND user_id=?)" in step], steps
    assert not [step for step in steps if "ORDER BY" in step], steps


async def test_a_read_position_never_moves_back(store: ChatStore) -> None:
    assert await store.messages.mark_read(CID, "anna", after(5)) == after(5)
    assert await store.messages.mark_read(CID, "anna", after(3)) == after(5)
    assert await store.messages.mark_read(CID, "anna", after(7)) == after(7)
    assert await store.messages.mark_read(OTHER, "anna", after(1)) == after(1)


async def test_only_members_read(store: ChatStore) -> None:
    with pytest.raises(MemberNotFoundError) as caught:
        await store.messages.mark_read(CID, "bob", NOON)

    assert (caught.value.cid, caught.value.user_id) == (CID, "bob")


@pytest.mark.parametrize("cid", ["messaging:none", OTHER])
async def test_nobody_reads_where_there_is_no_channel(store: ChatStore, cid: str) -> None:
    await store.channels.delete([OTHER], NOON)

    with pytest.raises(ChannelNotFoundError):
        await store.messages.mark_read(cid, "anna", NOON)
