"""A segment server gives back the memory of calls that it refused."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from herald.segment.v1 import segment_pb2
from herald.segment.v1 import segment_service_pb2 as pb
from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceStub
from herald_rpc.wire.structs import to_struct
from tests.harness import forkserver
from tests.harness.processes import Server, free_address, servers
from tests.segment.segment_server import NO_WIDE_WINDOW

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(300)]

MIB = 2**20
REQUEST_BYTES = 3_000_000
CALLS, AT_ONCE = 80, 10
# what the process keeps once and for all: 4 to 22 MiB measured, whether after 60 or 600 calls
KEPT_BYTES = 40 * MIB
SERVICE = "/herald.segment.v1.SegmentService"

TOO_LONG_IDS = pb.AddTargetsRequest(segment_id="none", target_ids=["x" * 330] * 10_000)
BAD_FILTER = pb.CreateSegmentRequest(
    segment=segment_pb2.Segment(
        type=segment_pb2.SEGMENT_TYPE_USER,
        filter=to_struct({"name": {"$in": ["y" * 300] * 9_000}, "a": {"$no_such": 1}}),
    )
)
LIST = segment_pb2.Segment(id="list", type=segment_pb2.SEGMENT_TYPE_USER)

Refused = Callable[[grpc.aio.Channel], Awaitable[object]]


def raw(method: str, size: int = REQUEST_BYTES) -> Refused:
    request = b"\xff" * size

    async def call(channel: Any) -> None:
        await channel.unary_unary(f"{SERVICE}/{method}")(request)

    return call


async def raw_stream(channel: Any) -> None:
    async for _ in channel.unary_stream(f"{SERVICE}/StreamTargets")(b"\xff" * REQUEST_BYTES):
        pass


async def cancelled(channel: grpc.aio.Channel) -> None:
    call = SegmentServiceStub(channel).AddTargets(TOO_LONG_IDS)
    await asyncio.sleep(0)
    call.cancel()
    await call


INVALID, EXHAUSTED = "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"

# the call, and the outcomes of which the first must be among those seen
WAYS: dict[str, tuple[Refused, tuple[str, ...]]] = {
    "no message of its type": (raw("AddTargets"), (INVALID,)),
    "larger than a message may be": (raw("AddTargets", 5_000_000), (EXHAUSTED,)),
    "no method of the service": (raw("NoSuchMethod"), ("UNIMPLEMENTED",)),
    "a stream that is no message": (raw_stream, (INVALID,)),
    "fields over their limits": (
        lambda channel: SegmentServiceStub(channel).AddTargets(TOO_LONG_IDS),
        (INVALID,),
    ),
    "a bad filter": (
        lambda channel: SegmentServiceStub(channel).CreateSegment(BAD_FILTER),
        (INVALID,),
    ),
    "past its deadline": (
        lambda channel: SegmentServiceStub(channel).AddTargets(TOO_LONG_IDS, timeout=0.01),
        ("DEADLINE_EXCEEDED", INVALID),
    ),
    "cancelled by its caller": (cancelled, ("CANCELLED",)),
}


@pytest.fixture
def server(sqlite_url: str, tmp_path: Path) -> Iterator[Server]:
    """One that serves a single stream at a time."""
    settings = {"HERALD_MAX_STREAMS": "1"}
    addresses = free_address(), free_address()
    segment, _ = servers(
        sqlite_url, *addresses, settings=settings, logs=tmp_path, run=forkserver.run
    )
    with segment:
        yield segment


async def outcome(call: Refused, channel: grpc.aio.Channel) -> str:
    try:
        await call(channel)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    except asyncio.CancelledError:
        return "CANCELLED"
    return "OK"


async def outcomes(call: Refused, channel: grpc.aio.Channel) -> Counter[str]:
    seen: Counter[str] = Counter()
    for _ in range(CALLS // AT_ONCE):
        seen.update(await asyncio.gather(*(outcome(call, channel) for _ in range(AT_ONCE))))
    return seen


async def smallest_memory(server: Server, enough: int) -> int:
    """Seen within 20 s, or as soon as it is small enough. The server is left alone meanwhile."""
    smallest = server.memory()
    for _ in range(200):
        if smallest <= enough:
            break
        await asyncio.sleep(0.1)
        smallest = min(smallest, server.memory())
    return smallest


@pytest.mark.parametrize("way", WAYS)
async def test_large_requests_that_are_refused_leave_no_memory_behind(
    way: str, server: Server
) -> None:
    call, (wanted, *others) = WAYS[way]
    before = server.memory()

    async with grpc.aio.insecure_channel(server.address) as channel:
        seen = await outcomes(call, channel)
        after = await smallest_memory(server, before + KEPT_BYTES)

    assert seen[wanted] > 0
    assert set(seen) <= {wanted, *others}
    assert after <= before + KEPT_BYTES, f"{(after - before) / MIB:.0f} MiB more than before"


async def test_large_requests_that_are_refused_as_too_many_leave_no_memory_behind(
    server: Server,
) -> None:
    before = server.memory()

    async with grpc.aio.insecure_channel(server.address, options=NO_WIDE_WINDOW) as channel:
        # a stream that nobody reads holds the only place
        service = SegmentServiceStub(channel)
        await service.CreateSegment(pb.CreateSegmentRequest(segment=LIST))
        for start in range(0, 10_000, 5_000):
            ids = [f"{n:06}{'x' * 240}" for n in range(start, start + 5_000)]
            await service.AddTargets(pb.AddTargetsRequest(segment_id=LIST.id, target_ids=ids))
        unread = service.StreamTargets(pb.StreamTargetsRequest(segment_ids=[LIST.id]))
        await unread.read()
        seen = await outcomes(raw_stream, channel)
        after = await smallest_memory(server, before + KEPT_BYTES)
        unread.cancel()

    assert seen == {EXHAUSTED: CALLS}
    assert after <= before + KEPT_BYTES, f"{(after - before) / MIB:.0f} MiB more than before"
