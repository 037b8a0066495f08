"""The worker itself: it survives whatever goes away, and leaves the rest to a later try."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, cast

import grpc
import pytest

from campaign_service.campaigns.errors import ReferenceGoneError
from campaign_service.campaigns.model import Status
from campaign_service.segment_client import SegmentClient
from campaign_service.sending.claiming import ClaimCoordinator
from campaign_service.sending.sender import Sender, SenderOptions
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.ports import Lease, RunStore
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.engine import Database, open_database
from chat_store.errors import StoreUnavailableError
from chat_store.sql.stores import sql_chat_store
from segment_service.segments import SegmentSpec, SegmentType
from segment_service.sql.segments import SqlSegmentStore
from tests.campaign.builders import MOMENT, SENDER_ID, a_spec, a_user

LEASE_TIME = timedelta(seconds=10)


class FailingRuns:
    """A run store that can't be reached in the methods of `failing`."""

    def __init__(self, runs: SqlRunStore, *failing: str) -> None:
        self._runs = runs
        self.errors: dict[str, Exception] = {name: StoreUnavailableError(name) for name in failing}
        self.claims = 0
        self.enough = asyncio.Event()

    async def claim(self, owner: str, now: datetime, until: datetime) -> Lease | None:
        """Says that it is enough when it is asked again."""
        self.claims += 1
        if self.claims > 1:
            self.enough.set()
        if "claim" in self.errors:
            raise self.errors["claim"]
        return await self._runs.claim(owner, now, until)

    def __getattr__(self, name: str) -> Any:
        async def fail(*_: Any) -> None:
            raise self.errors[name]

        return fail if name in self.errors else getattr(self._runs, name)


@pytest.fixture
async def database(sqlite_url: str) -> AsyncIterator[Database]:
    opened = open_database(sqlite_url)
    await sql_chat_store(opened).users.upsert([a_user(SENDER_ID), a_user("ann")], MOMENT)
    yield opened
    await opened.close()


@pytest.fixture
async def no_segments() -> AsyncIterator[SegmentClient]:
    """The way to a server that is not there."""
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        yield SegmentClient(channel)


class HeldRuns:
    """A run store in which every pass waits for its release before it begins."""

    def __init__(self, runs: SqlRunStore) -> None:
        self._runs = runs
        self.owners: asyncio.Queue[str] = asyncio.Queue()
        self.let_go = asyncio.Event()

    async def claim(self, owner: str, now: datetime, until: datetime) -> Lease | None:
        lease = await self._runs.claim(owner, now, until)
        if lease:
            self.owners.put_nowait(owner)
        return lease

    async def begin_pass(self, lease: Lease) -> None:
        await self.let_go.wait()
        await self._runs.begin_pass(lease)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runs, name)


def a_coordinator(slots: int = 1) -> ClaimCoordinator:
    return ClaimCoordinator(asyncio.Semaphore(slots))


def a_sender(
    database: Database,
    segments: SegmentClient,
    runs: Any,
    coordinator: ClaimCoordinator | None = None,
    owner: str = "one",
) -> Sender:
    coordinator = coordinator or a_coordinator()
    coordinator.work_available.set()
    return Sender(
        SqlCampaignStore(database),
        cast("RunStore", runs),
        sql_chat_store(database),
        segments,
        SenderOptions(owner, page_size=10, lease_time=LEASE_TIME),
        now=lambda: MOMENT,
        coordinator=coordinator,
    )


async def started(database: Database, shards: int = 1, **changes: Any) -> SqlCampaignStore:
    store = SqlCampaignStore(database)
    await store.create("spring", a_spec(**changes), MOMENT, to_channels=False)
    await SqlTransitionStore(database, shards=shards).start("spring", 1, MOMENT)
    return store


async def with_list(database: Database, id_: str) -> None:
    content = SegmentSpec(type=SegmentType.USER)
    await SqlSegmentStore(database).create(id_, content, MOMENT)


