"""How many receivers have read their message."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from campaign_service.campaigns.model import Campaign, Stats
from campaign_service.reporting import read_counter
from campaign_service.reporting.read_counter import ReadCounter
from chat_store.database.engine import Database
from chat_store.errors import StoreUnavailableError
from chat_store.models import Member, Message
from chat_store.paging import PageRequest
from chat_store.sql.messages import SqlMessageStore
from chat_store.sql.stores import sql_chat_store
from chat_store.sql.tables import reads
from chat_store.store import ChannelDraft, ReaderCount
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.segment.v1 import segment_pb2
from tests.campaign.builders import (
    MOMENT,
    SENDER_ID,
    a_campaign,
    a_campaign_message,
    a_channel,
    a_user,
)
from tests.campaign.server_pair import start_pair

pytestmark = pytest.mark.nightly_on("postgresql")

SECOND = timedelta(seconds=1)
ROOM = "messaging:room"


def sent(target_id: str, campaign_id: str = "spring", cid: str = ROOM) -> Message:
    return Message(
        id=f"{campaign_id}-{target_id}",
        cid=cid,
        user_id=SENDER_ID,
        text="Hi",
        campaign_id=campaign_id,
        target_id=target_id,
        created_at=MOMENT,
    )


async def with_messages(database: Database, messages: Iterable[Message]) -> None:
    chat = sql_chat_store(database)
    given = list(messages)
    people = {SENDER_ID, "eve", *(message.target_id or "" for message in given)}
    await chat.users.upsert([a_user(id_) for id_ in people], MOMENT)
    rooms = {message.cid.partition(":")[2] for message in given}
    await chat.channels.upsert([ChannelDraft(a_channel(room)) for room in rooms], MOMENT)
    for room in rooms:
        cid = f"messaging:{room}"
        await chat.channels.add_members(
            cid, [Member(cid=cid, user_id=id_) for id_ in people], MOMENT
        )
    await chat.messages.upsert(given, MOMENT)


def known(campaign_id: str, messages_sent: int, *, to_channels: bool = False) -> Campaign:
    return a_campaign(
        id=campaign_id, stats=Stats(messages_sent=messages_sent), to_channels=to_channels
    )


# --- what counts


@pytest.mark.parametrize(
    ("read_at", "count"),
    [(-SECOND, 0), (timedelta(0), 1), (SECOND, 1)],
    ids=["before", "at", "after"],
)
async def test_a_receiver_has_read_who_reads_up_to_the_message_or_further(
    database: Database, read_at: timedelta, count: int
) -> None:
    await with_messages(database, [sent("ann"), sent("bob")])
    messages = sql_chat_store(database).messages

    await messages.mark_read(ROOM, "ann", MOMENT + read_at)

    assert (await messages.count_readers(["spring"])).get("spring", 0) == count


async def test_only_receivers_count_and_only_in_the_channel_of_their_message(
    database: Database,
) -> None:
    await with_messages(database, [sent("ann"), sent("bob", cid="messaging:other")])
    messages = sql_chat_store(database).messages

    await messages.mark_read(ROOM, "eve", MOMENT + SECOND)
    await messages.mark_read(ROOM, SENDER_ID, MOMENT + SECOND)
    await messages.mark_read(ROOM, "bob", MOMENT + SECOND)

    assert await messages.count_readers(["spring"]) == {}


async def test_a_read_position_never_moves_back(database: Database) -> None:
    await with_messages(database, [sent("ann")])
    messages = sql_chat_store(database).messages
    await messages.mark_read(ROOM, "ann", MOMENT + SECOND)

    await messages.mark_read(ROOM, "ann", MOMENT - SECOND)

    assert await messages.count_readers(["spring"]) == {"spring": 1}


async def test_each_campaign_in_a_channel_has_its_own_readers(database: Database) -> None:
    later = replace(sent("ann", "summer"), created_at=MOMENT + SECOND)
    await with_messages(database, [sent("ann"), sent("bob"), later, sent("bob", "other")])
    messages = sql_chat_store(database).messages

    await messages.mark_read(ROOM, "ann", MOMENT)
    await messages.mark_read(ROOM, "bob", MOMENT)

    asked = ["spring", "summer", "none"]
    assert await messages.count_readers(asked) == {"spring": 2}
    await messages.mark_read(ROOM, "ann", MOMENT + SECOND)
    assert await messages.count_readers(asked) == {"spring": 2, "summer": 1}


# --- when it is counted


async def test_few_messages_are_counted_while_the_caller_waits(database: Database) -> None:
    await with_messages(database, [sent("ann"), sent("bob", "summer")])
    messages = sql_chat_store(database).messages
    counts = ReadCounter(messages)
    campaigns = [known("spring", 1), known("summer", 1), known("none", 0)]

    before = await counts.of(campaigns)
    await messages.mark_read(ROOM, "ann", MOMENT)

    assert before == {"spring": 0, "summer": 0, "none": 0}
    assert await counts.of(campaigns) == {"spring": 1, "summer": 0, "none": 0}


async def test_many_messages_are_counted_later_for_who_asks_again(database: Database) -> None:
    await with_messages(database, [sent("ann"), sent("bob", "summer")])
    messages = sql_chat_store(database).messages
    counts = ReadCounter(messages)
    campaigns = [known("spring", 1_000_000), known("summer", 1)]
    await messages.mark_read(ROOM, "ann", MOMENT)
    await messages.mark_read(ROOM, "bob", MOMENT)

    assert await counts.of(campaigns) == {"spring": 0, "summer": 1}
    assert not await counts.count_next_batch()
    assert await counts.of(campaigns) == {"spring": 1, "summer": 1}


async def test_many_messages_are_counted_some_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told meanwhile is the last whole count."""
    monkeypatch.setattr(read_counter, "_BATCH_SIZE", 2)
    await with_messages(database, [sent(target_id) for target_id in ("ann", "bob", "cyd", "dan")])
    messages = sql_chat_store(database).messages
    counts = ReadCounter(messages)
    for reader in ("ann", "cyd", "dan"):
        await messages.mark_read(ROOM, reader, MOMENT)
    await counts.of([known("spring", 1_000_000)])

    written = []
    while await counts.count_next_batch():
        written.append(dict(counts._known))
    written.append(dict(counts._known))

    assert written == [{"spring": 0}, {"spring": 0}, {"spring": 3}]


