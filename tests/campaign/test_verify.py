"""Recounting a campaign: what holds, and every kind of damage."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from campaign_service.campaigns.errors import CampaignNotFoundError
from campaign_service.campaigns.invariants import CampaignRecount, invariants, recount_lines
from campaign_service.storage.recount import recount
from chat_store.database.engine import Database
from chat_store.sql.stores import sql_chat_store
from tests.campaign.builders import SENDER_ID, a_campaign_message, a_user
from tests.campaign.server_pair import start_pair
from tests.harness import reconciliation

pytestmark = pytest.mark.nightly_on("postgresql")

PEOPLE = [f"u{number:02}" for number in range(12)]
NOBODY = ["nobody-1", "nobody-2"]
# a channel id with a space is none
BAD_ID = "{{ 'a b' if receiver.id == 'u00' else receiver.id }}"

MESSAGES, SKIPPED = "messages = messages sent", "skipped rows = targets skipped"
FAILED, TWICE = "failed rows = targets failed", "no target has two outcomes"
REASONS, ASTRAY = (
    "every reason matches its outcome",
    "every message is in an existing channel",
)
MEMBERS, CONTENT = "every channel counts its members", "every channel counts its messages"
TOTAL, SHARDS = "targets total = messages + skipped + failed", "every shard is finished"
ALWAYS = [MESSAGES, SKIPPED, FAILED, TWICE, REASONS, ASTRAY, MEMBERS, CONTENT]

ONE_MESSAGE = "(SELECT min(id) FROM messages)"
ONE_CHANNEL = "(SELECT min(cid) FROM channels)"
DAMAGES = {
    "a message is lost": (
        [f"DELETE FROM messages WHERE id = {ONE_MESSAGE}"],
        [MESSAGES, TOTAL],
    ),
    "a message has no target": (
        [f"UPDATE messages SET target_id = NULL WHERE id = {ONE_MESSAGE}"],
        [TWICE],
    ),
    "an outcome is lost": (
        ["DELETE FROM campaign_outcomes WHERE target_id = 'nobody-1'"],
        [SKIPPED, TOTAL],
    ),
    "a failure is lost": (
        ["DELETE FROM campaign_outcomes WHERE outcome = 'failed'"],
        [FAILED, TOTAL],
    ),
    "a target has two outcomes": (
        ["UPDATE campaign_outcomes SET target_id = 'u01' WHERE target_id = 'nobody-1'"],
        [TWICE],
    ),
    "a reason is another outcome's": (
        ["UPDATE campaign_outcomes SET reason = 'template_error' WHERE outcome = 'skipped'"],
        [REASONS],
    ),
    "a reason is none": (
        ["UPDATE campaign_outcomes SET reason = 'bad luck' WHERE outcome = 'failed'"],
        [REASONS],
    ),
    "a counter is wrong": (
        ["UPDATE campaign_shards SET messages_sent = messages_sent + 1 WHERE shard = 0"],
        [MESSAGES],
    ),
    "the total is wrong": (["UPDATE campaigns SET targets_total = 15"], [TOTAL]),
    "a shard is not finished": (
        ["UPDATE campaign_shards SET finished = (1 = 0) WHERE shard = 0"],
        [SHARDS],
    ),
    "the shards are lost": (["DELETE FROM campaign_shards"], [MESSAGES, SKIPPED, FAILED, SHARDS]),
    "a channel is lost": ([f"DELETE FROM channels WHERE cid = {ONE_CHANNEL}"], [ASTRAY]),
    "a member is lost": ([f"DELETE FROM members WHERE cid = {ONE_CHANNEL}"], [MEMBERS]),
    "a channel counts wrongly": (
        [f"UPDATE channels SET message_count = 7 WHERE cid = {ONE_CHANNEL}"],
        [CONTENT],
    ),
}


async def with_campaign(database: Database, database_url: str) -> None:
    """Completed: eleven were sent to, one failed, two were skipped."""
    users = [a_user(id_) for id_ in [SENDER_ID, *PEOPLE]]
    await sql_chat_store(database).users.upsert(users, datetime.now(UTC))
    changes = {
        "user_ids": [*PEOPLE, *NOBODY],
        "channel_template": {"type": "messaging", "id": BAD_ID},
    }
    async with start_pair(database_url, page_size=3) as services:
        await services.create(a_campaign_message(changes))
        await services.start()
        await services.until_completed()


async def spoil(database: Database, statements: Sequence[str]) -> None:
    async with database.transaction() as connection:
        for statement in statements:
            await connection.execute(text(statement))


def broken(found: CampaignRecount) -> list[str]:
    return [law.text for law in invariants(found) if not law.holds]


async def test_every_kind_of_damage_is_found(database: Database, database_url: str) -> None:
    await with_campaign(database, database_url)
    sound = await recount(database, "spring")
    assert [law.text for law in invariants(sound)] == [*ALWAYS, TOTAL, SHARDS]
    assert broken(sound) == []
    tables = (
        "campaigns",
        "campaign_shards",
        "campaign_outcomes",
        "messages",
        "channels",
        "members",
    )
    await spoil(database, [f"CREATE TABLE kept_{name} AS SELECT * FROM {name}" for name in tables])
    for name, (statements, expected) in DAMAGES.items():
        await spoil(database, statements)
        assert broken(await recount(database, "spring")) == expected, name
        for table in tables:
            mend = [f"DELETE FROM {table}", f"INSERT INTO {table} SELECT * FROM kept_{table}"]
            await spoil(database, mend)
    assert await recount(database, "spring") == sound


async def test_two_recounts_that_know_nothing_of_each_other_agree(
    database: Database, database_url: str
) -> None:
    await with_campaign(database, database_url)
    ours, theirs = await recount(database, "spring"), reconciliation.recount(database_url, "spring")

    assert ours.status == theirs.status == "completed"
    assert (ours.targets_total, ours.messages) == (theirs.targets_total, theirs.messages)
    assert (ours.messages, ours.skipped, ours.failed) == (11, 2, 1)
    assert (ours.skipped, ours.failed) == (theirs.skipped, theirs.failed)
    assert {reason: count for (_, reason), count in ours.outcomes.items()} == theirs.reasons
    assert ours.counters.channels_created == theirs.counted_channels == ours.channels == 11
    assert dict(recount_lines(ours))["skipped: user_not_found"] == 2
    reconciliation.assert_everyone_has_one_outcome(database_url, "spring", 14)


async def test_the_laws_hold_at_any_moment_of_a_run(database: Database, database_url: str) -> None:
    users = [a_user(id_) for id_ in [SENDER_ID, *PEOPLE]]
    await sql_chat_store(database).users.upsert(users, datetime.now(UTC))
    async with start_pair(database_url, page_size=1) as services:
        await services.create(a_campaign_message({"user_ids": PEOPLE}))
        draft = await recount(database, "spring")
        await services.start()
        under_way = []
        completed = asyncio.create_task(services.until_completed())
        while not completed.done():
            under_way.append(await recount(database, "spring"))
        await completed

    assert [law.text for law in invariants(draft)] == ALWAYS
    for found in (draft, *under_way):
        assert broken(found) == [], found


async def test_a_campaign_that_is_not_there_has_no_counts(database: Database) -> None:
    with pytest.raises(CampaignNotFoundError):
        await recount(database, "spring")