async def test_nothing_to_claim_is_nothing_done(
    database: Database, no_segments: SegmentClient
) -> None:
    sender = a_sender(database, no_segments, SqlRunStore(database))

    assert await sender.run_once(asyncio.Event()) is False


async def test_one_claim_walks_a_shard_to_its_end(
    database: Database, no_segments: SegmentClient
) -> None:
    await started(database)
    sender = a_sender(database, no_segments, SqlRunStore(database))

    assert await sender.run_once(asyncio.Event()) is True

    campaign = await SqlCampaignStore(database).get("spring")
    assert campaign.status is Status.COMPLETED
    assert (campaign.stats.messages_sent, campaign.stats.targets_skipped) == (1, 1)


async def test_a_run_without_its_segments_waits_and_says_why_until_it_is_told_to_stop(
    database: Database, no_segments: SegmentClient
) -> None:
    await with_list(database, "vips")
    await started(database, user_ids=(), segment_ids=("vips",))
    runs, stop = SqlRunStore(database), asyncio.Event()

    running = asyncio.create_task(a_sender(database, no_segments, runs).run_once(stop))
    while not (campaign := await SqlCampaignStore(database).get("spring")).status_reason:
        assert not running.done()

    assert campaign.status is Status.IN_PROGRESS
    assert campaign.status_reason == "waiting for the segment service"
    stop.set()
    await running
    assert await runs.claim("two", MOMENT, MOMENT + LEASE_TIME) is not None


async def test_a_run_whose_sender_is_gone_stops_with_the_reason(
    database: Database, no_segments: SegmentClient
) -> None:
    await started(database)
    await sql_chat_store(database).users.delete([SENDER_ID], MOMENT)

    await a_sender(database, no_segments, SqlRunStore(database)).run_once(asyncio.Event())

    campaign = await SqlCampaignStore(database).get("spring")
    assert (campaign.status, campaign.status_reason) == (
        Status.STOPPED,
        "sender 'acme' is not available",
    )


