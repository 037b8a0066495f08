"""Why a campaign waits: the one cause that holds is 1, and all others are 0."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.engine import make_url

from campaign_service.campaigns.model import Status, Times
from campaign_service.campaigns.outcomes import Outcome
from campaign_service.campaigns.waiting import Cause, RunningCampaign, cause_of
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.holds import SqlHoldStore
from campaign_service.storage.ports import GLOBAL_LIMIT
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.engine import Database, open_database
from chat_store.errors import StoreUnavailableError
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_pb2
from tests.campaign.builders import MOMENT, SENDER_ID, a_spec, a_user
from tests.campaign.server_pair import start_pair
from tests.campaign.test_runs import claimed, started
from tests.harness.processes import free_address
from tests.harness.proxy import relayed
from tests.metrics.measuring import LEASE_TIME, Metrics, causes_in
from tests.metrics.series import by_label, scraped

pytestmark = pytest.mark.nightly_on("postgresql")

SECOND = timedelta(seconds=1)


@pytest.fixture
def metrics(database: Database) -> Metrics:
    return Metrics(database)


async def test_a_campaign_that_is_being_sent_waits_for_nothing(
    database: Database, metrics: Metrics
) -> None:
    await started(database)
    await claimed(SqlRunStore(database))

    assert await metrics.causes() == []


async def test_it_waits_for_its_schedule(database: Database, metrics: Metrics) -> None:
    await SqlCampaignStore(database).create("spring", a_spec(), MOMENT, to_channels=False)
    times = Times(scheduled_for=MOMENT + timedelta(hours=1))
    await SqlTransitionStore(database, shards=1).schedule("spring", times, MOMENT)

    assert await metrics.causes() == [Cause.SCHEDULE]


async def test_it_waits_for_its_own_limit(database: Database, metrics: Metrics) -> None:
    await started(database, max_messages_per_second=1)
    runs = SqlRunStore(database)
    await claimed(runs)
    await runs.reserve({"spring": 1}, 2, MOMENT, MOMENT)

    told = [await metrics.causes()]
    metrics.now += 3 * SECOND
    told.append(await metrics.causes())

    assert told == [[Cause.LIMIT], []]


async def test_it_waits_for_the_limit_of_all_campaigns(database: Database) -> None:
    metrics = Metrics(database, has_global_limit=True)
    await started(database)
    runs = SqlRunStore(database)
    await claimed(runs)
    await runs.reserve({GLOBAL_LIMIT: 1}, 2, MOMENT, MOMENT)

    assert await metrics.causes() == [Cause.LIMIT]


async def test_it_waits_for_the_lease_of_a_sender_that_is_gone_and_of_none(
    database: Database, metrics: Metrics
) -> None:
    await started(database)
    before_the_claim = await metrics.causes()
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    claimed_now = await metrics.causes()
    metrics.now += LEASE_TIME * 0.5
    await runs.renew(lease, metrics.now + LEASE_TIME)
    renewed = await metrics.causes()
    metrics.now += LEASE_TIME * 0.9
    gone = await metrics.causes()
    metrics.now += LEASE_TIME
    over = await metrics.causes()

    assert [before_the_claim, claimed_now, renewed, gone, over] == [
        [Cause.LEASE],
        [],
        [],
        [Cause.LEASE],
        [Cause.LEASE],
    ]


async def test_it_waits_for_an_operator_who_has_not_decided(
    database: Database, metrics: Metrics
) -> None:
    await started(database)
    await claimed(SqlRunStore(database))
    holds = SqlHoldStore(database)
    await holds.begin(start_held=True)
    held = await metrics.causes()
    await holds.release()

    assert (held, await metrics.causes()) == ([Cause.HOLD], [])


@pytest.mark.nightly
async def test_it_waits_for_a_database_that_is_down(postgres_url: str) -> None:
    name = make_url(postgres_url).database
    socket = f"{make_url(postgres_url).query['host']}/.s.PGSQL.5432"
    async with relayed(socket) as proxy:
        through = open_database(f"postgresql+asyncpg://postgres@{proxy.address}/{name}")
        metrics = Metrics(through)
        direct = open_database(postgres_url)
        await started(direct)
        await claimed(SqlRunStore(direct))
        up = await metrics.causes()
        proxy.refuse()
        with pytest.raises(StoreUnavailableError):
            await metrics.read()
        down = causes_in(metrics.series())
        proxy.let_go()
        back = await metrics.causes()
        await direct.close()
        await through.close()

    assert [up, down, back] == [[], [Cause.DATABASE], []]


async def test_a_database_that_refuses_a_page_is_what_it_waits_for_until_a_page_is_written(
    database: Database, metrics: Metrics
) -> None:
    await started(database)
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    await runs.set_status_reason(lease, "retrying: the database's disk is full")
    await runs.release(lease, MOMENT + SECOND)
    refused = await metrics.causes()
    metrics.now += LEASE_TIME
    left_alone = await metrics.causes()

    assert (refused, left_alone) == ([Cause.DATABASE], [Cause.LEASE])


@pytest.mark.nightly
async def test_a_running_server_says_that_its_segment_service_is_down_until_it_is_back(
    sqlite_url: str,
) -> None:
    database = open_database(sqlite_url)
    people = [f"p{number:03}" for number in range(900)]
    users = [a_user(id_) for id_ in (SENDER_ID, *people)]
    await sql_chat_store(database).users.upsert(users, MOMENT)
    await database.close()
    listen = free_address()
    async with start_pair(
        sqlite_url, campaign_metrics_listen=listen, page_size=1, max_messages_per_second=10
    ) as services:
        await services.add_list("vips", people)
        campaign = campaign_pb2.Campaign(id="spring", sender_id=SENDER_ID, segment_ids=["vips"])
        campaign.message_template.text = "Hi"
        campaign.create_channels = True
        campaign.channel_template.type = "messaging"
        await services.create(campaign)
        await services.start()
        await until_cause(listen, Cause.LIMIT)
        await services.segment.stop()
        await until_cause(listen, Cause.SEGMENT_SERVICE)
        await services.restart_segment()
        await until_cause(listen, Cause.LIMIT)
        await services.stop()
        while by_label(await scraped(listen), "herald_campaign_waiting", "cause"):  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.1)


async def until_cause(listen: str, cause: Cause) -> None:
    """Asks again and again; the test's own time-out is its bound."""
    while True:
        series = await scraped(listen)
        shown = by_label(series, "herald_campaign_waiting", "cause", campaign_id="spring")
        if shown and causes_in(series) == [cause]:
            return
        await asyncio.sleep(0.1)


