"""Every kind of audience at its size: who gets a message, and why the others don't."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from campaign_service.storage.tables import campaign_outcomes
from chat_store.database.engine import Database
from chat_store.sql.stores import sql_chat_store
from chat_store.sql.tables import messages
from chat_store.store import ChannelDraft
from herald.segment.v1 import segment_pb2
from tests.campaign.builders import SENDER_ID, a_campaign_message, a_channel, a_user
from tests.campaign.server_pair import ServerPair, start_pair
from tests.harness.reconciliation import assert_everyone_has_one_outcome

pytestmark = pytest.mark.nightly_on("postgresql")

CHANNEL = segment_pb2.SEGMENT_TYPE_CHANNEL
CALL = 1_000


async def with_users(database: Database, ids: Sequence[str]) -> None:
    users, now = sql_chat_store(database).users, datetime.now(UTC)
    for start in range(0, len(ids), CALL):
        await users.upsert([a_user(id_) for id_ in ids[start : start + CALL]], now)


async def with_channels(database: Database, drafts: Sequence[ChannelDraft]) -> None:
    await sql_chat_store(database).channels.upsert(drafts, datetime.now(UTC))


async def to_channels(services: ServerPair, segment: segment_pb2.Segment) -> None:
    """A campaign to the segment's channels, from its start to its end."""
    await services.create_segment(segment)
    await services.create(
        a_campaign_message(
            {
                "user_ids": None,
                "segment_ids": [segment.id],
                "message_template": {"text": "Hi {{ channel.id }}"},
                "create_channels": False,
                "channel_template": None,
            }
        )
    )
    await services.start()
    await services.until_completed()


async def receivers(database: Database) -> list[str]:
    async with database.autocommit() as connection:
        return sorted(await connection.scalars(select(messages.c.target_id)))


@pytest.mark.nightly
async def test_ten_thousand_users_of_whom_some_are_not_there(
    database: Database, database_url: str
) -> None:
    them = [f"user-{number:05}" for number in range(10_000)]
    unknown, deactivated, deleted = them[::100], them[1::100], them[2::100]
    there = [id_ for number, id_ in enumerate(them) if number % 100]
    await with_users(database, [SENDER_ID, *there])
    users, now = sql_chat_store(database).users, datetime.now(UTC)
    await users.deactivate(deactivated, now)
    await users.delete(deleted, now)

    async with start_pair(database_url) as services:
        created = await services.create(a_campaign_message({"user_ids": them}))
        started = await services.start()
        done = await services.until_completed()

    assert len(created.user_ids) == started.stats.targets_total == len(them)
    account = assert_everyone_has_one_outcome(database_url, "spring", len(them))
    assert account.reasons == {
        "user_not_found": len(unknown),
        "user_deactivated": len(deactivated),
        "user_deleted": len(deleted),
    }
    assert (done.stats.messages_sent, done.stats.targets_skipped) == (9_700, 300)
    outcomes = campaign_outcomes.c
    async with database.autocommit() as connection:
        rows = await connection.execute(select(outcomes.target_id, outcomes.reason))
        found = {row.target_id: row.reason for row in rows}
    assert found == {
        **dict.fromkeys(unknown, "user_not_found"),
        **dict.fromkeys(deactivated, "user_deactivated"),
        **dict.fromkeys(deleted, "user_deleted"),
    }
    assert await receivers(database) == sorted(set(them) - set(found))


async def test_the_channels_that_a_filter_finds(database: Database, database_url: str) -> None:
    await with_users(database, [SENDER_ID, "ann"])
    await with_channels(
        database,
        [
            ChannelDraft(a_channel(f"room{number:02}", custom={"floor": number % 3}), ["ann"])
            for number in range(30)
        ],
    )
    segment = segment_pb2.Segment(id="first-floor", type=CHANNEL)
    segment.filter.update({"floor": 1, "members": {"$in": ["ann"]}})

    async with start_pair(database_url, page_size=4) as services:
        await to_channels(services, segment)

    assert_everyone_has_one_outcome(database_url, "spring", 10)
    assert await receivers(database) == [f"messaging:room{n:02}" for n in range(1, 30, 3)]


async def test_all_channels_that_the_sender_is_in(database: Database, database_url: str) -> None:
    await with_users(database, [SENDER_ID, "ann", "bob"])
    await with_channels(
        database,
        [
            ChannelDraft(a_channel(f"room{number:02}"), [("ann", SENDER_ID)[number % 2], "bob"])
            for number in range(30)
        ],
    )
    segment = segment_pb2.Segment(id="mine", type=CHANNEL, all_sender_channels=True)

    async with start_pair(database_url, page_size=4) as services:
        await to_channels(services, segment)

    assert_everyone_has_one_outcome(database_url, "spring", 15)
    assert await receivers(database) == [f"messaging:room{n:02}" for n in range(1, 30, 2)]


async def test_three_overlapping_segments_of_three_kinds(
    database: Database, database_url: str
) -> None:
    them = [f"user-{number:03}" for number in range(300)]
    await with_users(database, [SENDER_ID, *them])
    named = segment_pb2.Segment(id="named", type=segment_pb2.SEGMENT_TYPE_USER)
    named.filter.update({"id": {"$gte": "user-100", "$lt": "user-200"}})
    everyone = segment_pb2.Segment(id="all", type=segment_pb2.SEGMENT_TYPE_USER, all_users=True)

    async with start_pair(database_url, page_size=17) as services:
        await services.add_list("listed", [*them[150:250], "stranger"])
        await services.create_segment(named)
        await services.create_segment(everyone)
        await services.create(
            a_campaign_message({"user_ids": None, "segment_ids": ["listed", "named", "all"]})
        )
        await services.start()
        await services.until_completed()

    # the sender is one of all users
    account = assert_everyone_has_one_outcome(database_url, "spring", len(them) + 2)
    assert account.reasons == {"user_not_found": 1}
    assert Counter(await receivers(database)) == Counter([SENDER_ID, *them])
