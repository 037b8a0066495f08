import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from chat_store.database.bulk.batches import execute_in_transaction
from chat_store.database.engine import Database
from chat_store.errors import StalePageError
from chat_store.models import Channel, Member, Message, User
from chat_store.page_rows import PageRows
from chat_store.paging import PageRequest
from chat_store.sql.page_writes import page_writes
from chat_store.sql.stores import sql_chat_store
from chat_store.sql.tables import channels, members, messages
from chat_store.store import ChannelDraft, ChatStore

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MOMENT = NOON + timedelta(hours=1)
OLD = "messaging:old"
NEW = "messaging:new-1"

WITH_CHANNELS = PageRows(
    moment=MOMENT,
    channels={
        "cid": [NEW, "messaging:new-2"],
        "id": ["new-1", "new-2"],
        "custom": [{"for": 1}, {"for": 2}],
    },
    channel_constants={
        "type": "messaging",
        "team": "red",
        "created_by_id": "sender",
        "filter_tags": [],
        "frozen": False,
        "disabled": False,
        "distinct": False,
        "member_count": 3,
        "message_count": 1,
        "created_at": MOMENT,
        "updated_at": MOMENT,
        "last_message_at": MOMENT,
    },
    fixed_members=[
        Member(cid="", user_id="sender", hidden=True, archived_at=MOMENT),
        Member(cid="", user_id="extra", channel_role="moderator", custom={"seat": 1}),
    ],
    receivers={"cid": [NEW, "messaging:new-2"], "user_id": ["anna", "bob"]},
    messages={
        "id": ["m1", "m2"],
        "cid": [NEW, "messaging:new-2"],
        "target_id": ["anna", "bob"],
        "text": ["Hi Anna", "Hi Bob"],
    },
    message_constants={
        "user_id": "sender",
        "type": "regular",
        "attachments": [{"type": "image"}],
        "custom": {"campaign_id": "c"},
        "poll_id": None,
        "searchable": True,
        "campaign_id": "c",
        "created_at": MOMENT,
    },
)
INTO_OLD = replace(
    WITH_CHANNELS,
    channels={},
    receivers={},
    messages={"id": ["m3"], "cid": [OLD], "target_id": ["anna"], "text": ["Hi"]},
    messages_per_channel={OLD: 1},
)


@pytest.fixture
async def store(database: Database) -> ChatStore:
    """With a channel that anna and bob are in."""
    store = sql_chat_store(database)
    ids = ("sender", "extra", "anna", "bob")
    await store.users.upsert([User(id=id_) for id_ in ids], NOON)
    old = Channel(type="messaging", id="old")
    await store.channels.upsert([ChannelDraft(old, ["anna", "bob"])], NOON)
    return store


async def write(database: Database, page: PageRows) -> None:
    await execute_in_transaction(database, "", page_writes(database.dialect, page))


async def members_of(store: ChatStore, cid: str) -> dict[str, Member]:
    page = await store.channels.query_members(cid, PageRequest(10))
    return {member.user_id: member for member in page.items}


async def rows(database: Database) -> list[int | None]:
    async with database.snapshot() as connection:
        return [
            await connection.scalar(select(func.count()).select_from(table))
            for table in (channels, members, messages)
        ]


async def test_a_page_makes_channels_with_their_members_and_messages(
    database: Database, store: ChatStore
) -> None:
    await write(database, WITH_CHANNELS)

    assert await store.channels.get(NEW) == Channel(
        type="messaging",
        id="new-1",
        team="red",
        created_by_id="sender",
        custom={"for": 1},
        member_count=3,
        message_count=1,
        created_at=MOMENT,
        updated_at=MOMENT,
        last_message_at=MOMENT,
    )
    assert await members_of(store, NEW) == {
        "anna": Member(cid=NEW, user_id="anna", created_at=MOMENT),
        "extra": Member(
            cid=NEW,
            user_id="extra",
            channel_role="moderator",
            custom={"seat": 1},
            created_at=MOMENT,
        ),
        "sender": Member(
            cid=NEW, user_id="sender", hidden=True, archived_at=MOMENT, created_at=MOMENT
        ),
    }
    (first, second) = (await store.messages.of_campaign("c", PageRequest(10))).items
    assert first == Message(
        id="m1",
        cid=NEW,
        user_id="sender",
        text="Hi Anna",
        attachments=({"type": "image"},),
        custom={"campaign_id": "c"},
        searchable=True,
        campaign_id="c",
        target_id="anna",
        created_at=MOMENT,
    )
    assert (second.id, second.text, second.cid) == ("m2", "Hi Bob", "messaging:new-2")