async def test_what_was_asked_for_while_the_database_was_away_is_counted_when_it_is_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FragileMessages(SqlMessageStore):
        down = False

        async def count_readers_after(self, *given: Any) -> ReaderCount:
            if self.down:
                raise StoreUnavailableError("down")
            return await super().count_readers_after(*given)

    monkeypatch.setattr(read_counter, "_BATCH_SIZE", 1)
    await with_messages(database, [sent("ann"), sent("bob")])
    messages = FragileMessages(database)
    counts = ReadCounter(messages)
    for reader in ("ann", "bob"):
        await messages.mark_read(ROOM, reader, MOMENT)
    await counts.of([known("spring", 1_000_000)])

    for _ in range(3):
        messages.down = True
        with pytest.raises(StoreUnavailableError):
            await counts.count_next_batch()
        messages.down = False
        await counts.count_next_batch()

    assert counts._known == {"spring": 2}


async def test_each_count_is_finished_before_the_next_and_who_asked_first_goes_first(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_counter, "_BATCH_SIZE", 1)
    given = [sent("ann"), sent("bob"), sent("ann", "summer")]
    await with_messages(database, given)
    messages = sql_chat_store(database).messages
    counts = ReadCounter(messages)
    spring, summer = known("spring", 1_000_000), known("summer", 1_000_000)
    await messages.mark_read(ROOM, "ann", MOMENT)
    await counts.of([summer])
    await counts.of([spring])

    for _ in range(5):
        await counts.count_next_batch()
        # whoever asks again and again does not keep the other from its turn
        await counts.of([spring])

    assert counts._known == {"spring": 1, "summer": 1}


async def test_a_campaign_that_has_become_large_keeps_what_was_counted(database: Database) -> None:
    await with_messages(database, [sent("ann")])
    messages = sql_chat_store(database).messages
    await messages.mark_read(ROOM, "ann", MOMENT)
    counts = ReadCounter(messages)
    await counts.of([known("spring", 1)])

    assert await counts.of([known("spring", 1_000_000)]) == {"spring": 1}


async def test_channels_have_no_readers(database: Database) -> None:
    """Even where a user has the name of the channel."""
    await with_messages(database, [sent("ann")])
    messages = sql_chat_store(database).messages
    await messages.mark_read(ROOM, "ann", MOMENT)
    counts = ReadCounter(messages)

    for messages_sent in (1, 1_000_000):
        campaign = known("spring", messages_sent, to_channels=True)
        assert await counts.of([campaign]) == {"spring": 0}
        assert not await counts.count_next_batch()


async def test_what_is_remembered_is_bounded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_counter, "_MAX_KNOWN", 10)
    counts = ReadCounter(sql_chat_store(database).messages)

    await counts.of([known(f"c{number}", 1_000_000) for number in range(30)])

    assert len(counts._known) == len(counts._queue) == 10


