"""One walk through a shard, and an audience that does not hold still meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import timedelta
from typing import Any

from campaign_service.planning.planner import Planner
from campaign_service.segment_client import AudiencePage
from campaign_service.sending.audience import Audience
from campaign_service.sending.pace import Pace
from campaign_service.sending.shard_run import ShardRun
from campaign_service.sql.campaigns import SqlCampaignStore
from campaign_service.sql.moves import SqlMoveStore
from campaign_service.sql.runs import SqlRunStore
from campaign_service.store import Lease
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


class Users:
    """An audience that has one page for each of them."""

    def __init__(self, *user_ids: str) -> None:
        self._user_ids = user_ids

    async def version(self) -> str:
        return ""

    async def pages(self, *_: Any, **__: Any) -> AsyncIterator[AudiencePage]:
        for user_id in self._user_ids:
            yield AudiencePage([user_id], user_id)


async def a_run(
    database: Database,
    audience: Audience,
    page_turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> tuple[ShardRun, Lease]:
    chat, runs = sql_chat_store(database), SqlRunStore(database)
    await chat.users.upsert([a_user(id_) for id_ in (SENDER_ID, "ann", "bob")], MOMENT)
    await SqlCampaignStore(database).create("spring", a_definition(), MOMENT, to_channels=False)
    await SqlMoveStore(database, shards=1).start("spring", 1, MOMENT)
    lease = await runs.claim("one", MOMENT, MOMENT + LEASE_TIME)
    assert lease
    run = ShardRun(
        lease,
        audience,
        Planner(a_compiled_campaign(), chat, lambda: MOMENT),
        runs,
        Pace({}, runs, lambda: MOMENT),
        page_turn,
        page_size=10,
        lease_time=LEASE_TIME,
        now=lambda: MOMENT,
        waiting=False,
    )
    return run, lease


async def test_who_is_added_behind_a_stream_that_has_just_begun_is_reached_by_another_pass(
    database: Database,
) -> None:
    runs, audience = SqlRunStore(database), GrowingList()
    run, lease = await a_run(database, audience)

    assert await run.walk(asyncio.Event())
    await runs.finish_pass(lease, await audience.version(), MOMENT)

    again = await runs.claim("one", MOMENT, MOMENT + LEASE_TIME)
    assert again
    assert (again.pass_number, again.cursor) == (2, "")


async def test_each_page_is_written_in_a_turn_of_its_own(database: Database) -> None:
    turns = []

    async def sent() -> int:
        return (await SqlCampaignStore(database).get("spring")).stats.messages_sent

    @asynccontextmanager
    async def turn() -> AsyncIterator[None]:
        before = await sent()
        yield
        turns.append((before, await sent()))

    run, _ = await a_run(database, Users("ann", "bob"), turn)

    assert await run.walk(asyncio.Event())
    assert turns == [(0, 1), (1, 2)]
