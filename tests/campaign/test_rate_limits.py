"""Limits of messages a second: smooth, exact, and one for all who send."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select

from campaign_service.sending.rate_limiter import RateLimiter, applicable_limits
from campaign_service.storage.ports import GLOBAL_LIMIT, Reservation
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.tables import campaign_shards, rate_limits
from chat_store.database.columns import to_microseconds
from chat_store.database.engine import Database, open_database
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_pb2
from tests.campaign.builders import MOMENT, SENDER_ID, a_campaign_message, a_user
from tests.campaign.server_pair import ServerPair, another_campaign_server, start_pair
from tests.harness.reconciliation import assert_everyone_has_one_outcome

pytestmark = pytest.mark.nightly_on("postgresql")

NOTHING = timedelta(0)
MILLISECOND = timedelta(milliseconds=1)
WINDOW = timedelta(milliseconds=100)
HOUR = timedelta(hours=1)
# five thousand targets at five hundred a second
PAGES = [35] * 142 + [30]


@dataclass(frozen=True)
class Page:
    """So many messages, sent so long after the beginning."""

    at: timedelta
    messages: int


async def walked(
    runs: SqlRunStore,
    limits: Mapping[str, int],
    pages: Iterable[int],
    busy: Callable[[int], timedelta] = lambda _: NOTHING,
) -> list[Page]:
    """What a sender would do that needs `busy` for a page, with a clock that never sleeps."""
    due_at = clock = MOMENT
    sent = []
    for number, messages in enumerate(pages):
        due_at, not_before = await runs.reserve(limits, messages, due_at, clock)
        clock = max(clock, not_before)
        sent.append(Page(clock - MOMENT, messages))
        clock += busy(number)
    return sent


def most_in_a_window(sent: Iterable[Page]) -> int:
    pages = list(sent)
    return max(
        sum(page.messages for page in pages if begin.at <= page.at < begin.at + WINDOW)
        for begin in pages
    )


# --- the arithmetic


async def test_a_limit_spreads_the_messages_evenly(database: Database) -> None:
    sent = await walked(SqlRunStore(database), {"spring": 500}, PAGES)

    assert sent[-1].at == (5_000 - sent[-1].messages) * 2 * MILLISECOND
    assert most_in_a_window(sent) <= 3 * 50


@pytest.mark.parametrize(
    ("limit", "page", "apart"),
    [
        (1, 1, timedelta(seconds=1)),
        (3, 1, timedelta(microseconds=333_334)),
        (39, 1, timedelta(microseconds=25_642)),
        (100_000, 1_000, timedelta(milliseconds=10)),
        (2**31 - 1, 1_000, timedelta(microseconds=1)),
    ],
)
async def test_turns_are_never_closer_than_the_limit_allows(
    database: Database, limit: int, page: int, apart: timedelta
) -> None:
    runs = SqlRunStore(database)

    reservations = [await runs.reserve({"spring": limit}, page, MOMENT, MOMENT) for _ in range(4)]

    assert reservations == [
        Reservation(MOMENT + apart * number, MOMENT + apart * number) for number in range(4)
    ]


async def test_what_a_sender_was_late_now_and_then_is_made_up_without_a_burst(
    database: Database,
) -> None:
    def busy(number: int) -> timedelta:
        return 600 * MILLISECOND if number % 50 == 10 else 20 * MILLISECOND

    sent = await walked(SqlRunStore(database), {"spring": 500}, PAGES, busy)

    assert sent[-1].at <= timedelta(seconds=10.2)
    assert most_in_a_window(sent) <= 1.5 * 50


async def test_of_a_long_stall_no_more_than_a_second_is_made_up(database: Database) -> None:
    def busy(number: int) -> timedelta:
        return timedelta(seconds=5) if number == 10 else NOTHING

    sent = await walked(SqlRunStore(database), {"spring": 500}, PAGES, busy)

    assert timedelta(seconds=13.8) <= sent[-1].at <= timedelta(seconds=14.1)
    assert most_in_a_window(sent) <= 1.5 * 50


async def test_who_had_nothing_to_send_has_missed_nothing(database: Database) -> None:
    """Neither a campaign that has been resumed, nor all of them after a quiet time."""
    runs = SqlRunStore(database)
    await runs.reserve({"spring": 500}, 35, MOMENT, MOMENT)
    later = MOMENT + HOUR

    reservations = [await runs.reserve({"spring": 500}, 35, later, later) for _ in range(3)]

    assert [each.not_before - later for each in reservations] == [
        0 * WINDOW,
        0.7 * WINDOW,
        1.4 * WINDOW,
    ]


async def test_a_slow_campaign_saves_up_no_turns_for_a_quick_one(database: Database) -> None:
    runs = SqlRunStore(database)
    slow = await walked(runs, {"slow": 10, GLOBAL_LIMIT: 500}, [1] * 21)
    now = MOMENT + slow[-1].at

    reservations = [await runs.reserve({GLOBAL_LIMIT: 500}, 35, now, now) for _ in range(3)]

    assert reservations[2].not_before - now >= 1.4 * WINDOW


async def test_whoever_comes_at_the_same_time_gets_a_turn_of_their_own(database: Database) -> None:
    runs = SqlRunStore(database)
    limits = [{GLOBAL_LIMIT: 100, name: 90} for name in ("a", "b", "a", "c", "b")]

    reservations = await asyncio.gather(
        *(runs.reserve(each, 5, MOMENT, MOMENT) for each in limits * 3)
    )

    in_order = sorted({each.not_before - MOMENT for each in reservations})
    assert len(in_order) == 15
    # two of one campaign that come one after the other wait a little longer, for its own limit
    for number, wait in enumerate(in_order):
        assert number * 50 * MILLISECOND <= wait <= number * timedelta(seconds=5 / 89)


@pytest.mark.parametrize("limits", [{"spring": 10, GLOBAL_LIMIT: 90}, {GLOBAL_LIMIT: 10}])
async def test_the_stricter_of_two_limits_holds(database: Database, limits: dict[str, int]) -> None:
    sent = await walked(SqlRunStore(database), {"spring": 90, **limits}, [1] * 11)

    assert timedelta(seconds=0.9) <= sent[-1].at <= timedelta(seconds=1)


@pytest.mark.parametrize(
    ("own", "global_limit", "limits"),
    [
        (0, 0, {}),
        (5, 0, {"spring": 5}),
        (0, 7, {GLOBAL_LIMIT: 7}),
        (5, 7, {"spring": 5, GLOBAL_LIMIT: 7}),
        (7, 7, {GLOBAL_LIMIT: 7}),
        (9, 7, {GLOBAL_LIMIT: 7}),
    ],
)
def test_the_limits_of_a_campaign_are_its_own_and_that_of_all(
    own: int, global_limit: int, limits: dict[str, int]
) -> None:
    assert applicable_limits("spring", own, global_limit) == limits


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        ({}, 1_000),
        ({"spring": 1}, 1),
        ({"spring": 27}, 1),
        ({"spring": 500}, 35),
        ({"spring": 100_000}, 1_000),
        ({"spring": 500, GLOBAL_LIMIT: 900}, 35),
    ],
)
async def test_under_a_limit_the_pages_are_small(
    sqlite_url: str, limits: dict[str, int], size: int
) -> None:
    database = open_database(sqlite_url)

    assert RateLimiter(limits, SqlRunStore(database), lambda: MOMENT).page_size(1_000) == size

    await database.close()


@pytest.mark.parametrize(
    ("limits", "is_throttled"),
    [
        ({}, False),
        ({"spring": 1}, True),
        ({"spring": 9_999}, True),
        ({"spring": 10_000}, False),
        ({"spring": 20_000, GLOBAL_LIMIT: 900}, True),
    ],
)
async def test_a_limit_makes_a_run_wait_that_goes_faster_by_itself(
    sqlite_url: str, limits: dict[str, int], *, is_throttled: bool
) -> None:
    database = open_database(sqlite_url)

    assert RateLimiter(limits, SqlRunStore(database), lambda: MOMENT).is_throttled is is_throttled

    await database.close()


@pytest.mark.parametrize(("limits", "messages"), [({}, 1_000), ({"spring": 1}, 0)])
async def test_without_a_limit_or_a_message_nothing_is_reserved(
    database: Database, limits: dict[str, int], messages: int
) -> None:
    rate_limiter = RateLimiter(limits, SqlRunStore(database), lambda: MOMENT)

    assert await rate_limiter.wait_for_reservation(messages, asyncio.Event()) == NOTHING

    async with database.snapshot() as connection:
        assert await connection.scalar(select(func.count()).select_from(rate_limits)) == 0


# --- whoever waits


async def with_people(database_url: str, how_many: int) -> list[str]:
    ids = [f"p{number:04}" for number in range(how_many)]
    database = open_database(database_url)
    await sql_chat_store(database).users.upsert(
        [a_user(id_) for id_ in (SENDER_ID, *ids)], datetime.now(UTC)
    )
    await database.close()
    return ids


def limited(limit: int, user_ids: list[str] | None, **changes: Any) -> campaign_pb2.Campaign:
    return a_campaign_message({"user_ids": user_ids, "max_messages_per_second": limit, **changes})


async def turns_given_away(database: Database, until: datetime) -> None:
    async with database.transaction() as connection:
        moment = to_microseconds(until)
        values = {"campaign_id": "spring", "scheduled_at": moment, "not_before": moment}
        await connection.execute(insert(rate_limits).values(values))


async def next_turn(database: Database) -> int:
    async with database.snapshot() as connection:
        moment: int = (await connection.scalars(select(rate_limits.c.scheduled_at))).one()
    return moment


async def waits_for_an_hour(services: ServerPair, database: Database) -> None:
    """A campaign of one message a second whose next reservation is far away."""
    far = datetime.now(UTC) + HOUR
    await turns_given_away(database, far)
    ids = await with_people(services.database_url, 2)
    await services.create(limited(1, ids))
    await services.start()
    while await next_turn(database) == to_microseconds(far):
        continue


async def test_a_campaign_that_waits_for_its_turn_is_stopped_at_once(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    async with start_pair(sqlite_url, sender_slots=1, lease_seconds=1) as services:
        await waits_for_an_hour(services, database)
        stopped = await services.stop()
        async with database.transaction() as connection:
            await connection.execute(delete(rate_limits))
        await services.start()
        done = await services.until_completed()
    await database.close()

    assert stopped.status == campaign_pb2.CAMPAIGN_STATUS_STOPPED
    assert stopped.stats.messages_sent == 0
    assert done.stats.messages_sent == 2


@pytest.mark.nightly
async def test_a_campaign_that_waits_for_its_turn_keeps_no_other_one_waiting(
    sqlite_url: str,
) -> None:
    database = open_database(sqlite_url)
    async with start_pair(sqlite_url, sender_slots=1) as services:
        await waits_for_an_hour(services, database)
        await services.create(limited(0, await with_people(sqlite_url, 2), id="quick"))
        await services.start("quick")
        quick = await services.until_completed("quick")
        slow = await services.get()
    await database.close()

    assert quick.stats.messages_sent == 2
    assert slow.status == campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
    assert slow.stats.messages_sent == 0


async def test_a_server_that_waits_for_a_turn_stops_at_once(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    async with start_pair(sqlite_url) as services:
        await waits_for_an_hour(services, database)
        async with asyncio.timeout(30):
            await services.campaign.stop()
        async with database.snapshot() as connection:
            owners = list(await connection.scalars(select(campaign_shards.c.lease_owner)))
        await services.restart_campaign()
    await database.close()

    assert set(owners) == {None}


@pytest.mark.nightly
async def test_a_wait_that_is_longer_than_the_lease_keeps_it(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    ids = await with_people(sqlite_url, 3)
    async with start_pair(sqlite_url, lease_seconds=1) as services:
        await services.create(limited(1, ids))
        await services.start()
        done = await services.until_completed()
    async with database.snapshot() as connection:
        fences = list(await connection.scalars(select(campaign_shards.c.fence)))
    await database.close()

    assert set(fences) == {1}
    assert run_time(done) >= timedelta(seconds=1.9)


# --- real servers and a real clock


def run_time(campaign: campaign_pb2.Campaign) -> timedelta:
    stats = campaign.stats
    return stats.completed_at.ToDatetime() - stats.started_at.ToDatetime()


@dataclass(frozen=True)
class Sample:
    """The messages that every shard had committed at a moment between `begin` and `end`, in seconds."""

    begin: float
    end: float
    sent: tuple[int, ...]


async def sampled(database_url: str, campaign: Awaitable[Any]) -> list[Sample]:
    """Samples the committed messages, as often as it can, until the campaign has ended."""
    database = open_database(database_url)
    samples = []
    through = asyncio.ensure_future(campaign)
    counters = select(campaign_shards.c.messages_sent).order_by(
        campaign_shards.c.campaign_id, campaign_shards.c.shard
    )
    while not through.done():
        begin = monotonic()
        async with database.snapshot() as connection:
            sent = tuple(await connection.scalars(counters))
        samples.append(Sample(begin, monotonic(), sent))
        await asyncio.wait([through], timeout=0.01)
    await through
    await database.close()
    return samples


def most_seen_in_a_window(samples: list[Sample]) -> int:
    """Never too many: messages between two samples came between the begin of one and the end of the other."""
    window = WINDOW.total_seconds()
    most = first = 0
    for last, sample in enumerate(samples):
        while sample.end - samples[first].begin > window and first < last:
            first += 1
        most = max(most, sum(sample.sent) - sum(samples[first].sent))
    return most


async def completed(services: ServerPair, *ids: str) -> None:
    """Looks seldom, so as not to be what the campaign is late for."""
    completed = campaign_pb2.CAMPAIGN_STATUS_COMPLETED
    never = asyncio.Event()
    while not all([(await services.get(id_)).status == completed for id_ in ids]):
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await never.wait()


@pytest.mark.nightly
async def test_two_thousand_at_five_hundred_a_second_take_four_seconds(sqlite_url: str) -> None:
    ids = await with_people(sqlite_url, 2_000)
    async with start_pair(sqlite_url) as services:
        await services.add_list("all", ids)
        await services.create(limited(500, None, segment_ids=["all"]))
        await services.start()
        samples = await sampled(sqlite_url, completed(services, "spring"))
        done = await services.get()

    assert_everyone_has_one_outcome(sqlite_url, "spring", 2_000)
    # a busy machine may take longer, but not shorter
    assert timedelta(seconds=3.6) <= run_time(done) <= timedelta(seconds=12)
    assert 0 < most_seen_in_a_window(samples) <= 3 * 50


async def test_two_replicas_keep_one_limit(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a shard for each at a time
    monkeypatch.setattr("campaign_service.sending.assembly._MAX_THROTTLED_RUNS", 0)
    ids = await with_people(postgres_url, 1_000)
    async with start_pair(postgres_url, sender_slots=1) as services:
        other = await another_campaign_server(services, sender_slots=1)
        await services.add_list("all", ids)
        await services.create(limited(500, None, segment_ids=["all"]))
        await services.start()
        samples = await sampled(postgres_url, completed(services, "spring"))
        done = await services.get()
        await other.stop()

    assert_everyone_has_one_outcome(postgres_url, "spring", 1_000)
    ends = samples[-1].sent
    busy_shards = (
        sum(0 < n < m for n, m in zip(sample.sent, ends, strict=True)) for sample in samples
    )
    assert max(busy_shards) == 2
    assert timedelta(seconds=1.8) <= run_time(done)
    assert most_seen_in_a_window(samples) <= 3 * 50


@pytest.mark.nightly
async def test_two_campaigns_keep_the_limit_of_all(sqlite_url: str) -> None:
    ids = await with_people(sqlite_url, 900)
    async with start_pair(sqlite_url, max_messages_per_second=500) as services:
        await services.create(limited(100, ids[:100], id="slow"))
        await services.create(limited(0, ids, id="quick"))
        await services.start("slow")
        await services.start("quick")
        samples = await sampled(sqlite_url, completed(services, "slow", "quick"))
        slow, quick = [await services.get(id_) for id_ in ("slow", "quick")]

    assert timedelta(seconds=0.9) <= run_time(slow)
    assert timedelta(seconds=1.7) <= run_time(quick)
    assert most_seen_in_a_window(samples) <= 3 * 50
