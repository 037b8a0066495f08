"""The poller behind WatchCampaign, over a clock and polls of the test's."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest
from sqlalchemy import event, update
from sqlalchemy.engine import Engine

from campaign_service.campaigns.errors import CampaignNotFoundError, ShuttingDownError
from campaign_service.campaigns.model import Times
from campaign_service.campaigns.progress import ProgressSnapshot, WatchPosition
from campaign_service.reporting.campaign_view import CampaignViews
from campaign_service.reporting.read_counter import ReadCounter
from campaign_service.reporting.watch_hub import WatchHub
from campaign_service.reporting.watched_campaign import Update
from campaign_service.segment_client import SegmentClient
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.progress import SqlProgressStore
from campaign_service.storage.pushes import SqlPushStore
from campaign_service.storage.tables import campaign_shards
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.engine import Database
from chat_store.errors import StoreUnavailableError
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_pb2
from herald_rpc.wire.queries import InvalidTokenError
from tests.campaign.builders import MOMENT, SENDER_ID, a_spec, a_user

pytestmark = pytest.mark.nightly_on("postgresql")

NOBODY_LISTENS = "127.0.0.1:1"
TOMORROW = MOMENT + timedelta(days=1)


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class FragileStore(SqlProgressStore):
    down = False

    async def snapshots(self, campaign_ids: Collection[str]) -> Sequence[ProgressSnapshot]:
        if self.down:
            raise StoreUnavailableError("down")
        return await super().snapshots(campaign_ids)


class Watcher:
    """Takes what it is sent only when it is told to."""

    def __init__(self, hub: WatchHub, seen: WatchPosition | None) -> None:
        self._updates = hub.updates("spring", seen)

    def next(self) -> "asyncio.Task[Update]":
        return asyncio.create_task(self._next())

    async def rest(self) -> list[Update]:
        return [update async for update in self._updates]

    async def leave(self) -> None:
        await self._updates.aclose()

    async def _next(self) -> Update:
        return await anext(self._updates)


@dataclass
class Watching:
    """A campaign to ann and bob, and a hub that polls only when `poll` is called."""

    database: Database
    store: FragileStore
    hub: WatchHub
    clock: Clock
    moves: SqlTransitionStore

    def watcher(self, seen: WatchPosition | None = None) -> Watcher:
        return Watcher(self.hub, seen)

    async def poll(self, seconds: float = 0.0) -> None:
        # who was told to take something is waiting for it now
        await asyncio.sleep(0)
        self.clock.seconds += seconds
        await self.hub.run_once()

    async def started(self) -> Watcher:
        """In progress, with a watcher who knows that."""
        await self.moves.start("spring", 60, MOMENT)
        watcher = self.watcher()
        await self.snapshot_of(watcher)
        return watcher

    async def snapshot_of(self, watcher: Watcher, seconds: float = 0.0) -> campaign_pb2.Campaign:
        """What the watcher hears, after a poll if it must."""
        next_ = watcher.next()
        await self.poll(seconds)
        return (await next_).message.campaign

    async def send(self, messages: int) -> None:
        """As a page of the sender does, to the counters."""
        sent = campaign_shards.c.messages_sent + messages
        async with self.database.transaction() as connection:
            await connection.execute(update(campaign_shards).values(messages_sent=sent))


@pytest.fixture
async def watching(database: Database) -> AsyncIterator[Watching]:
    chat = sql_chat_store(database)
    await chat.users.upsert([a_user(SENDER_ID)], MOMENT)
    campaigns = SqlCampaignStore(database)
    await campaigns.create("spring", a_spec(), MOMENT, to_channels=False)
    async with grpc.aio.insecure_channel(NOBODY_LISTENS) as channel:
        segments = SegmentClient(channel)
        read_counts = ReadCounter(chat.messages)
        pushes = SqlPushStore(database)
        presentation = CampaignViews(campaigns, chat, segments, read_counts, pushes, lambda: MOMENT)
        store, clock = FragileStore(database), Clock()
        hub = WatchHub(store, presentation, clock)
        yield Watching(database, store, hub, clock, SqlTransitionStore(database, shards=2))


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is asked of any database meanwhile."""
    asked: list[str] = []

    def ask(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("SELECT", "WITH")):
            asked.append(statement)

    event.listen(Engine, "before_cursor_execute", ask)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", ask)


def revisions(updates: Sequence[Update]) -> list[int]:
    return [update.position.revision for update in updates]


# --- what it costs


async def test_any_number_of_watchers_cost_one_poll_and_share_one_message(
    watching: Watching,
) -> None:
    watchers = [watching.watcher() for _ in range(200)]
    await watching.moves.start("spring", 60, MOMENT)
    for sent in (0, 5):
        await watching.send(sent)
        hearing = [watcher.next() for watcher in watchers]
        with statements() as asked:
            await watching.poll(1.0)
            messages = [(await heard).message for heard in hearing]

        assert len([one for one in asked if "campaign_shards" in one]) == 1
        # the change, the sender, the readers
        assert len(asked) <= 4, asked
        assert len({id(message) for message in messages}) == 1
        assert messages[0].campaign.stats.messages_sent == 2 * sent