async def test_a_page_into_a_channel_that_is_there_moves_its_count_and_time(
    database: Database, store: ChatStore
) -> None:
    await write(database, INTO_OLD)

    old = await store.channels.get(OLD)
    assert (old.message_count, old.last_message_at) == (1, MOMENT)
    assert (old.member_count, old.updated_at) == (2, NOON)


async def test_the_sender_joins_once(database: Database, store: ChatStore) -> None:
    joining = replace(PageRows(moment=MOMENT), sender_joins=[OLD], sender_id="sender")

    await write(database, joining)
    await write(database, joining)

    assert (await members_of(store, OLD))["sender"] == Member(
        cid=OLD, user_id="sender", created_at=MOMENT
    )
    assert (await store.channels.get(OLD)).member_count == 3


async def test_a_hidden_channel_is_shown_to_its_receiver_alone(
    database: Database, store: ChatStore
) -> None:
    async with database.transaction() as connection:
        await connection.execute(members.update().values(hidden=True))

    await write(database, PageRows(moment=MOMENT, unhidden={"cid": [OLD], "user_id": ["anna"]}))

    hidden = {id_: member.hidden for id_, member in (await members_of(store, OLD)).items()}
    assert hidden == {"anna": False, "bob": True}


async def test_an_empty_page_writes_nothing(database: Database, store: ChatStore) -> None:
    before = await rows(database)

    await write(database, PageRows(moment=MOMENT))

    assert await rows(database) == before
    assert (await store.channels.get(OLD)).message_count == 0


async def test_a_page_whose_channel_has_come_meanwhile_leaves_nothing(
    database: Database, store: ChatStore
) -> None:
    await store.channels.upsert([ChannelDraft(Channel(type="messaging", id="new-2"))], NOON)
    before = await rows(database)

    with pytest.raises(StalePageError):
        await write(database, WITH_CHANNELS)

    assert await rows(database) == before


@pytest.mark.parametrize(
    "taken",
    [
        Message(id="m2", cid=OLD, user_id="anna"),
        Message(id="x", cid=OLD, user_id="sender", campaign_id="c", target_id="bob"),
    ],
    ids=["its id", "its target"],
)
async def test_a_page_whose_message_is_there_already_leaves_nothing(
    database: Database, store: ChatStore, taken: Message
) -> None:
    await store.messages.upsert([taken], NOON)
    before = await rows(database)

    with pytest.raises(StalePageError):
        await write(database, WITH_CHANNELS)

    assert await rows(database) == before


async def test_a_page_written_twice_is_refused_the_second_time(
    database: Database, store: ChatStore
) -> None:
    await write(database, INTO_OLD)

    with pytest.raises(StalePageError):
        await write(database, INTO_OLD)

    assert (await store.channels.get(OLD)).message_count == 1


async def test_a_row_that_is_refused_for_anything_but_its_key_is_no_stale_page(
    database: Database,
    store: ChatStore,
) -> None:
    """A stale page is planned again: this one would be refused for ever."""
    without_text = replace(INTO_OLD, messages={**INTO_OLD.messages, "text": [None]})

    with pytest.raises((sqlite3.IntegrityError, IntegrityError)):
        await write(database, without_text)

    assert (await store.channels.get(OLD)).message_count == 0
