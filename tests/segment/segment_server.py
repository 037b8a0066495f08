"""A segment service in this process on a free port, over a database and a clock of the test's."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from chat_store.database.engine import Database, open_database
from chat_store.models import Channel, Member, User
from chat_store.sql.stores import sql_chat_store
from chat_store.store import ChannelDraft, ChatStore
from herald.segment.v1 import segment_pb2, segment_service_pb2_grpc
from herald.segment.v1 import segment_service_pb2 as pb
from herald_rpc.server.serving import RunningServer, serving
from herald_rpc.wire.structs import to_struct
from segment_service.failures import failure_for
from segment_service.server import SEGMENT_SERVICE
from segment_service.servicer import SegmentServicer
from segment_service.sizing import SizingWorker
from segment_service.sql.segments import SqlSegmentStore
from segment_service.sql.sizing import SqlSizingStore
from segment_service.sql.targets import SqlTargetStore
from segment_service.streams import TargetStreams
from tests.harness.emptying import empty
from tests.harness.manual_clock import ManualClock

if TYPE_CHECKING:
    from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceAsyncStub

# a stream is sent ahead of its reader by 64 KiB at most, however fast the connection proves
NO_WIDE_WINDOW = (("grpc.http2.bdp_probe", 0),)

USER = segment_pb2.SEGMENT_TYPE_USER
CHANNEL = segment_pb2.SEGMENT_TYPE_CHANNEL
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class SegmentServer:
    """The running service, its stub, and builders of what a test needs to be there."""

    url: str
    database: Database
    server: RunningServer
    stub: "SegmentServiceAsyncStub"
    chat: ChatStore
    target_store: SqlTargetStore
    clock: ManualClock
    stopping: asyncio.Event
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    async def empty(self) -> None:
        """Makes it as good as new for the next test: no rows, noon, numbers from 1.

        Nothing compiled either: a statement is kept until its segment's `updated_at` changes, and
        the next test makes other segments with the same id at the same noon.
        """
        self.clock.now = NOON
        self.numbers = itertools.count(1)
        self.target_store._statements._statements.clear()
        await empty(self.database)

    def sizing(self, interval: timedelta = timedelta(minutes=1)) -> SizingWorker:
        targets = SqlTargetStore(self.database)
        return SizingWorker(SqlSizingStore(self.database), targets, self.clock, interval)

    async def create(self, segment: segment_pb2.Segment) -> segment_pb2.Segment:
        return (await self.stub.CreateSegment(pb.CreateSegmentRequest(segment=segment))).segment

    async def get(self, id_: str) -> segment_pb2.Segment:
        return (await self.stub.GetSegment(pb.GetSegmentRequest(id=id_))).segment

    async def delete(self, id_: str) -> None:
        await self.stub.DeleteSegment(pb.DeleteSegmentRequest(id=id_))

    async def listing(self, *target_ids: str, type_: Any = USER, id_: str = "") -> str:
        """Creates a segment that lists these; returns its id."""
        id_ = id_ or f"list-{next(self.numbers)}"
        await self.create(segment_pb2.Segment(id=id_, type=type_))
        if target_ids:
            await self.add(id_, *target_ids)
        return id_

    async def matching(self, filter_: dict[str, Any], type_: Any = USER, id_: str = "") -> str:
        """Creates a segment with this filter; returns its id."""
        id_ = id_ or f"filter-{next(self.numbers)}"
        await self.create(segment_pb2.Segment(id=id_, type=type_, filter=to_struct(filter_)))
        return id_

    async def all_users(self) -> str:
        id_ = f"all-users-{next(self.numbers)}"
        await self.create(segment_pb2.Segment(id=id_, type=USER, all_users=True))
        return id_

    async def senders_channels(self) -> str:
        id_ = f"senders-channels-{next(self.numbers)}"
        await self.create(segment_pb2.Segment(id=id_, type=CHANNEL, all_sender_channels=True))
        return id_

    async def add(self, id_: str, *target_ids: str) -> pb.AddTargetsResponse:
        return await self.stub.AddTargets(
            pb.AddTargetsRequest(segment_id=id_, target_ids=target_ids)
        )

    async def remove(self, id_: str, *target_ids: str) -> pb.RemoveTargetsResponse:
        return await self.stub.RemoveTargets(
            pb.RemoveTargetsRequest(segment_id=id_, target_ids=target_ids)
        )

    async def exists(self, id_: str, target_id: str, sender_id: str = "") -> bool:
        request = pb.TargetExistsRequest(segment_id=id_, target_id=target_id, sender_id=sender_id)
        return (await self.stub.TargetExists(request)).exists

    async def count(self, *segment_ids: str, sender_id: str = "") -> int:
        request = pb.CountTargetsRequest(segment_ids=segment_ids, sender_id=sender_id)
        return (await self.stub.CountTargets(request)).count

    async def among(
        self, target_ids: Iterable[str], *segment_ids: str, sender_id: str = ""
    ) -> list[str]:
        request = pb.FilterTargetsRequest(
            segment_ids=segment_ids, sender_id=sender_id, target_ids=target_ids
        )
        return list((await self.stub.FilterTargets(request)).target_ids)

    async def query_targets(self, id_: str, **arguments: Any) -> pb.QueryTargetsResponse:
        return await self.stub.QueryTargets(pb.QueryTargetsRequest(segment_id=id_, **arguments))

    async def pages(self, *segment_ids: str, **arguments: Any) -> list[pb.StreamTargetsResponse]:
        request = pb.StreamTargetsRequest(segment_ids=segment_ids, **arguments)
        return [page async for page in self.stub.StreamTargets(request)]

    async def targets(self, *segment_ids: str, **arguments: Any) -> list[str]:
        pages = await self.pages(*segment_ids, **arguments)
        return [target_id for page in pages for target_id in page.target_ids]

    async def users(self, *users: User) -> None:
        await self.chat.users.upsert(users, self.clock())

    async def people(self, ids: Iterable[str], **custom: Any) -> None:
        await self.users(*(User(id=id_, custom=custom) for id_ in ids))

    async def channel(self, cid: str, members: Sequence[str] = (), **values: Any) -> None:
        """Creates the channel, and those of its members that are no users yet."""
        type_, _, id_ = cid.partition(":")
        known = await self.chat.users.by_id(members)
        await self.people(set(members) - set(known))
        draft = ChannelDraft(Channel(type=type_, id=id_, **values))
        await self.chat.channels.upsert([draft], self.clock())
        joining = [Member(cid=cid, user_id=member) for member in members]
        await self.chat.channels.add_members(cid, joining, self.clock())


@asynccontextmanager
async def start_segment_server(url: str) -> AsyncIterator[SegmentServer]:
    clock, stopping = ManualClock(NOON), asyncio.Event()
    database = open_database(url)
    targets = SqlTargetStore(database)
    servicer = SegmentServicer(
        SqlSegmentStore(database),
        targets,
        TargetStreams(targets, stopping),
        clock,
        lambda: f"made-{uuid.uuid4()}",
    )
    add_to = partial(segment_service_pb2_grpc.add_SegmentServiceServicer_to_server, servicer)
    async with (
        serving(
            address="127.0.0.1:0",
            services={SEGMENT_SERVICE: add_to},
            failure_for=failure_for,
            reflection=False,
        ) as server,
        grpc.aio.insecure_channel(server.address, options=NO_WIDE_WINDOW) as channel,
    ):
        stub = segment_service_pb2_grpc.SegmentServiceStub(channel)
        chat = sql_chat_store(database)
        yield SegmentServer(url, database, server, stub, chat, targets, clock, stopping)
    await database.close()
