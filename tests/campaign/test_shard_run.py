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
from chat_store.database import Database
from chat_store.sql.stores import sql_chat_store
from tests.campaign.builders import (
    MOMENT,
    SENDER_ID,
    a_compiled_campaign,
    a_definition,
    a_user,
)

LEASE_TIME = timedelta(seconds=10)


class GrowingList:
    """Somebody is added behind its stream in the moment in which that begins."""

    def __init__(self) -> None:
        self._grown = False

    async def version(self) -> str:
        # the segment service is asked: meanwhile, others go on
        await asyncio.sleep(0)
        return "with the newcomer" if self._grown else "without"

    async def pages(self, *_: Any, **__: Any) -> AsyncIterator[AudiencePage]:
        self._grown = True
        yield AudiencePage(["bob"], "bob")


async def test_who_is_added_behind_a_stream_that_has_just_begun_is_reached_by_another_pass(
    database: Database,
) -> None:
    chat, runs = sql_chat_store(database), SqlRunStore(database)
    await chat.users.upsert([a_user(SENDER_ID), a_user("bob")], MOMENT)
    await SqlCampaignStore(database).create("spring", a_definition(), MOMENT, to_channels=False)
    await SqlMoveStore(database, shards=1).start("spring", 1, MOMENT)
    lease = await runs.claim("one", MOMENT, MOMENT + LEASE_TIME)
    assert lease
    audience = GrowingList()
    run = ShardRun(
        lease,
        audience,
        Planner(a_compiled_campaign(), chat, lambda: MOMENT),
        runs,
        Pace({}, runs, lambda: MOMENT),
        page_size=10,
        lease_time=LEASE_TIME,
        now=lambda: MOMENT,
        waiting=False,
    )

    assert await run.walk(asyncio.Event())
    await runs.finish_pass(lease, await audience.version(), MOMENT)

    again = await runs.claim("one", MOMENT, MOMENT + LEASE_TIME)
    assert again
    assert (again.pass_number, again.cursor) == (2, "")