def running(**changes: object) -> RunningCampaign:
    given = RunningCampaign(
        campaign_id="spring",
        status=Status.IN_PROGRESS,
        status_reason="",
        targets_total=2,
        handled=dict.fromkeys(Outcome, 0),
        leased_until=MOMENT + LEASE_TIME,
        reserved_until=None,
        is_held=False,
    )
    return replace(given, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status_reason", "cause"),
    [
        ("waiting for the segment service", Cause.SEGMENT_SERVICE),
        ("retrying: the database is locked", Cause.DATABASE),
        ("retrying: internal error", Cause.ERROR),
        ("", None),
    ],
)
def test_a_reason_of_a_campaign_in_progress_has_its_cause(
    status_reason: str, cause: Cause | None
) -> None:
    assert cause_of(running(status_reason=status_reason), MOMENT, LEASE_TIME) is cause


@pytest.mark.parametrize(
    ("status_reason", "cause"),
    [
        ("waiting to start: the segment service can't be reached", Cause.SEGMENT_SERVICE),
        ("waiting to start: internal error", Cause.ERROR),
        ("", Cause.SCHEDULE),
    ],
)
def test_a_reason_of_a_scheduled_campaign_has_its_cause(status_reason: str, cause: Cause) -> None:
    scheduled = running(status=Status.SCHEDULED, status_reason=status_reason, leased_until=None)

    assert cause_of(scheduled, MOMENT, LEASE_TIME) is cause