async def test_all_watched_campaigns_are_in_one_poll(watching: Watching) -> None:
    ids = [f"c{number}" for number in range(20)]
    campaigns = SqlCampaignStore(watching.database)
    for id_ in ids:
        await campaigns.create(id_, a_spec(), MOMENT, to_channels=False)
    updates = [watching.hub.updates(id_, None) for id_ in ids]
    hearing = [asyncio.create_task(anext(one)) for one in updates]
    with statements() as asked:
        await watching.poll()
        heard = [(await one).message.campaign.id for one in hearing]

    assert heard == ids
    assert len([one for one in asked if "campaign_shards" in one]) == 1


async def test_nothing_is_asked_while_nobody_watches(watching: Watching) -> None:
    stop = asyncio.Event()
    with statements() as asked:
        running = asyncio.create_task(watching.hub.run(stop))
        watcher = watching.watcher()
        await watcher.next()
        assert asked
        await watcher.leave()
        # until nothing is asked for more than two ticks: one poll may be under way
        while asked:
            asked.clear()
            await asyncio.wait({running}, timeout=0.5)
    stop.set()
    await running


async def test_watchers_that_go_leave_nothing_behind(watching: Watching) -> None:
    gone = watching.watcher()
    await watching.snapshot_of(gone)
    in_the_middle, too_early = gone.next(), watching.watcher().next()
    await asyncio.sleep(0)
    for task in (in_the_middle, too_early):
        task.cancel()
    await asyncio.wait({in_the_middle, too_early})

    assert watching.hub._watched == {}
    assert (await watching.snapshot_of(watching.watcher())).id == "spring"


# --- what is told


async def test_progress_is_told_once_a_second_at_most(watching: Watching) -> None:
    watcher = await watching.started()
    snapshot_of = asyncio.create_task(watcher.rest())
    for _ in range(11):
        await watching.send(1)
        await watching.poll(0.2)
    await watching.moves.stop("spring", "enough", MOMENT)
    await watching.poll(0.2)
    *progress, last = await snapshot_of

    assert len(progress) <= 2
    sent = [update.message.campaign.stats.messages_sent for update in (*progress, last)]
    assert sent == sorted(set(sent))
    assert (last.position.revision, last.is_final) == (3, True)


async def test_progress_is_told_within_a_second(watching: Watching) -> None:
    watcher = await watching.started()
    await watching.send(3)
    heard = await watching.snapshot_of(watcher, 1.0)
    assert heard.stats.messages_sent == 6
    assert heard.stats.progress == 0.1


async def test_a_reason_to_wait_is_progress(watching: Watching) -> None:
    watcher = await watching.started()
    await watching.moves.set_status_reason("spring", "waiting for the segment service", 2)
    heard = await watching.snapshot_of(watcher, 1.0)
    assert heard.status_reason == "waiting for the segment service"


async def test_a_change_is_told_at_once_and_as_it_was(watching: Watching) -> None:
    watcher = await watching.started()
    await watching.send(1)
    await watching.moves.stop("spring", "enough", MOMENT)
    await watching.send(1)
    heard = await watching.snapshot_of(watcher)
    assert heard.status == campaign_pb2.CAMPAIGN_STATUS_STOPPED
    assert heard.stats.messages_sent == 2


async def test_a_slow_watcher_misses_progress_but_no_change(watching: Watching) -> None:
    watcher = watching.watcher()
    await watching.snapshot_of(watcher)
    for days in range(12):
        times = Times(scheduled_for=TOMORROW + timedelta(days=days))
        await watching.moves.schedule("spring", times, MOMENT)
        await watching.poll()
    await watching.moves.start("spring", 60, MOMENT)
    for _ in range(9):
        await watching.send(1)
        await watching.poll(1.0)
    changes = [await watcher.next() for _ in range(13)]
    watching.clock.seconds += 1.0
    latest = await watcher.next()

    assert revisions(changes) == list(range(2, 15))
    assert [update.message.campaign.scheduled_for.ToDatetime() for update in changes[:12]] == [
        (TOMORROW + timedelta(days=days)).replace(tzinfo=None) for days in range(12)
    ]
    assert latest.message.campaign.stats.messages_sent == 18


