"""Campaigns by the clock: what is due is started or stopped, once, whatever went down meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from campaign_service.campaigns.errors import CampaignDeletedError, QuotaExceededError
from campaign_service.campaigns.model import Campaign, Status, Times
from campaign_service.lifecycle.lifecycle import Lifecycle
from campaign_service.lifecycle.references import ReferenceChecker
from campaign_service.lifecycle.scheduler import Scheduler
from campaign_service.segment_client import SegmentClient
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.history import revisions_after
from campaign_service.storage.ports import DueTransition
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.engine import Database
from chat_store.sql.stores import sql_chat_store
from tests.campaign.builders import SENDER_ID, a_spec, a_user
from tests.harness.manual_clock import ManualClock
from tests.harness.reconciliation import recount

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOWHERE = "127.0.0.1:1"


@dataclass
class Service:
    """Campaigns and their clock, without a sender."""

    database: Database
    clock: ManualClock
    segments: SegmentClient
    quota: int = 0

    @property
    def lifecycle(self) -> Lifecycle:
        return Lifecycle(
            SqlCampaignStore(self.database),
            self.moves,
            ReferenceChecker(sql_chat_store(self.database), self.segments),
            self.segments,
            now=self.clock,
            wake=lambda: None,
        )

    @property
    def moves(self) -> SqlTransitionStore:
        return SqlTransitionStore(self.database, shards=1, monthly_quota=self.quota)

    def schedule(self) -> Scheduler:
        """As every server has one; a new one knows nothing but the database."""
        return Scheduler(self.moves, self.lifecycle, now=self.clock)

    async def create(self, id_: str = "spring") -> None:
        await self.lifecycle.create(id_, a_spec(), validate_only=False)

    async def start(
        self, at: datetime | None = None, until: datetime | None = None, id_: str = "spring"
    ) -> Campaign:
        return await self.lifecycle.start(id_, Times(at, until))

    async def tick(self, at: datetime) -> Campaign:
        self.clock.now = at
        await self.schedule().run_once()
        return await self.get()

    async def get(self, id_: str = "spring") -> Campaign:
        return await SqlCampaignStore(self.database).get(id_)

    async def statuses(self, id_: str = "spring") -> list[Status]:
        """All that it ever was, in order."""
        async with self.database.snapshot() as connection:
            changes = await revisions_after(connection, id_, 0)
        return [change.status for change in changes]


@pytest.fixture
async def service(database: Database) -> AsyncIterator[Service]:
    users = [a_user(id_) for id_ in (SENDER_ID, "ann", "bob")]
    await sql_chat_store(database).users.upsert(users, NOON)
    async with grpc.aio.insecure_channel(NOWHERE) as channel:
        yield Service(database, ManualClock(NOON), SegmentClient(channel))


async def test_a_campaign_starts_when_it_is_due_and_not_before(service: Service) -> None:
    await service.create()
    await service.start(NOON + HOUR)

    before = await service.tick(NOON + HOUR - timedelta(microseconds=1))
    due = await service.tick(NOON + HOUR)

    assert (before.status, before.stats.started_at) == (Status.SCHEDULED, None)
    assert (due.status, due.stats.started_at) == (Status.IN_PROGRESS, NOON + HOUR)
    assert due.scheduled_for == NOON + HOUR
    assert due.stats.targets_total == 2


async def test_what_was_due_while_the_service_was_down_starts_when_it_is_up(
    service: Service,
) -> None:
    await service.create()
    await service.start(NOON + HOUR, NOON + 9 * HOUR)

    late = await service.tick(NOON + 8 * HOUR)

    assert (late.status, late.stats.started_at) == (Status.IN_PROGRESS, NOON + 8 * HOUR)


async def test_what_should_have_been_over_while_the_service_was_down_is_stopped(
    service: Service,
) -> None:
    await service.create()
    await service.start(NOON + HOUR, NOON + 2 * HOUR)

    missed = await service.tick(NOON + 2 * HOUR)

    assert missed.status is Status.STOPPED
    assert missed.status_reason == "stop_at was reached"
    assert missed.stats.started_at is None
    assert await service.statuses() == [Status.DRAFT, Status.SCHEDULED, Status.STOPPED]


async def test_a_campaign_in_progress_is_stopped_when_its_time_is_up(service: Service) -> None:
    await service.create()
    await service.start(until=NOON + HOUR)

    before = await service.tick(NOON + HOUR - timedelta(microseconds=1))
    after = await service.tick(NOON + HOUR)

    assert before.status is Status.IN_PROGRESS
    assert (after.status, after.status_reason) == (Status.STOPPED, "stop_at was reached")


async def test_a_campaign_without_an_end_goes_on(service: Service) -> None:
    await service.create()
    await service.start()

    assert (await service.tick(NOON + 10_000 * HOUR)).status is Status.IN_PROGRESS


async def test_a_stopped_campaign_can_resume_at_a_time(service: Service) -> None:
    await service.create()
    await service.start()
    await service.lifecycle.stop("spring")
    await service.start(NOON + HOUR)

    resumed = await service.tick(NOON + HOUR)

    assert resumed.status is Status.IN_PROGRESS
    assert resumed.stats.started_at == NOON


async def test_a_campaign_that_was_put_off_starts_at_its_last_time_only(service: Service) -> None:
    await service.create()
    await service.start(NOON + HOUR, NOON + 3 * HOUR)
    await service.start(NOON + 5 * HOUR)

    at_the_first = await service.tick(NOON + 4 * HOUR)
    at_the_last = await service.tick(NOON + 5 * HOUR)

    assert (at_the_first.status, at_the_first.stop_at) == (Status.SCHEDULED, None)
    assert at_the_last.status is Status.IN_PROGRESS


@pytest.mark.parametrize("away", [Lifecycle.stop, Lifecycle.delete], ids=["stopped", "deleted"])
async def test_a_campaign_that_is_not_to_start_any_more_does_not(
    service: Service, away: Callable[[Lifecycle, str], asyncio.Future[object]]
) -> None:
    await service.create()
    await service.start(NOON + HOUR)
    (due,) = await service.moves.due(NOON + HOUR)
    await away(service.lifecycle, "spring")

    late = await service.tick(NOON + 2 * HOUR)
    # a scheduler that had seen it before
    with suppress(CampaignDeletedError):
        await service.lifecycle.fire_due(due)

    assert late.stats.started_at is None
    assert (await service.get()).stats.started_at is None


async def test_several_schedulers_fire_once(service: Service) -> None:
    await service.create()
    await service.start(NOON + HOUR, NOON + 2 * HOUR)
    service.clock.now = NOON + HOUR
    await asyncio.gather(*(service.schedule().run_once() for _ in range(5)))
    service.clock.now = NOON + 2 * HOUR
    await asyncio.gather(*(service.schedule().run_once() for _ in range(5)))

    assert await service.statuses() == [
        Status.DRAFT,
        Status.SCHEDULED,
        Status.IN_PROGRESS,
        Status.STOPPED,
    ]
    assert (await service.get()).revision == 4


async def test_a_scheduled_start_whose_sender_is_gone_is_stopped_with_the_reason(
    service: Service, database: Database
) -> None:
    await service.create()
    await service.start(NOON + HOUR)
    await sql_chat_store(database).users.delete([SENDER_ID], NOON)

    gone = await service.tick(NOON + HOUR)

    assert gone.status is Status.STOPPED
    assert gone.status_reason == "sender 'acme' is not available"


async def test_one_that_can_not_be_moved_holds_up_no_other(
    service: Service, database: Database
) -> None:
    await service.create("spring")
    await SqlCampaignStore(database).create(
        "waits", a_spec(user_ids=(), segment_ids=("all",)), NOON, to_channels=False
    )
    await service.moves.schedule("waits", Times(NOON + HOUR), NOON)
    await service.start(NOON + 2 * HOUR)

    started = await service.tick(NOON + 2 * HOUR)

    assert started.status is Status.IN_PROGRESS
    waits = await service.get("waits")
    assert waits.status is Status.SCHEDULED
    assert waits.status_reason == "waiting to start: the segment service can't be reached"


async def test_one_that_fails_for_a_reason_nobody_knows_holds_up_no_other_and_is_tried_less_often(
    service: Service, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Lifecycle):
        async def fire_due(self, due: DueTransition) -> None:
            tried.append(due.campaign_id)
            if due.campaign_id == "broken":
                raise ZeroDivisionError
            await super().fire_due(due)

    tried: list[str] = []
    for id_ in ("broken", "spring"):
        await service.create(id_)
        await service.start(NOON + HOUR, id_=id_)
    references = ReferenceChecker(sql_chat_store(database), service.segments)
    lifecycle = Broken(
        SqlCampaignStore(database),
        service.moves,
        references,
        service.segments,
        now=service.clock,
        wake=lambda: None,
    )
    schedule = Scheduler(service.moves, lifecycle, now=service.clock)
    # no pause is over while this clock stands still
    monkeypatch.setattr("herald_rpc.process.outages.monotonic", lambda: 0.0)
    service.clock.now += HOUR
    for _ in range(5):
        await schedule.run_once()

    assert (await service.get("spring")).status is Status.IN_PROGRESS
    broken = await service.get("broken")
    assert (broken.status, broken.status_reason) == (
        Status.SCHEDULED,
        "waiting to start: internal error",
    )
    assert tried.count("broken") == 1
    assert schedule.is_well


# --- the quota


async def test_a_campaign_beyond_the_months_quota_is_refused_and_stays_as_it_was(
    service: Service, database_url: str
) -> None:
    service.quota = 3
    await service.create("first")
    await service.create("second")
    await service.start(id_="first")

    with pytest.raises(QuotaExceededError) as refused:
        await service.start(id_="second")

    # what the first has yet to send is used
    assert (refused.value.limit, refused.value.used, refused.value.given) == (3, 2, 2)
    assert (await service.get("second")).status is Status.DRAFT
    assert recount(database_url, "second").shards == 0


async def test_exactly_what_is_left_may_be_sent(service: Service) -> None:
    service.quota = 4
    await service.create("first")
    await service.create("second")
    await service.start(id_="first")

    assert (await service.start(id_="second")).status is Status.IN_PROGRESS


async def test_a_new_month_has_a_new_quota(service: Service) -> None:
    service.quota = 2
    await service.create("first")
    await service.create("second")
    await service.start(id_="first")
    await service.lifecycle.stop("first")
    service.clock.now = NOON + 31 * 24 * HOUR

    assert (await service.start(id_="second")).status is Status.IN_PROGRESS


async def test_a_scheduled_start_beyond_the_quota_is_stopped_with_the_reason(
    service: Service,
) -> None:
    service.quota = 3
    await service.create("first")
    await service.create("spring")
    await service.start(NOON + HOUR)
    await service.start(id_="first")

    refused = await service.tick(NOON + HOUR)

    assert refused.status is Status.STOPPED
    assert "1 of 3 messages are left this month" in refused.status_reason


async def test_of_two_starts_at_the_same_moment_one_gets_the_rest_of_the_quota(
    service: Service,
) -> None:
    service.quota = 3
    names = [f"c{number}" for number in range(6)]
    for name in names:
        await service.create(name)

    results = await asyncio.gather(
        *(service.start(id_=name) for name in names), return_exceptions=True
    )

    started = [result for result in results if isinstance(result, Campaign)]
    assert len(started) == 1
    assert sum(isinstance(result, QuotaExceededError) for result in results) == len(names) - 1
