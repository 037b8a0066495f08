"""The parts of a campaign server one by one, real ones, on a clock that a test moves.

Beside them a real segment server, and people who have channels with the sender or have not.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

import grpc

import segment_service.server
from campaign_service.campaigns.errors import RunEndedError
from campaign_service.lifecycle.lifecycle import Lifecycle
from campaign_service.lifecycle.references import ReferenceChecker
from campaign_service.lifecycle.scheduler import Scheduler
from campaign_service.planning.page import PlannedPage
from campaign_service.segment_client import SegmentClient
from campaign_service.sending.claiming import ClaimCoordinator
from campaign_service.sending.sender import Sender, SenderOptions
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.ports import Lease
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.engine import Database, open_database
from chat_store.sql.stores import sql_chat_store
from chat_store.store import ChannelDraft
from herald.segment.v1 import segment_pb2, segment_service_pb2_grpc
from herald.segment.v1 import segment_service_pb2 as pb
from segment_service.settings import SegmentSettings
from tests.campaign.builders import MOMENT, SENDER_ID, a_channel, a_user
from tests.campaign.model import ACTIVE, DEACTIVATED, DELETED, MATCHING, ROOMED
from tests.campaign.server_pair import Served
from tests.harness.manual_clock import ManualClock

LEASE_TIME = timedelta(seconds=30)
SHARDS = 2
EXTRA_ID = "extra"
FILTER_SEGMENT_ID = "matching"

Hook = Callable[[Lease], Awaitable[Any]]


class RunStoreWithHooks(SqlRunStore):
    """Calls what it is given right before, or right after, its `at`-th page is committed."""

    def __init__(self, database: Database, hook: Hook, at: int, *, after: bool = False) -> None:
        super().__init__(database)
        self._hook = hook
        self._at = at
        self._after = after
        self._commits = 0
        # the campaign whose page it was
        self.reached: str | None = None
        # whether that page, or any later one, was refused
        self.refused = False

    async def commit_page(self, lease: Lease, page: PlannedPage, cursor: str) -> None:
        self._commits += 1
        mine = self._commits == self._at
        if mine:
            self.reached = lease.campaign_id
        if mine and not self._after:
            await self._hook(lease)
        try:
            await super().commit_page(lease, page, cursor)
        except RunEndedError:
            self.refused = True
            raise
        if mine and self._after:
            await self._hook(lease)


class InProcessReplica:
    """One process of the campaign service: it knows nothing but the database."""

    def __init__(
        self, database: Database, segments: SegmentClient, clock: ManualClock, page_size: int
    ) -> None:
        self.database = database
        self.campaigns = SqlCampaignStore(self.database)
        self.chat = sql_chat_store(self.database)
        moves = SqlTransitionStore(self.database, shards=SHARDS)
        references = ReferenceChecker(self.chat, segments)
        self.lifecycle = Lifecycle(
            self.campaigns, moves, references, segments, now=clock, wake=lambda: None
        )
        self.schedule = Scheduler(moves, self.lifecycle, now=clock)
        self._segments = segments
        self._clock = clock
        self._page_size = page_size

    async def send(
        self, runs: SqlRunStore | None = None, stop: asyncio.Event | None = None
    ) -> None:
        """Until there is nothing to claim, or `stop` is set."""
        stop = stop or asyncio.Event()
        sender = Sender(
            self.campaigns,
            runs or SqlRunStore(self.database),
            self.chat,
            self._segments,
            SenderOptions("replica", page_size=self._page_size, lease_time=LEASE_TIME),
            now=self._clock,
            coordinator=ClaimCoordinator(asyncio.Semaphore()),
        )
        for _ in range(50):
            if stop.is_set() or not await sender.run_once(stop):
                return
        raise AssertionError("the sender claims and claims and gets nowhere")


@dataclass
class Environment:
    """One database, and the segment server on it; each story in it has ids of its own.

    `database` is that of a process that comes and goes, `other` that of one that stays.
    """

    url: str
    database: Database
    other: Database
    stub: Any
    segments: SegmentClient
    server: Served
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    async def reopen(self) -> None:
        await self.database.close()
        self.database = open_database(self.url)

    @asynccontextmanager
    async def server_stopped(self) -> AsyncIterator[None]:
        """Without the segment server, whose workers would look for tables that are missing."""
        await self.server.stop()
        yield
        options = _options(self.url, self.server.address)
        self.server = await Served.start(segment_service.server.run_until, options)

    async def create_list(self, id_: str) -> None:
        segment = segment_pb2.Segment(id=id_, type=segment_pb2.SEGMENT_TYPE_USER)
        await self.stub.CreateSegment(pb.CreateSegmentRequest(segment=segment))

    async def add_targets(self, id_: str, targets: Collection[str]) -> None:
        await self.stub.AddTargets(pb.AddTargetsRequest(segment_id=id_, target_ids=targets))

    async def remove_targets(self, id_: str, targets: Collection[str]) -> None:
        await self.stub.RemoveTargets(pb.RemoveTargetsRequest(segment_id=id_, target_ids=targets))

    async def delete(self, id_: str) -> None:
        await self.stub.DeleteSegment(pb.DeleteSegmentRequest(id=id_))


@asynccontextmanager
async def an_environment(url: str) -> AsyncIterator[Environment]:
    await _populate(url)
    served = await Served.start(segment_service.server.run_until, _options(url, "127.0.0.1:0"))
    try:
        async with grpc.aio.insecure_channel(served.address) as channel:
            stub: Any = segment_service_pb2_grpc.SegmentServiceStub(channel)
            filtering = segment_pb2.Segment(
                id=FILTER_SEGMENT_ID, type=segment_pb2.SEGMENT_TYPE_USER
            )
            filtering.filter.update({"id": {"$in": sorted(MATCHING)}})
            await stub.CreateSegment(pb.CreateSegmentRequest(segment=filtering))
            environment = Environment(
                url, open_database(url), open_database(url), stub, SegmentClient(channel), served
            )
            try:
                yield environment
            finally:
                await environment.server.stop()
            await environment.database.close()
            await environment.other.close()
    finally:
        await served.stop()


def _options(url: str, address: str) -> SegmentSettings:
    return SegmentSettings(database_url=url, segment_listen=address, grace_seconds=1)


async def _populate(url: str) -> None:
    database = open_database(url)
    chat = sql_chat_store(database)
    ids = (SENDER_ID, EXTRA_ID, *ACTIVE, DEACTIVATED, DELETED)
    await chat.users.upsert([a_user(id_) for id_ in ids], MOMENT)
    await chat.users.deactivate([DEACTIVATED], MOMENT)
    await chat.users.delete([DELETED], MOMENT)
    rooms = [ChannelDraft(a_channel(f"{id_}-room"), [SENDER_ID, id_]) for id_ in sorted(ROOMED)]
    await chat.channels.upsert(rooms, MOMENT)
    await database.close()