async def test_who_resumes_hears_first_what_it_missed(watching: Watching) -> None:
    draft = watching.watcher().next()
    await watching.poll()
    await watching.moves.schedule("spring", Times(scheduled_for=TOMORROW), MOMENT)
    await watching.moves.start("spring", 60, MOMENT)
    await watching.moves.stop("spring", "enough", MOMENT)
    await watching.moves.start("spring", 60, MOMENT)
    resumed = asyncio.create_task(watching.watcher((await draft).position).rest())
    await watching.poll()
    missed = await resumed

    assert revisions(missed) == [2, 3, 4]
    assert [update.is_final for update in missed] == [False, False, True]
    after = watching.watcher(missed[-1].position).next()
    await watching.poll()
    assert (await after).position.revision == 5


async def test_who_resumes_and_missed_only_progress_hears_the_latest(watching: Watching) -> None:
    await watching.moves.start("spring", 60, MOMENT)
    first = watching.watcher().next()
    await watching.poll()
    seen = (await first).position
    await watching.send(4)

    assert (await watching.snapshot_of(watching.watcher(seen))).stats.messages_sent == 8


async def test_who_resumes_and_missed_nothing_waits_for_what_is_next(watching: Watching) -> None:
    watcher = await watching.started()
    snapshot = watching.hub._watched["spring"].snapshot
    assert snapshot is not None
    resumed = watching.watcher(snapshot.position).next()
    await watching.poll(5.0)
    await watching.moves.stop("spring", "enough", MOMENT)
    await watching.poll()

    assert (await resumed).position.revision == 3
    await watcher.leave()


async def test_who_has_seen_the_last_change_hears_nothing(watching: Watching) -> None:
    await watching.moves.start("spring", 60, MOMENT)
    await watching.moves.stop("spring", "enough", MOMENT)
    first = asyncio.create_task(watching.watcher().rest())
    await watching.poll()
    (last,) = await first
    again = asyncio.create_task(watching.watcher(last.position).rest())
    await watching.poll()

    assert last.is_final
    assert await again == []


async def test_a_deleted_campaign_is_told_and_over(watching: Watching) -> None:
    watcher = watching.watcher()
    await watching.snapshot_of(watcher)
    rest = asyncio.create_task(watcher.rest())
    await watching.moves.delete("spring", MOMENT)
    await watching.poll()

    (last,) = await rest
    assert last.message.campaign.HasField("deleted_at")


async def test_a_newcomer_hears_how_it_is_now_and_never_less_later(watching: Watching) -> None:
    old = await watching.started()
    await watching.send(1)
    new = watching.watcher()
    assert (await watching.snapshot_of(new, 0.5)).stats.messages_sent == 2
    later = new.next()
    await watching.send(1)
    await watching.poll(1.0)
    await watching.poll(0.5)

    assert (await later).message.campaign.stats.messages_sent == 4
    await old.leave()


async def test_who_came_at_another_time_hears_the_same_progress(watching: Watching) -> None:
    early = await watching.started()
    await watching.send(1)
    late = watching.watcher()
    await watching.snapshot_of(late, 0.5)
    hearing = [early.next(), late.next()]
    for seconds in (0.5, 0.5):
        await watching.send(1)
        await watching.poll(seconds)
    one, other = await asyncio.gather(*hearing)

    assert one.message is other.message
    assert one.message.campaign.stats.messages_sent == 4


# --- what can go wrong


async def test_an_unknown_campaign_is_not_there(watching: Watching) -> None:
    updates = watching.hub.updates("autumn", None)
    heard = asyncio.create_task(anext(updates))
    await watching.poll()
    with pytest.raises(CampaignNotFoundError):
        await heard


async def test_a_position_of_the_future_is_refused(watching: Watching) -> None:
    heard = watching.watcher(WatchPosition(7, "0:0")).next()
    await watching.poll()
    with pytest.raises(InvalidTokenError):
        await heard


async def test_who_watches_goes_on_after_an_outage_and_who_comes_is_told(
    watching: Watching,
) -> None:
    watcher = await watching.started()
    waiting, newcomer = watcher.next(), watching.watcher().next()
    watching.store.down = True
    with pytest.raises(StoreUnavailableError):
        await watching.poll()
    with pytest.raises(StoreUnavailableError):
        await newcomer
    watching.store.down = False
    await watching.moves.stop("spring", "enough", MOMENT)
    await watching.poll()

    assert (await waiting).is_final


async def test_an_outage_does_not_end_the_poller(watching: Watching) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(watching.hub.run(stop))
    watching.store.down = True
    with pytest.raises(StoreUnavailableError):
        await watching.watcher().next()
    watching.store.down = False
    assert (await watching.watcher().next()).position.revision == 1
    stop.set()
    await running


async def test_a_stop_ends_all_watchers_and_lets_none_begin(watching: Watching) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(watching.hub.run(stop))
    watchers = [watching.watcher() for _ in range(3)]
    for watcher in watchers:
        await watcher.next()
    waiting = [watcher.next() for watcher in watchers]
    stop.set()
    await running
    for heard in (*waiting, watching.watcher().next()):
        with pytest.raises(ShuttingDownError):
            await heard
