"""The monthly quota where pages are written: whatever grows after the start, it is never passed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from sqlalchemy import select

from campaign_service.campaigns.model import Campaign, Status
from campaign_service.segment_client import SegmentClient
from campaign_service.sending.claiming import ClaimCoordinator
from campaign_service.sending.sender import Sender, SenderOptions
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.tables import campaign_months
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.engine import Database, open_database
from chat_store.sql.stores import sql_chat_store
from chat_store.sql.tables import messages
from herald.campaign.v1 import campaign_pb2
from tests.campaign.builders import SENDER_ID, a_campaign_message, a_spec, a_user
from tests.campaign.server_pair import start_pair
from tests.harness.manual_clock import ManualClock
from tests.harness.reconciliation import assert_consistent, assert_everyone_has_one_outcome, recount

CROWD = [f"u{number:03}" for number in range(60)]
NOBODY = [f"nobody-{number}" for number in range(5)]
NOON = datetime(2026, 3, 15, 12, tzinfo=UTC)
MONTHS_END = datetime(2026, 4, 1, tzinfo=UTC)
NEXT_MONTH = datetime(2026, 4, 15, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
LEASE_TIME = timedelta(seconds=10)
PAGE_SIZE = 7


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture(autouse=True)
async def crowd(database: Database) -> None:
    users = [a_user(id_) for id_ in (SENDER_ID, *CROWD)]
    await sql_chat_store(database).users.upsert(users, NOON)


@pytest.fixture
async def no_segments() -> AsyncIterator[SegmentClient]:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        yield SegmentClient(channel)


async def create(database: Database, id_: str, targets: Sequence[str]) -> None:
    spec = a_spec(user_ids=tuple(targets))
    await SqlCampaignStore(database).create(id_, spec, NOON, to_channels=False)


async def start(database: Database, id_: str, targets: Sequence[str], clock: ManualClock) -> None:
    """Without a look at the quota, as if the audience had been small enough then."""
    await SqlTransitionStore(database, shards=2).start(id_, len(targets), clock())


async def send(database: Database, segments: SegmentClient, clock: ManualClock, quota: int) -> None:
    """As a process of its own does, until there is nothing to claim."""
    sender = Sender(
        SqlCampaignStore(database),
        SqlRunStore(database, monthly_quota=quota),
        sql_chat_store(database),
        segments,
        SenderOptions("one", page_size=PAGE_SIZE, lease_time=LEASE_TIME),
        now=clock,
        coordinator=ClaimCoordinator(asyncio.Semaphore()),
    )
    while await sender.run_once(asyncio.Event()):
        pass


async def sent_by_month(database: Database) -> Counter[str]:
    async with database.snapshot() as connection:
        moments = await connection.scalars(select(messages.c.created_at))
        return Counter(f"{moment:%Y-%m}" for moment in moments)


async def counted_by_month(database: Database) -> dict[str, int]:
    async with database.snapshot() as connection:
        rows = await connection.execute(select(campaign_months))
        return {row.month: row.messages for row in rows}


async def campaign_in(database: Database, id_: str) -> Campaign:
    return await SqlCampaignStore(database).get(id_)


@pytest.mark.nightly
async def test_targets_added_after_the_start_do_not_pass_the_quota(
    database: Database, database_url: str
) -> None:
    async with start_pair(database_url, monthly_quota=20) as services:
        first = {"id": "first", "user_ids": CROWD[:18]}
        await services.create(a_campaign_message(first))
        await services.start("first")
        await services.until_completed("first")
        await services.add_list("list", CROWD[20:21])
        # one message a page, and one page a second
        slow = {"user_ids": None, "segment_ids": ["list"], "max_messages_per_second": 1}
        await services.create(a_campaign_message(slow))
        await services.start()
        await services.add_targets("list", CROWD[21:27])

        stopped = await services.until_stopped()

        month = next(iter(await counted_by_month(database)))
        assert stopped.status_reason == (
            f"the monthly quota would be exceeded: 20 of 20 messages are used in {month}, "
            "and the next page has 1"
        )
        assert sum((await sent_by_month(database)).values()) == 20
        assert_consistent(recount(database_url, "spring"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await services.start()
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

        await services.campaign.stop()
        await services.restart_campaign(monthly_quota=25)
        assert (await services.start()).status == campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
        await services.until_completed()
    assert_everyone_has_one_outcome(database_url, "spring", 7)


@pytest.mark.nightly
async def test_campaigns_in_several_processes_share_the_quota_of_each_month_to_the_last_page(
    database: Database, database_url: str, no_segments: SegmentClient, clock: ManualClock
) -> None:
    quota = 100
    audiences = {f"c{number}": [*CROWD[number:], *NOBODY] for number in range(4)}
    for id_, targets in audiences.items():
        await create(database, id_, targets)
        await start(database, id_, targets, clock)

    months = 0
    async with AsyncExitStack() as stack:
        processes = [open_database(database_url) for _ in range(3)]
        for process in processes:
            stack.push_async_callback(process.close)
        while True:
            months += 1
            await asyncio.gather(
                *(send(process, no_segments, clock, quota) for process in processes for _ in "ab")
            )
            campaigns = [await campaign_in(database, id_) for id_ in audiences]
            stopped = [c.id for c in campaigns if c.status is Status.STOPPED]
            for id_ in audiences:
                assert_consistent(recount(database_url, id_))
            month = (await sent_by_month(database))[f"{clock.now:%Y-%m}"]
            assert month <= quota
            if not stopped:
                break
            # each was stopped by a page that the rest was too small for
            assert month > quota - PAGE_SIZE
            clock.now += timedelta(days=31)
            for id_ in stopped:
                await start(database, id_, audiences[id_], clock)

    total = sum(len(targets) - len(NOBODY) for targets in audiences.values())
    assert months == -(-total // quota) > 2
    for id_, targets in audiences.items():
        assert_everyone_has_one_outcome(database_url, id_, len(targets))
    assert await counted_by_month(database) == await sent_by_month(database)


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (MONTHS_END - TICK, {"2026-03": 2}),
        (MONTHS_END, {"2026-03": 2, "2026-04": 2}),
    ],
    ids=["the last moment of the month", "the first one of the next"],
)
async def test_the_quota_is_that_of_the_month_in_which_a_message_is_written(
    database: Database,
    no_segments: SegmentClient,
    clock: ManualClock,
    then: datetime,
    expected: dict[str, int],
) -> None:
    for id_ in ("first", "second"):
        await create(database, id_, CROWD[:2])
        await start(database, id_, CROWD[:2], clock)
        await send(database, no_segments, clock, quota=2)
        clock.now = then

    assert await sent_by_month(database) == await counted_by_month(database) == expected


async def test_messages_of_the_month_from_before_there_was_a_quota_are_counted(
    database: Database, no_segments: SegmentClient, clock: ManualClock
) -> None:
    clock.now = MONTHS_END - TICK
    await create(database, "old", CROWD[:4])
    await start(database, "old", CROWD[:4], clock)
    await send(database, no_segments, clock, quota=0)
    clock.now = NEXT_MONTH
    await create(database, "first", CROWD[:3])
    await start(database, "first", CROWD[:3], clock)
    await send(database, no_segments, clock, quota=0)
    assert await counted_by_month(database) == {}

    await create(database, "second", CROWD[:3])
    await start(database, "second", CROWD[:3], clock)
    await send(database, no_segments, clock, quota=3)

    second = await campaign_in(database, "second")
    assert (second.status, second.stats.messages_sent) == (Status.STOPPED, 0)
    assert "3 of 3 messages are used in 2026-04" in second.status_reason
    assert await counted_by_month(database) == {"2026-04": 3}


async def test_a_page_without_a_message_is_written_when_the_quota_is_used_up(
    database: Database, database_url: str, no_segments: SegmentClient, clock: ManualClock
) -> None:
    await create(database, "first", CROWD[:2])
    await start(database, "first", CROWD[:2], clock)
    await create(database, "second", NOBODY)
    await start(database, "second", NOBODY, clock)

    await send(database, no_segments, clock, quota=2)

    assert_everyone_has_one_outcome(database_url, "first", 2)
    assert_everyone_has_one_outcome(database_url, "second", len(NOBODY))