async def test_an_idle_sender_that_is_told_to_stop_does_not_wait_for_its_next_look(
    database: Database, no_segments: SegmentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("campaign_service.sending.sender._POLL_SECONDS", 3_600)
    runs = FailingRuns(SqlRunStore(database))
    stop = asyncio.Event()
    running = asyncio.create_task(a_sender(database, no_segments, runs).run(stop))
    await runs.enough.wait()

    stop.set()

    await running


async def test_one_idle_sender_looks_for_all_of_its_process(
    database: Database, no_segments: SegmentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("campaign_service.sending.sender._POLL_SECONDS", 3_600)
    runs = FailingRuns(SqlRunStore(database))
    senders = [
        a_sender(database, no_segments, runs, coordinator) for coordinator in [a_coordinator(3)] * 3
    ]
    stop = asyncio.Event()
    running = [asyncio.create_task(sender.run(stop)) for sender in senders]
    await runs.enough.wait()

    stop.set()
    await asyncio.gather(*running)

    assert runs.claims == 2


async def test_a_process_at_work_leaves_the_next_shard_to_an_idle_one(
    database: Database, no_segments: SegmentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("campaign_service.sending.sender._YIELD_SECONDS", 3_600)
    store = await started(database, shards=2)
    runs, stop = HeldRuns(SqlRunStore(database)), asyncio.Event()

    async with asyncio.TaskGroup() as running:
        for owner, coordinator in (("first", a_coordinator(2)), ("second", a_coordinator(2))):
            for _ in range(2):
                sender = a_sender(database, no_segments, runs, coordinator, owner)
                running.create_task(sender.run(stop))
            assert await runs.owners.get() == owner
            # time enough for the other sender of the process to take another shard
            for _ in range(10):
                await store.get("spring")
        assert runs.owners.empty()
        stop.set()
        runs.let_go.set()


async def test_a_process_walks_as_many_shards_as_it_has_slots(
    database: Database, no_segments: SegmentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("campaign_service.sending.sender._YIELD_SECONDS", 0)
    store = await started(database, shards=3)
    runs, stop = HeldRuns(SqlRunStore(database)), asyncio.Event()
    coordinator = a_coordinator(2)

    async with asyncio.TaskGroup() as running:
        for _ in range(3):
            running.create_task(a_sender(database, no_segments, runs, coordinator).run(stop))
        for _ in range(2):
            await runs.owners.get()
        # time enough for the third one to take a shard
        for _ in range(10):
            await store.get("spring")
        assert runs.owners.empty()
        stop.set()
        runs.let_go.set()


async def test_a_run_that_is_told_to_stop_gives_its_shard_back(
    database: Database, no_segments: SegmentClient
) -> None:
    await started(database)
    runs = SqlRunStore(database)
    stop = asyncio.Event()
    stop.set()

    await a_sender(database, no_segments, runs).run_once(stop)

    assert (await SqlCampaignStore(database).get("spring")).status is Status.IN_PROGRESS
    assert await runs.claim("two", MOMENT, MOMENT + LEASE_TIME) is not None


@pytest.mark.parametrize("failing", ["claim", "begin_pass", "commit_page", "finish_pass"])
async def test_a_database_that_goes_away_does_not_end_the_worker(
    database: Database, no_segments: SegmentClient, failing: str
) -> None:
    await started(database)
    runs = FailingRuns(SqlRunStore(database), failing)

    await a_sender(database, no_segments, runs).run(runs.enough)

    assert runs.claims == 2
    assert (await SqlCampaignStore(database).get("spring")).status is Status.IN_PROGRESS


@pytest.mark.parametrize("first", ["begin_pass", "commit_page"])
@pytest.mark.parametrize("then", ["explain", "release"])
async def test_a_database_that_stays_away_does_not_end_the_worker(
    database: Database, no_segments: SegmentClient, first: str, then: str
) -> None:
    await started(database)
    runs = FailingRuns(SqlRunStore(database), first, then)

    await a_sender(database, no_segments, runs).run(runs.enough)

    assert runs.claims == 2


@pytest.mark.parametrize("failing", ["begin_pass", "commit_page", "finish_pass"])
async def test_a_run_that_fails_for_a_reason_nobody_knows_waits_and_ends_no_worker(
    database: Database, no_segments: SegmentClient, failing: str
) -> None:
    await started(database)
    runs = FailingRuns(SqlRunStore(database), failing)
    runs.errors[failing] = ZeroDivisionError("of ours")

    await a_sender(database, no_segments, runs).run(runs.enough)

    campaign = await SqlCampaignStore(database).get("spring")
    assert (campaign.status, campaign.status_reason) == (
        Status.IN_PROGRESS,
        "retrying: internal error",
    )


async def test_a_claim_that_fails_for_a_reason_nobody_knows_ends_no_worker(
    database: Database, no_segments: SegmentClient
) -> None:
    runs = FailingRuns(SqlRunStore(database), "claim")
    runs.errors["claim"] = ZeroDivisionError("of ours")

    await a_sender(database, no_segments, runs).run(runs.enough)

    assert runs.claims == 2


async def test_a_run_that_ends_for_two_reasons_does_not_end_the_worker(
    database: Database, no_segments: SegmentClient
) -> None:
    """Neither of which can be written down, for the database is away."""
    await started(database)
    runs = FailingRuns(SqlRunStore(database), "begin_pass", "abort", "explain")
    reasons = [ReferenceGoneError("sender", SENDER_ID), StoreUnavailableError("down")]
    runs.errors["begin_pass"] = ExceptionGroup("two reasons", reasons)

    await a_sender(database, no_segments, runs).run(runs.enough)

    assert runs.claims == 2


async def test_a_database_that_goes_away_while_a_run_is_aborted_does_not_end_the_worker(
    database: Database, no_segments: SegmentClient
) -> None:
    await started(database)
    await sql_chat_store(database).users.delete([SENDER_ID], MOMENT)
    runs = FailingRuns(SqlRunStore(database), "abort")

    await a_sender(database, no_segments, runs).run(runs.enough)

    assert runs.claims == 2
    assert (await SqlCampaignStore(database).get("spring")).status is Status.IN_PROGRESS
