"""The log of events: all that is committed, in order, and nothing that comes in behind a reader."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from campaign_service.campaigns.events import OF_PAGES, EventType, Offset
from campaign_service.campaigns.model import SenderMode
from campaign_service.events.reader import Selection
from campaign_service.planning.page import PageBuilder
from campaign_service.planning.routing import Route
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.event_log import SqlEventLog
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database import schema
from chat_store.database.bulk.inserts import insert_rows
from chat_store.database.engine import Database, open_database
from chat_store.models import ChannelState, Member, PickedChannel
from chat_store.sql.stores import sql_chat_store
from chat_store.sql.tables import channels
from chat_store.store import ChannelDraft
from tests.campaign.builders import (
    MOMENT,
    SENDER_ID,
    a_campaign,
    a_channel,
    a_compiled_campaign,
    a_spec,
    a_user,
)
from tests.campaign.test_runs import a_page, claimed, started
from tests.events.reading import Consumer, described
from tests.harness.lock_waiters import wait_for_waiters

OF_CHANNELS = (EventType.MEMBER_ADDED, EventType.CHANNEL_VISIBLE)


async def test_a_campaign_is_told_from_its_creation_to_its_end(database: Database) -> None:
    await sql_chat_store(database).users.upsert([a_user(SENDER_ID), a_user("ann")], MOMENT)
    await started(database, name="Spring", shards=1)
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    await runs.commit_page(lease, a_page("ann"), "ann")
    await runs.commit_page(lease, a_page("bob", known=["bob"]), "bob")
    await runs.finish_pass(lease, MOMENT)

    events = await Consumer(database).drain()

    assert described(events) == [
        "campaign.updated",
        "campaign.started",
        "channel.created ann",
        "message.new ann",
        "message.new bob",
        "campaign.completed",
    ]
    campaigns = [event.payload["campaign"] for event in (events[0], events[1], events[-1])]
    assert [campaign["status"] for campaign in campaigns] == ["draft", "in_progress", "completed"]
    assert campaigns[-1]["name"] == "Spring"
    assert campaigns[-1]["sender"]["name"] == SENDER_ID.title()
    assert campaigns[-1]["stats"]["messages_sent"] == 2
    message = events[3].payload
    assert (message["message"]["text"], message["user"]["id"]) == ("Hi ann", SENDER_ID)
    assert [member["user_id"] for member in message["members"]] == [SENDER_ID, "ann"]
    assert message["message"]["campaign_id"] == "spring"


async def test_ids_are_the_same_whenever_and_wherever_an_event_is_read(
    database: Database, tmp_path: Path
) -> None:
    other = open_database(f"sqlite+aiosqlite:///{tmp_path}/other.db")
    await schema.prepare(other)
    consumers = []
    for store in (database, other):
        await started(store)
        runs = SqlRunStore(store)
        await runs.commit_page(await claimed(runs), a_page("ann", "bob"), "bob")
        consumers += [Consumer(store, at_once=1), Consumer(store, at_once=100)]

    found = [[event.id for event in await consumer.drain()] for consumer in consumers]
    await other.close()

    assert len(set(found[0])) == len(found[0]) == 6
    assert all(ids == found[0] for ids in found)


async def test_a_page_that_is_committed_late_is_read_late_and_not_missed(
    postgres_url: str,
) -> None:
    """The late page has written its entry before the others; the reader has passed them by then."""
    database = open_database(postgres_url)
    await started(database, shards=2)
    await started(database, "summer", shards=1)
    runs = SqlRunStore(database)
    leases = [await claimed(runs) for _ in range(3)]
    early, late = [lease for lease in leases if lease.campaign_id == "spring"]
    (other,) = [lease for lease in leases if lease.campaign_id == "summer"]
    consumer = Consumer(database)
    await consumer.drain()
    async with database.transaction() as blocker:
        # the late page waits for this channel, with its entry in the log already
        row = a_page("ann").rows
        await blocker.execute(
            *insert_rows(database.dialect, channels, row.channels, constants=row.channel_constants)
        )
        committing = asyncio.create_task(runs.commit_page(late, a_page("ann"), "ann"))
        await wait_for_waiters(database, committing)
        await runs.commit_page(early, a_page("bob"), "bob")
        summer = a_page("cid", campaign_id="summer")
        await runs.commit_page(other, summer, "cid")
        meanwhile = await consumer.drain()
        await blocker.rollback()
        await committing

    afterwards = await consumer.drain()
    await database.close()

    assert sorted(described(meanwhile)) == [
        "channel.created bob",
        "channel.created cid",
        "message.new bob",
        "message.new cid",
    ]
    assert described(afterwards) == ["channel.created ann", "message.new ann"]


async def test_readers_beside_many_writers_see_all_events_in_one_order(
    database: Database,
) -> None:
    await write_beside_readers(database, writers=5, pages=8, targets_of_page=5, at_once=[50, 1_000])


@pytest.mark.nightly
@pytest.mark.timeout(900)
async def test_twenty_writers_of_ten_thousand_events_hide_none_from_a_reader(
    postgres_url: str,
) -> None:
    database = open_database(postgres_url)
    await write_beside_readers(database, writers=20, pages=20, targets_of_page=500, at_once=[5_000])
    await database.close()


async def write_beside_readers(
    database: Database, *, writers: int, pages: int, targets_of_page: int, at_once: Sequence[int]
) -> None:
    """Writes pages with pauses, and asserts that all readers see all events, in the same order."""
    for number in range(writers):
        await started(database, f"c{number}", shards=1)
    runs = SqlRunStore(database)
    leases = [await claimed(runs) for _ in range(writers)]
    writing = set(range(writers))

    async def write(number: int) -> None:
        lease = leases[number]
        for page in range(pages):
            targets = [f"{lease.campaign_id}-{page:03}-{i:03}" for i in range(targets_of_page)]
            planned = a_page(*targets, campaign_id=lease.campaign_id, known=targets)
            await runs.commit_page(lease, planned, targets[-1])
            await asyncio.sleep(random.uniform(0, 0.02))  # noqa: S311 - no secret
        writing.remove(number)

    async def read(consumer: Consumer) -> None:
        while writing:
            await consumer.drain()
        await consumer.drain()

    consumers = [Consumer(database, at_once=events) for events in at_once]
    async with asyncio.TaskGroup() as group:
        for number in range(writers):
            group.create_task(write(number))
        for consumer in consumers:
            group.create_task(read(consumer))

    afterwards = Consumer(database, at_once=max(at_once))
    everything = [event.id for event in await afterwards.drain()]
    assert len(set(everything)) == len(everything) == writers * (2 + pages * targets_of_page)
    assert all([e.id for e in consumer.events] == everything for consumer in consumers)
    by_campaign = defaultdict(list)
    for event in afterwards.events:
        if event.type is EventType.MESSAGE_NEW:
            by_campaign[event.campaign_id].append(event.payload["message_id"])
    assert all(earlier < later for ids in by_campaign.values() for earlier, later in pairwise(ids))


async def test_positions_have_no_gaps(database: Database) -> None:
    await started(database, shards=2)
    runs = SqlRunStore(database)
    log = SqlEventLog(database)
    for number in range(6):
        lease = await claimed(runs)
        await runs.commit_page(lease, a_page(f"t{number}", known=[f"t{number}"]), "")
        await runs.release(lease)
        if number % 2:
            await log.ends()
    end = (await log.ends()).next

    entries = await log.entries(Offset(1), end, 100)

    assert [entry.position for entry in entries] == list(range(1, end.position))


async def commit_page_of_all_kinds(database: Database, **changes: Any) -> None:
    """As the only page of a campaign, whose start has been read by nobody yet.

    The sender enters the channels of ann and cid, and is in bob's already. cid's is hidden from cid
    until the message. dan's is created.
    """
    chat = sql_chat_store(database)
    ids = ("ann", "bob", "cid", "dan")
    await chat.users.upsert([a_user(id_) for id_ in (SENDER_ID, *ids)], MOMENT)
    rooms = [ChannelDraft(a_channel(id_), [id_]) for id_ in ids[:3]]
    await chat.channels.upsert(rooms, MOMENT)
    await chat.channels.add_members(
        "messaging:bob", [Member(cid="messaging:bob", user_id=SENDER_ID)], MOMENT
    )
    await chat.members.set_membership(
        "messaging:cid", "cid", hidden=True, archived=None, now=MOMENT
    )
    changes = {"sender_mode": SenderMode.INCLUDE, "show_channels": True, **changes}
    await started(database, **changes)
    page = PageBuilder(a_compiled_campaign(a_campaign(spec=a_spec(**changes))), MOMENT)
    for id_ in ids:
        route = Route(id_, f"messaging:{id_}", {"name": id_}, id_)
        page.add(route, PickedChannel(route.cid, ChannelState.OPEN, ()) if id_ != "dan" else None)
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    await runs.commit_page(lease, page.build(), "dan")
    await runs.finish_pass(lease, MOMENT)


@pytest.mark.parametrize("skip_webhook", [False, True])
@pytest.mark.parametrize("skip_push", [False, True])
async def test_skip_webhook_and_skip_push_mute_exactly_what_the_campaign_generates(
    database: Database, *, skip_webhook: bool, skip_push: bool
) -> None:
    await commit_page_of_all_kinds(database, skip_webhook=skip_webhook, skip_push=skip_push)

    for_webhooks = await Consumer(database).drain()
    for_push = await Consumer(database, Selection(pushed=True)).drain()

    types = [event.type for event in for_webhooks]
    assert [type_ for type_ in types if type_.startswith("campaign.")] == [
        "campaign.updated",
        "campaign.started",
        "campaign.completed",
    ]
    generated = {type_ for type_ in types if not type_.startswith("campaign.")}
    assert generated == (set() if skip_webhook else set(OF_PAGES))
    assert {event.type for event in for_push} == (set() if skip_push else set(OF_PAGES))


async def test_who_enters_a_channel_and_who_sees_it_again_is_told_once(
    database: Database,
) -> None:
    await commit_page_of_all_kinds(database)

    events = [event for event in await Consumer(database).drain() if event.type in OF_PAGES]

    assert described(events) == [
        "member.added ann",
        "message.new ann",
        "message.new bob",
        "member.added cid",
        "channel.visible cid",
        "message.new cid",
        "channel.created dan",
        "message.new dan",
    ]
    assert [event.payload["user"]["id"] for event in events if event.type in OF_CHANNELS] == [
        SENDER_ID,
        SENDER_ID,
        "cid",
    ]


async def test_what_is_older_than_the_retention_is_forgotten_from_the_front(
    database: Database,
) -> None:
    store = SqlCampaignStore(database)
    for day in range(4):
        moment = MOMENT + timedelta(days=day)
        await store.create(f"day-{day}", a_spec(), moment, to_channels=False)
    log = SqlEventLog(database)
    before = MOMENT + timedelta(days=2)

    assert await log.forget(before, 100) == 0, "without a position they are kept"
    await log.ends()
    assert [await log.forget(before, 1) for _ in range(3)] == [1, 1, 0]

    ends = await log.ends()
    assert (ends.first, ends.next) == (Offset(3), Offset(5))
    entries = await log.entries(ends.first, ends.next, 100)
    assert [entry.campaign_id for entry in entries] == ["day-2", "day-3"]


async def test_only_the_types_that_are_wanted_are_read(database: Database) -> None:
    await started(database, shards=1)
    runs = SqlRunStore(database)
    await runs.commit_page(await claimed(runs), a_page("ann", "bob", known=["bob"]), "bob")
    moves = SqlTransitionStore(database, shards=1)
    await moves.stop("spring", "enough", MOMENT)

    found = {}
    for type_ in EventType:
        consumer = Consumer(database, Selection(types=[type_]), at_once=1)
        found[type_.value] = described(await consumer.drain())

    assert found == {
        "campaign.started": ["campaign.started"],
        "campaign.completed": [],
        "campaign.updated": ["campaign.updated", "campaign.updated"],
        "channel.created": ["channel.created ann"],
        "member.added": [],
        "channel.visible": [],
        "message.new": ["message.new ann", "message.new bob"],
        "webhook.disabled": [],
    }
