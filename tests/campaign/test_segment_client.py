"""The way to the segment service keeps its callers' deadlines, and comes again when it is asked."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest

from campaign_service.campaigns.errors import SegmentServiceUnavailableError
from campaign_service.segment_client import SegmentClient
from campaign_service.segments import AudienceCursor, Waiting
from herald.segment.v1 import segment_pb2, segment_service_pb2_grpc
from herald.segment.v1 import segment_service_pb2 as pb
from herald_rpc.server import deadlines
from herald_rpc.server.failures import Failure
from herald_rpc.server.serving import serving

FULL = Failure(
    code=grpc.StatusCode.RESOURCE_EXHAUSTED,
    reason="ERROR_REASON_OVERLOADED",
    message="later",
    retry_after=timedelta(seconds=0.5),
)


class FullError(Exception):
    pass


class Segments(segment_service_pb2_grpc.SegmentServiceServicer):
    """Never answers a caller; is too full for the first question of a run."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.streams: list[float] = []

    async def CountTargets(self, _: Any, context: Any) -> Any:  # noqa: N802 - the service's word
        await self._refuse(context)

    async def QuerySegments(self, _: Any, context: Any) -> Any:  # noqa: N802 - as above
        await self._refuse(context)

    async def GetSegment(self, _: Any, context: Any) -> Any:  # noqa: N802 - as above
        await self._refuse(context)

    async def FilterTargets(self, request: Any, _context: Any) -> Any:  # noqa: N802 - as above
        self.streams.append(time.monotonic())
        if len(self.streams) == 1:
            raise FullError
        return pb.FilterTargetsResponse(target_ids=request.target_ids[:1])

    async def _refuse(self, context: Any) -> None:
        self.seconds.append(context.time_remaining())
        await context.abort(grpc.StatusCode.UNAVAILABLE)

    async def StreamTargets(self, request: Any, _context: Any) -> Any:  # noqa: N802 - as above
        self.streams.append(time.monotonic())
        if len(self.streams) == 1:
            raise FullError
        if not request.resume_token:
            yield pb.StreamTargetsResponse(target_ids=["ann"], resume_token="ann")  # noqa: S106 - a cursor


class Answering(segment_service_pb2_grpc.SegmentServiceServicer):
    """Answers all that a segment service is asked for a caller."""

    async def CountTargets(self, _: Any, _context: Any) -> Any:  # noqa: N802 - the service's word
        return pb.CountTargetsResponse(count=1)

    async def QuerySegments(self, _: Any, _context: Any) -> Any:  # noqa: N802 - as above
        return pb.QuerySegmentsResponse(segments=[segment_pb2.Segment(id="s")])

    async def GetSegment(self, _: Any, _context: Any) -> Any:  # noqa: N802 - as above
        return pb.GetSegmentResponse(segment=segment_pb2.Segment(id="s"))


@asynccontextmanager
async def a_channel(servicer: Any) -> AsyncIterator[grpc.aio.Channel]:
    async with (
        serving(
            address="127.0.0.1:0",
            services={
                "segments": lambda server: (
                    segment_service_pb2_grpc.add_SegmentServiceServicer_to_server(servicer, server)
                )
            },
            failure_for=lambda error: FULL if isinstance(error, FullError) else None,
            reflection=False,
        ) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield channel


@asynccontextmanager
async def a_client(*servicers: Any) -> AsyncIterator[SegmentClient]:
    async with AsyncExitStack() as stack:
        yield SegmentClient(*[await stack.enter_async_context(a_channel(s)) for s in servicers])


ASKED: dict[str, Callable[[SegmentClient], Awaitable[object]]] = {
    "count": lambda client: client.count(["s"], ""),
    "segment": lambda client: client.by_id(["s"]),
    "segments": lambda client: client.by_id(["s", "t"]),
}


@pytest.mark.parametrize("method", ASKED)
async def test_what_is_asked_for_a_caller_ends_before_that_callers_deadline(method: str) -> None:
    segments = Segments()  # type: ignore[abstract]
    async with a_client(segments) as client:
        with deadlines.call_deadline(5), pytest.raises(SegmentServiceUnavailableError):
            await ASKED[method](client)
        with pytest.raises(SegmentServiceUnavailableError):
            await ASKED[method](client)

    for_a_caller, for_a_worker = segments.seconds
    assert 0 < for_a_caller < 4.9
    # a count may be slow; what is quick is tried three times
    assert 200 < for_a_worker < 310 if method == "count" else 2 < for_a_worker < 5


@pytest.mark.parametrize("method", ASKED)
async def test_a_call_that_one_host_can_not_answer_goes_to_another_one(method: str) -> None:
    refusing = Segments()  # type: ignore[abstract]
    async with a_client(refusing, Answering()) as client:  # type: ignore[abstract]
        # in turn, so that one of the first two reaches the host that refuses
        answers = [await ASKED[method](client) for _ in range(4)]

    assert refusing.seconds
    assert all(answer == 1 if method == "count" else answer for answer in answers)


async def streamed(client: SegmentClient, waiting: Waiting) -> Sequence[str]:
    cursor = AudienceCursor(("s",), "", 0, 1, "")
    return [id_ async for page in client.stream(cursor, 10, waiting) for id_ in page.target_ids]


async def sifted(client: SegmentClient, waiting: Waiting) -> Sequence[str]:
    return list(await client.among(["s"], "", ["ann", "bob"], waiting))


@pytest.mark.parametrize("asked", [streamed, sifted])
async def test_an_overloaded_service_is_asked_again_when_it_said(
    asked: Callable[[SegmentClient, Waiting], Awaitable[Sequence[str]]],
) -> None:
    segments, reasons = Segments(), []  # type: ignore[abstract]

    async def waiting(reason: str) -> None:
        reasons.append(reason)

    async with a_client(segments) as client:
        found = await asked(client, waiting)

    assert found == ["ann"]
    assert reasons == ["waiting for the segment service"]
    first, second, *_ = segments.streams
    assert second - first >= 0.5
