"""One pass through a shard, and an audience that changes meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

from campaign_service.planning.planner import Planner
from campaign_service.segments import AudiencePage
from campaign_service.sending.page_pipeline import PagePipeline
from campaign_service.sending.rate_limiter import RateLimiter
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.ports import Lease
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.engine import Database
from chat_store.sql.stores import sql_chat_store
from chat_store.store import ChannelDraft
from segment_service.segments import SegmentSpec, SegmentType
from segment_service.sql.segments import SqlSegmentStore
from tests.campaign.builders import (
    MOMENT,
    SENDER_ID,
    a_channel,
    a_compiled_campaign,
    a_spec,
    a_user,
)
from tests.campaign.in_process_replica import RunStoreWithHooks
from tests.harness.reconciliation import outcomes

LEASE_TIME = timedelta(seconds=10)
LIST_ID = "list"
# before the page was read, so that it is new on the slowest machine
NEVER_OLD = -3_600


class Audience:
    """A page of ann and bob, read so many seconds ago; ann leaves after that."""

    def __init__(self, *, seconds_ago: float = NEVER_OLD) -> None:
        self._seconds_ago = seconds_ago
        self.questions: list[Sequence[str]] = []

    async def pages(self, *_: Any) -> AsyncIterator[AudiencePage]:
        yield AudiencePage(["ann", "bob"], "bob", monotonic() - self._seconds_ago)

    async def among(self, target_ids: Sequence[str], *_: Any) -> Sequence[str]:
        self.questions.append(target_ids)
        return ["bob"]


class GrowingList(Audience):
    """Somebody is added behind its stream in the moment in which that begins."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._segments = SqlSegmentStore(database)

    async def pages(self, *_: Any) -> AsyncIterator[AudiencePage]:
        await self._segments.add_targets(LIST_ID, ["aaron"], MOMENT)
        yield AudiencePage(["bob"], "bob", monotonic())


class SilentAudience(Audience):
    """Its server does not answer who is in it."""

    def __init__(self) -> None:
        super().__init__(seconds_ago=1)
        self.asked = asyncio.Event()

    async def among(self, *_: Any) -> Sequence[str]:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError("never")


async def a_lease(database: Database, runs: SqlRunStore) -> Lease:
    """Of a campaign to a list, with ann and bob as users."""
    users = [a_user(id_) for id_ in (SENDER_ID, "ann", "bob")]
    await sql_chat_store(database).users.upsert(users, MOMENT)
    await SqlSegmentStore(database).create(LIST_ID, SegmentSpec(type=SegmentType.USER), MOMENT)
    spec = a_spec(user_ids=(), segment_ids=(LIST_ID,))
    await SqlCampaignStore(database).create("spring", spec, MOMENT, to_channels=False)
    await SqlTransitionStore(database, shards=1).start("spring", 1, MOMENT)
    return await claimed(runs)


async def claimed(runs: SqlRunStore) -> Lease:
    lease = await runs.claim("one", MOMENT, MOMENT + LEASE_TIME)
    assert lease
    return lease


def a_run(database: Database, runs: SqlRunStore, lease: Lease, audience: Audience) -> PagePipeline:
    return PagePipeline(
        lease,
        audience,
        Planner(a_compiled_campaign(), sql_chat_store(database), lambda: MOMENT),
        runs,
        RateLimiter({}, runs, lambda: MOMENT),
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

    assert await a_run(database, runs, lease, GrowingList(database)).run(asyncio.Event())
    await runs.finish_pass(lease, MOMENT)

    again = await claimed(runs)
    assert (again.pass_number, again.cursor) == (2, "")


@pytest.mark.parametrize(
    ("seconds_ago", "questions", "sent"),
    [(NEVER_OLD, [], {"ann", "bob"}), (1, [["ann", "bob"]], {"bob"})],
    ids=["new", "a second old"],
)
async def test_who_is_in_a_page_is_asked_again_if_it_was_read_long_ago(
    database: Database,
    database_url: str,
    seconds_ago: float,
    questions: list[list[str]],
    sent: set[str],
) -> None:
    runs = SqlRunStore(database)
    lease = await a_lease(database, runs)
    audience = Audience(seconds_ago=seconds_ago)

    assert await a_run(database, runs, lease, audience).run(asyncio.Event())

    assert audience.questions == questions
    assert outcomes(database_url, "spring") == dict.fromkeys(sent, "sent")


async def test_who_is_in_a_page_is_asked_again_if_it_has_to_be_planned_again(
    database: Database, database_url: str
) -> None:
    async def channel_is_made(_: Lease) -> None:
        draft = ChannelDraft(a_channel("bob-acme"), ["bob", SENDER_ID])
        await sql_chat_store(database).channels.upsert([draft], MOMENT)

    runs = RunStoreWithHooks(database, channel_is_made, at=1)
    lease = await a_lease(database, runs)
    audience = Audience()

    assert await a_run(database, runs, lease, audience).run(asyncio.Event())

    assert audience.questions == [["ann", "bob"]]
    assert outcomes(database_url, "spring") == {"bob": "sent"}


async def test_a_run_that_waits_for_the_answer_who_is_still_in_a_page_stops_at_once(
    database: Database, database_url: str
) -> None:
    runs, stop = SqlRunStore(database), asyncio.Event()
    lease = await a_lease(database, runs)
    audience = SilentAudience()
    running = asyncio.create_task(a_run(database, runs, lease, audience).run(stop))
    await audience.asked.wait()

    stop.set()

    assert not await running
    assert outcomes(database_url, "spring") == {}
