"""One walk through a shard, and an audience that does not hold still meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from campaign_service.planning.planner import Planner
from campaign_service.segment_client import AudiencePage
from campaign_service.sending.pace import Pace
from campaign_service.sending.shard_run import ShardRun
from campaign_service.sql.campaigns import SqlCampaignStore
from campaign_service.sql.moves import SqlMoveStore
from campaign_service.sql.runs import SqlRunStore
from campaign_service.store import Lease
from chat_store.database import Database
from chat_store.sql.stores import sql_chat_store
from segment_service.segments import Content, SegmentType
from segment_service.sql.segments import SqlSegmentStore
from tests.campaign.builders import (
    MOMENT,
    SENDER_ID,
    a_compiled_campaign,
    a_definition,
    a_user,
)

LEASE_TIME = timedelta(seconds=10)
LIST_ID = "list"


class GrowingList:
    """Somebody is added behind its stream in the moment in which that begins."""

    def __init__(self, database: Database) -> None:
        self._segments = SqlSegmentStore(database)

    async def pages(self, *_: Any) -> AsyncIterator[AudiencePage]:
        await self._segments.add_targets(LIST_ID, ["aaron"], MOMENT)
        yield AudiencePage(["bob"], "bob")


async def a_lease(database: Database, runs: SqlRunStore) -> Lease:
    """Of a campaign to a list, with ann and bob as users."""
    users = [a_user(id_) for id_ in (SENDER_ID, "ann", "bob")]
    await sql_chat_store(database).users.upsert(users, MOMENT)
    await SqlSegmentStore(database).create(LIST_ID, Content(type=SegmentType.USER), MOMENT)
    definition = a_definition(user_ids=(), segment_ids=(LIST_ID,))
    await SqlCampaignStore(database).create("spring", definition, MOMENT, to_channels=False)
    await SqlMoveStore(database, shards=1).start("spring", 1, MOMENT)
    return await claimed(runs)


async def claimed(runs: SqlRunStore) -> Lease:
    lease = await runs.claim("one", MOMENT, MOMENT + LEASE_TIME)
    assert lease
    return lease


def a_run(database: Database, runs: SqlRunStore, lease: Lease, audience: GrowingList) -> ShardRun:
    return ShardRun(
        lease,
        audience,
        Planner(a_compiled_campaign(), sql_chat_store(database), lambda: MOMENT),
        runs,
        Pace({}, runs, lambda: MOMENT),
        page_size=10,
        lease_time=LEASE_TIME,
        now=lambda: MOMENT,
        waiting=False,
    )


async def test_who_is_added_behind_a_stream_that_has_just_begun_is_reached_by_another_pass(
    database: Database,
) -> None:
    runs = SqlRunStore(database)
    lease = await a_lease(database, runs)

    assert await a_run(database, runs, lease, GrowingList(database)).walk(asyncio.Event())
    await runs.finish_pass(lease, MOMENT)

    again = await claimed(runs)
    assert (again.pass_number, again.cursor) == (2, "")