async def rest_after(counts: ReadCounter, seconds: float, monkeypatch: pytest.MonkeyPatch) -> float:
    """How long the worker rests when what it has counted took so long."""
    clock = iter([0.0, seconds])
    monkeypatch.setattr(counts, "_clock", lambda: next(clock))
    return await counts.step()


async def test_counting_takes_a_small_part_of_the_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count that takes three seconds is followed by a minute of rest."""
    counts = ReadCounter(sql_chat_store(database).messages)

    assert await rest_after(counts, 3.0, monkeypatch) == 60.0


@pytest.mark.parametrize(("messages", "rest"), [(1, 1.0), (2, 0.25)], ids=["whole", "part"])
async def test_only_a_whole_count_is_followed_by_a_second_of_rest(
    database: Database, monkeypatch: pytest.MonkeyPatch, messages: int, rest: float
) -> None:
    monkeypatch.setattr(read_counter, "_BATCH_SIZE", 2)
    await with_messages(database, [sent(target_id) for target_id in ("ann", "bob")[:messages]])
    counts = ReadCounter(sql_chat_store(database).messages)
    await counts.of([known("spring", 1_000_000)])

    assert await rest_after(counts, 0.0125, monkeypatch) == rest


# --- through both servers


async def test_callers_see_who_has_read(database: Database, database_url: str) -> None:
    chat = sql_chat_store(database)
    now = datetime.now(UTC)
    await chat.users.upsert([a_user(id_) for id_ in (SENDER_ID, "ann", "bob")], now)
    await chat.channels.upsert([ChannelDraft(a_channel("room"))], now)
    async with start_pair(database_url) as services:
        await services.add_list("rooms", [ROOM], segment_pb2.SEGMENT_TYPE_CHANNEL)
        for changes in ({}, {"id": "summer"}):
            await services.create(a_campaign_message(changes))
        await services.start()
        await services.until_completed()
        await services.start("summer")
        await services.until_completed("summer")
        unread = await services.get()
        await chat.messages.mark_read("messaging:ann-acme", "ann", datetime.now(UTC))
        read = await services.get()
        listed = await services.campaigns.QueryCampaigns(pb.QueryCampaignsRequest())

    assert (unread.stats.users_sent, unread.stats.users_read) == (2, 0)
    assert (read.stats.users_sent, read.stats.users_read) == (2, 1)
    assert {each.id: each.stats.users_read for each in listed.campaigns} == {
        "spring": 1,
        "summer": 1,
    }


async def test_a_client_that_knows_milliseconds_reads_up_to_the_message_with_its_own_time(
    database: Database, database_url: str
) -> None:
    """As JavaScript does: it cuts the time off, and would stay just before the message."""
    chat = sql_chat_store(database)
    await chat.users.upsert([a_user(id_) for id_ in (SENDER_ID, "ann", "bob")], MOMENT)
    async with start_pair(database_url) as services:
        # a limited campaign sends when it is written, and any other when it is planned
        for id_, limit in (("spring", 0), ("summer", 1_000)):
            changes = {"id": id_, "max_messages_per_second": limit}
            await services.create(a_campaign_message(changes))
            await services.start(id_)
            await services.until_completed(id_)
        for id_ in ("spring", "summer"):
            for message in (await chat.messages.of_campaign(id_, PageRequest(10))).items:
                assert message.created_at is not None
                milliseconds = message.created_at.microsecond // 1_000
                at = message.created_at.replace(microsecond=milliseconds * 1_000)
                just_before = at - timedelta(milliseconds=1)
                ann_reads = message.target_id == "ann"
                await chat.messages.mark_read(
                    message.cid, str(message.target_id), at if ann_reads else just_before
                )
            assert (await services.get(id_)).stats.users_read == 1


async def test_the_worker_counts_for_large_campaigns(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_counter, "_INLINE_LIMIT", 1)
    chat = sql_chat_store(database)
    await chat.users.upsert([a_user(id_) for id_ in (SENDER_ID, "ann", "bob")], datetime.now(UTC))
    async with start_pair(database_url) as services:
        await services.create(a_campaign_message())
        await services.start()
        await services.until_completed()
        async with database.transaction() as connection:
            row = {"cid": "messaging:bob-acme", "user_id": "bob", "read_at": datetime.now(UTC)}
            await connection.execute(insert(reads).values(row))
        async with asyncio.timeout(30):
            while not (await services.get()).stats.users_read:
                continue
