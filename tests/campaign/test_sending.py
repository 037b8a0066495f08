"""Campaigns from start to end, through both real servers."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select, update

from campaign_service.storage.tables import campaign_outcomes, campaign_shards
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.engine import Database
from chat_store.models import Message
from chat_store.paging import PageRequest
from chat_store.sql.stores import sql_chat_store
from chat_store.sql.tables import messages
from chat_store.store import ChannelDraft
from herald.campaign.v1 import campaign_pb2
from herald.segment.v1 import segment_pb2
from herald_rpc.wire.structs import to_struct
from segment_service.sql.tables import segments
from tests.campaign.builders import SENDER_ID, a_campaign_message, a_channel, a_user
from tests.campaign.server_pair import ServerPair, another_campaign_server, start_pair
from tests.harness.reconciliation import assert_consistent, assert_everyone_has_one_outcome, recount

pytestmark = pytest.mark.nightly_on("postgresql")

# so many that a call fits in between, page by page
MANY = [f"m{number:03}" for number in range(100)]
FEW = MANY[:60]
CHANNEL = segment_pb2.SEGMENT_TYPE_CHANNEL
COMPLETED = campaign_pb2.CAMPAIGN_STATUS_COMPLETED


async def with_people(database: Database, ids: Iterable[str]) -> None:
    users = [a_user(id_) for id_ in {SENDER_ID, *ids}]
    await sql_chat_store(database).users.upsert(users, datetime.now(UTC))


async def messages_of(database: Database, id_: str = "spring") -> Sequence[Message]:
    request = PageRequest(10_000)
    return (await sql_chat_store(database).messages.of_campaign(id_, request)).items


async def outcomes_of(database: Database, id_: str = "spring") -> dict[str, tuple[str, str]]:
    table = campaign_outcomes.c
    statement = select(table.target_id, table.outcome, table.reason)
    async with database.snapshot() as connection:
        rows = await connection.execute(statement.where(table.campaign_id == id_))
        return {target: (outcome, reason) for target, outcome, reason in rows}


async def count_messages(database: Database) -> int:
    async with database.snapshot() as connection:
        return int(await connection.scalar(select(func.count()).select_from(messages)) or 0)


def a_campaign_to(*segment_ids: str, **changes: Any) -> campaign_pb2.Campaign:
    return a_campaign_message({"user_ids": None, "segment_ids": list(segment_ids), **changes})


async def started_for_many(services: ServerPair, database: Database) -> None:
    await with_people(database, MANY)
    await services.add_list("many", MANY)
    await services.create(a_campaign_to("many"))
    await services.start()
    await services.until_under_way()


# --- who is reached


async def test_overlapping_segments_reach_each_target_once(
    database: Database, database_url: str
) -> None:
    await with_people(database, FEW)
    async with start_pair(database_url, page_size=7) as services:
        await services.add_list("a", FEW[:40])
        await services.add_list("b", FEW[20:])
        await services.add_list("c", FEW[::3])
        await services.add_list("empty", [])
        created = await services.create(a_campaign_to("a", "b", "c", "empty", "a"))
        started = await services.start()
        done = await services.until_completed()

    assert list(created.segment_ids) == ["a", "b", "c", "empty"]
    assert started.stats.targets_total == len(FEW)
    assert_everyone_has_one_outcome(database_url, "spring", len(FEW))
    sent = await messages_of(database)
    assert [message.target_id for message in sent] == FEW
    assert {message.cid for message in sent} == {f"messaging:{id_}-acme" for id_ in FEW}
    assert (sent[0].text, sent[0].user_id) == ("Hi M000", SENDER_ID)
    assert done.stats.messages_sent == done.stats.users_sent == len(FEW)
    assert done.stats.channels_created == len(FEW)
    assert (done.stats.progress, done.status_reason) == (1.0, "")
    assert done.stats.HasField("completed_at")


@pytest.mark.nightly
async def test_users_can_be_the_audience(database: Database, database_url: str) -> None:
    await with_people(database, FEW)
    async with start_pair(database_url, page_size=7) as services:
        given = [*reversed(FEW), *FEW[:9]]
        await services.create(a_campaign_message({"user_ids": given}))
        await services.start()
        done = await services.until_completed()

    assert_everyone_has_one_outcome(database_url, "spring", len(FEW))
    assert [message.target_id for message in await messages_of(database)] == FEW
    assert done.stats.targets_total == len(FEW)


@pytest.mark.nightly
async def test_a_filter_and_all_users_are_evaluated(database: Database, database_url: str) -> None:
    await with_people(database, FEW)
    filter_segment = segment_pb2.Segment(id="named", type=segment_pb2.SEGMENT_TYPE_USER)
    filter_segment.filter.update({"id": {"$lt": "m010"}})
    everyone = segment_pb2.Segment(id="all", type=segment_pb2.SEGMENT_TYPE_USER, all_users=True)
    async with start_pair(database_url, page_size=7) as services:
        await services.create_segment(filter_segment)
        await services.create_segment(everyone)
        await services.create(a_campaign_to("named", id="some"))
        await services.create(a_campaign_to("named", "all", id="everyone"))
        await services.start("some")
        await services.start("everyone")
        await services.until_completed("some")
        await services.until_completed("everyone")

    # the sender is a user, too, and sorts before the others
    assert_everyone_has_one_outcome(database_url, "some", 11)
    assert_everyone_has_one_outcome(database_url, "everyone", len(FEW) + 1)


async def test_who_can_not_be_reached_is_skipped_with_a_reason(
    database: Database, database_url: str
) -> None:
    await with_people(database, FEW)
    chat = sql_chat_store(database)
    now = datetime.now(UTC)
    await chat.users.deactivate(FEW[10:20], now)
    await chat.users.delete(FEW[20:30], now)
    strangers = [f"{id_}-stranger" for id_ in FEW[:5]]
    async with start_pair(database_url, page_size=7) as services:
        await services.add_list("few", [*FEW, *strangers])
        await services.create(a_campaign_to("few"))
        await services.start()
        done = await services.until_completed()

    account = assert_everyone_has_one_outcome(database_url, "spring", len(FEW) + 5)
    assert account.reasons == {
        "user_deactivated": 10,
        "user_deleted": 10,
        "user_not_found": 5,
    }
    assert await outcomes_of(database) == {
        **dict.fromkeys(FEW[10:20], ("skipped", "user_deactivated")),
        **dict.fromkeys(FEW[20:30], ("skipped", "user_deleted")),
        **dict.fromkeys(strangers, ("skipped", "user_not_found")),
    }
    assert (done.stats.messages_sent, done.stats.targets_skipped) == (40, 25)


async def test_a_template_that_fails_some_fails_only_those(
    database: Database, database_url: str
) -> None:
    await with_people(database, FEW)
    text = "{{ 'x' * 10 ** 9 if receiver.id[1:]|int % 10 == 0 }}"
    async with start_pair(database_url, page_size=7) as services:
        await services.create(
            a_campaign_message({"user_ids": FEW, "message_template": {"text": text}})
        )
        await services.start()
        done = await services.until_completed()

    assert_everyone_has_one_outcome(database_url, "spring", len(FEW))
    assert await outcomes_of(database) == dict.fromkeys(FEW[::10], ("failed", "template_error"))
    assert done.stats.targets_failed == 6


@pytest.mark.nightly
async def test_channels_can_be_the_audience(database: Database, database_url: str) -> None:
    await with_people(database, ["ann"])
    now = datetime.now(UTC)
    rooms = [a_channel(f"room{number:02}") for number in range(30)]
    rooms += [a_channel("cold", frozen=True)]
    chat = sql_chat_store(database)
    await chat.channels.upsert([ChannelDraft(room, ["ann"]) for room in rooms], now)
    cids = [room.cid for room in rooms]
    async with start_pair(database_url, page_size=7) as services:
        await services.add_list("rooms", [*cids, "messaging:nowhere"], CHANNEL)
        text = "{{ channel.id }} {{ channel.member_count }}"
        await services.create(
            a_campaign_to(
                "rooms",
                message_template={"text": text},
                channel_template=None,
                create_channels=False,
                sender_mode="SENDER_MODE_INCLUDE",
            )
        )
        await services.start()
        done = await services.until_completed()

    assert_everyone_has_one_outcome(database_url, "spring", 32)
    assert await outcomes_of(database) == {
        "messaging:cold": ("skipped", "channel_frozen"),
        "messaging:nowhere": ("skipped", "channel_not_found"),
    }
    sent = await messages_of(database)
    assert [message.text for message in sent] == [f"room{number:02} 1" for number in range(30)]
    # channels are no users
    assert (done.stats.messages_sent, done.stats.users_sent) == (30, 0)
    room = await chat.channels.get("messaging:room00")
    assert (room.member_count, room.message_count) == (2, 1)


async def test_many_receivers_can_share_one_channel(database: Database, database_url: str) -> None:
    """The first of a page makes it, the others and the pages after find it there."""
    await with_people(database, FEW)
    lobby_of_all = {"type": "messaging", "id": "lobby", "members": FEW}
    async with start_pair(database_url, page_size=7) as services:
        await services.create(
            a_campaign_message({"user_ids": FEW, "channel_template": lobby_of_all})
        )
        await services.start()
        done = await services.until_completed()

    assert_everyone_has_one_outcome(database_url, "spring", len(FEW))
    assert done.stats.channels_created == 1
    lobby = await sql_chat_store(database).channels.get("messaging:lobby")
    assert lobby.message_count == len(FEW)


async def test_an_audience_without_anybody_completes(database: Database, database_url: str) -> None:
    await with_people(database, [])
    async with start_pair(database_url) as services:
        await services.add_list("empty", [])
        await services.create(a_campaign_to("empty"))
        await services.start()
        done = await services.until_completed()

    assert_everyone_has_one_outcome(database_url, "spring", 0)
    assert done.stats.progress == 1.0


async def test_targets_added_during_the_run_are_reached_before_completion(
    database: Database, database_url: str
) -> None:
    late = ["a-first", "m090-late", "zz-last"]
    await with_people(database, [*MANY, *late])
    async with start_pair(database_url, page_size=4) as services:
        await services.add_list("many", MANY)
        await services.add_list("other", FEW)
        await services.create(a_campaign_to("many", "other"))
        await services.start()
        await services.until_under_way()

        await services.add_targets("many", late)

        assert (await services.get()).status == campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
        done = await services.until_completed()

    assert_everyone_has_one_outcome(database_url, "spring", len(MANY) + len(late))
    assert {message.target_id for message in await messages_of(database)} == {*MANY, *late}
    assert done.stats.targets_total == len(MANY) + len(late)


# --- stop and start


async def test_after_a_stop_no_further_message_appears(
    database: Database, database_url: str
) -> None:
    async with start_pair(database_url, page_size=4) as services:
        await started_for_many(services, database)

        stopped = await services.stop()

        when_it_returned = await count_messages(database)
        again = await services.stop()
    account = recount(database_url, "spring")

    assert 0 < stopped.stats.messages_sent < len(MANY)
    assert stopped.stats.messages_sent == when_it_returned == account.messages
    assert stopped.status == campaign_pb2.CAMPAIGN_STATUS_STOPPED
    assert stopped.status_reason == "stopped by a caller"
    assert again == stopped
    assert_consistent(account)


async def test_a_stopped_campaign_resumes_and_reaches_everyone_once(
    database: Database, database_url: str
) -> None:
    async with start_pair(database_url, page_size=2, lease_seconds=600) as services:
        await started_for_many(services, database)
        for _ in range(2):
            stopped = await services.stop()
            resumed = await services.start()
            await services.until_under_way(sent=stopped.stats.messages_sent)
        done = await services.until_completed()

    assert_everyone_has_one_outcome(database_url, "spring", len(MANY))
    assert resumed.status == campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
    assert resumed.status_reason == ""
    assert done.stats.started_at == stopped.stats.started_at


async def test_starting_twice_has_no_effect(database: Database, database_url: str) -> None:
    async with start_pair(database_url, page_size=4) as services:
        await started_for_many(services, database)
        before = await services.get()

        again = await services.start()

        assert (again.status, again.etag) == (before.status, before.etag)
        assert again.stats.started_at == before.stats.started_at
        await services.until_completed()
    assert_everyone_has_one_outcome(database_url, "spring", len(MANY))


async def test_starts_at_the_same_time_are_one_start(database: Database, database_url: str) -> None:
    await with_people(database, FEW)
    async with start_pair(database_url, page_size=7) as services:
        await services.create(a_campaign_message({"user_ids": FEW}))

        answers = await asyncio.gather(*(services.start() for _ in range(5)))

        assert len({answer.stats.started_at.ToNanoseconds() for answer in answers}) == 1
        await services.until_completed()
    assert_everyone_has_one_outcome(database_url, "spring", len(FEW))


# --- what goes away during the run


async def test_a_segment_deleted_during_the_run_stops_the_campaign(
    database: Database, database_url: str
) -> None:
    async with start_pair(database_url, page_size=4) as services:
        await started_for_many(services, database)

        await services.delete_segment("many")

        stopped = await services.until_stopped()

    assert stopped.status_reason == "segment 'many' is not available"
    assert_consistent(recount(database_url, "spring"))


async def test_a_segment_with_a_filter_beyond_the_limits_stops_the_campaign(
    database: Database, database_url: str
) -> None:
    """It was stored when there was no such limit."""
    await with_people(database, MANY)
    everyone = segment_pb2.Segment(
        id="many", type=segment_pb2.SEGMENT_TYPE_USER, filter=to_struct({"id": {"$exists": True}})
    )
    too_large = {"id": {"$nin": [str(number) for number in range(10_001)]}}
    async with start_pair(database_url, page_size=4) as services:
        await services.create_segment(everyone)
        await services.create(a_campaign_to("many"))
        await services.start()
        await services.until_under_way()

        async with database.transaction() as connection:
            # a change of a filter moves its time
            old = {"filter": too_large, "updated_at": datetime.now(UTC)}
            await connection.execute(update(segments).values(old))
        stopped = await services.until_stopped()

    assert stopped.status_reason == "segment 'many' has a filter that is not allowed any more"
    assert_consistent(recount(database_url, "spring"))


async def test_a_sender_deleted_during_the_run_stops_the_campaign(
    database: Database, database_url: str
) -> None:
    async with start_pair(database_url, page_size=4) as services:
        await started_for_many(services, database)

        await sql_chat_store(database).users.delete([SENDER_ID], datetime.now(UTC))

        stopped = await services.until_stopped()

    assert stopped.status_reason == "sender 'acme' is not available"
    assert stopped.stats.messages_sent < len(MANY)
    assert_consistent(recount(database_url, "spring"))


async def test_a_campaign_waits_for_the_segment_server_and_goes_on(
    database: Database, database_url: str
) -> None:
    async with start_pair(database_url, page_size=4) as services:
        await started_for_many(services, database)
        # no page of the audience is left in a buffer then
        await services.campaign.stop()
        await services.segment.stop()
        await services.restart_campaign(page_size=50)

        waiting = await services.until(lambda campaign: campaign.status_reason != "")
        assert "the segment service" in waiting.status_reason
        assert [segment.id for segment in waiting.segments] == ["many"]
        await services.restart_segment()
        done = await services.until_completed()

    assert done.status_reason == ""
    assert_everyone_has_one_outcome(database_url, "spring", len(MANY))


@pytest.mark.nightly
async def test_a_campaign_whose_first_page_has_to_wait_says_so(
    database: Database, database_url: str
) -> None:
    await with_people(database, FEW)
    async with start_pair(database_url, page_size=7) as services:
        await services.add_list("few", FEW)
        await services.create(a_campaign_to("few"))
        await services.campaign.stop()
        await services.segment.stop()
        await SqlTransitionStore(database, shards=1).start("spring", len(FEW), datetime.now(UTC))
        await services.restart_campaign()

        waiting = await services.until(lambda campaign: campaign.status_reason != "")
        assert waiting.status_reason == "waiting for the segment service"
        await services.restart_segment()
        done = await services.until_completed()

    assert done.status_reason == ""
    assert_everyone_has_one_outcome(database_url, "spring", len(FEW))


@pytest.mark.nightly
async def test_a_campaign_that_waits_can_be_stopped(database: Database, database_url: str) -> None:
    async with start_pair(database_url, page_size=4) as services:
        await started_for_many(services, database)
        await services.campaign.stop()
        await services.segment.stop()
        await services.restart_campaign()
        await services.until(lambda campaign: campaign.status_reason != "")

        stopped = await services.stop()

        assert stopped.status == campaign_pb2.CAMPAIGN_STATUS_STOPPED
        assert stopped.status_reason == "stopped by a caller"
    assert_consistent(recount(database_url, "spring"))


async def test_a_campaign_server_that_is_stopped_hands_its_work_over(
    database: Database, database_url: str
) -> None:
    """It gives its leases back, so that nobody waits for their end."""
    async with start_pair(database_url, page_size=4, lease_seconds=600) as services:
        await started_for_many(services, database)

        await services.campaign.stop()

        account = recount(database_url, "spring")
        assert account.status == "in_progress"
        assert 0 < account.messages < len(MANY)
        assert_consistent(account)
        async with database.snapshot() as connection:
            owners = set(await connection.scalars(select(campaign_shards.c.lease_owner)))
        assert owners == {None}
        await services.restart_campaign(page_size=50)
        await services.until_completed()
    assert_everyone_has_one_outcome(database_url, "spring", len(MANY))


# --- side by side


@pytest.mark.nightly
async def test_two_campaigns_at_once_reach_everyone_once_each(
    database: Database, database_url: str
) -> None:
    ids = ["one", "two"]
    await with_people(database, FEW)
    async with start_pair(database_url, page_size=4) as services:
        await services.add_list("few", FEW)
        for id_ in ids:
            await services.create(a_campaign_to("few", id=id_))
        await asyncio.gather(*(services.start(id_) for id_ in ids))
        done = [await services.until_completed(id_) for id_ in ids]

    for id_ in ids:
        assert_everyone_has_one_outcome(database_url, id_, len(FEW))
    # they met in the same channels
    assert sum(campaign.stats.channels_created for campaign in done) == len(FEW)
    chat = sql_chat_store(database)
    counts = Counter(
        [(await chat.channels.get(f"messaging:{id_}-acme")).message_count for id_ in FEW]
    )
    assert counts == {2: len(FEW)}


@pytest.mark.nightly_on("one of them stops")
@pytest.mark.parametrize("stops", [False, True], ids=["both to the end", "one of them stops"])
async def test_two_campaign_servers_share_the_work(
    database: Database, database_url: str, *, stops: bool
) -> None:
    async with start_pair(database_url, page_size=4) as services:
        other = await another_campaign_server(services, page_size=5)
        await started_for_many(services, database)
        if stops:
            await other.stop()
        await services.until_completed()
        await other.stop()
    assert_everyone_has_one_outcome(database_url, "spring", len(MANY))
