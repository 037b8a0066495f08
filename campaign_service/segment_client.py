"""The way to the segment service: its answers and refusals in this service's words."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from campaign_service.errors import ReferenceGoneError, SegmentServiceUnavailableError
from herald.segment.v1 import segment_pb2, segment_service_pb2_grpc
from herald.segment.v1 import segment_service_pb2 as pb
from herald_rpc.deadlines import seconds_left
from herald_wire.structs import to_struct

_CALL_SECONDS = 10.0
# a count walks through all that a segment matches
_COUNT_SECONDS = 300.0
_LARGEST_QUERY = 100
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
# AIP-194 and common sense: these say that the segment itself is the problem, and waiting is none
_FINAL = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
}

Waiting = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class AudiencePage:
    """Some targets in ascending order, maybe none, and where to go on after them."""

    target_ids: Sequence[str]
    cursor: str


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """A part of an audience, and a place in it."""

    segment_ids: tuple[str, ...]
    sender_id: str
    shard: int
    shard_count: int
    cursor: str


class SegmentClient:
    """Calls that raise what a campaign can act on.

    `ReferenceGoneError` for segments that can't be used (any more), and
    `SegmentServiceUnavailableError` for everything that may be better later. What is asked on
    behalf of a caller is answered, or given up, before that caller's deadline.
    """

    def __init__(self, stub: "segment_service_pb2_grpc.SegmentServiceAsyncStub") -> None:
        self._stub = stub

    async def segments(self, ids: Sequence[str]) -> dict[str, segment_pb2.Segment]:
        """Those that exist, deleted ones included, by id."""
        if len(ids) == 1:
            return await self._segment(ids[0])
        found: dict[str, segment_pb2.Segment] = {}
        for start in range(0, len(ids), _LARGEST_QUERY):
            part = list(ids[start : start + _LARGEST_QUERY])
            request = pb.QuerySegmentsRequest(
                filter=to_struct({"id": {"$in": part}}), page_size=len(part), show_deleted=True
            )
            async for segment in self._queried(request):
                found[segment.id] = segment
        return found

    async def _queried(
        self, request: pb.QuerySegmentsRequest
    ) -> AsyncIterator[segment_pb2.Segment]:
        """In several pages where one would be larger than an answer may be."""
        while True:
            try:
                response = await self._stub.QuerySegments(
                    request, timeout=seconds_left(_CALL_SECONDS)
                )
            except grpc.aio.AioRpcError as error:
                _translate(error)
            for segment in response.segments:
                yield segment
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def _segment(self, id_: str) -> dict[str, segment_pb2.Segment]:
        """What most campaigns have, for half of what a query costs."""
        request = pb.GetSegmentRequest(id=id_)
        try:
            response = await self._stub.GetSegment(request, timeout=seconds_left(_CALL_SECONDS))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return {}
            _translate(error)
        return {id_: response.segment}

    async def count(self, segment_ids: Sequence[str], sender_id: str) -> int:
        """Exact, each target once."""
        request = pb.CountTargetsRequest(segment_ids=segment_ids, sender_id=sender_id)
        try:
            response = await self._stub.CountTargets(request, timeout=seconds_left(_COUNT_SECONDS))
        except grpc.aio.AioRpcError as error:
            _translate(error)
        return response.count

    async def stream(
        self, place: StreamPlace, page_size: int, waiting: Waiting
    ) -> AsyncGenerator[AudiencePage, None]:
        """The targets from the cursor on, however often the service goes and comes back.

        `waiting` is told each time there is nothing to do but try again. An overloaded service is
        asked again no sooner than it says.
        """
        request = pb.StreamTargetsRequest(
            segment_ids=place.segment_ids,
            sender_id=place.sender_id,
            page_size=page_size,
            resume_token=place.cursor,
            shard=segment_pb2.Shard(index=place.shard, count=place.shard_count),
        )
        pause = _FIRST_PAUSE
        while True:
            call = self._stub.StreamTargets(request)
            asked_for = 0.0
            try:
                async for page in call:
                    yield AudiencePage(page.target_ids, page.resume_token)
                    request.resume_token = page.resume_token
                    pause = _FIRST_PAUSE
            except grpc.aio.AioRpcError as error:
                if error.code() in _FINAL:
                    _translate(error)
                await waiting("waiting for the segment service")
                asked_for = _asked_for(error)
            else:
                return
            finally:
                call.cancel()
            # spread out: after an outage all senders come back at once
            spread_out = pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            await asyncio.sleep(max(spread_out, asked_for))
            pause = min(2 * pause, _LONGEST_PAUSE)


def _translate(error: grpc.aio.AioRpcError) -> NoReturn:
    if error.code() in _FINAL:
        raise ReferenceGoneError("segment", _segment_id(error)) from error
    raise SegmentServiceUnavailableError from error


def _segment_id(error: grpc.aio.AioRpcError) -> str:
    info = error_details_pb2.ErrorInfo()
    for detail in _details(error):
        if detail.Unpack(info) and "segment_id" in info.metadata:
            return str(info.metadata["segment_id"])
    return ""


def _asked_for(error: grpc.aio.AioRpcError) -> float:
    """How many seconds the service wants to be left alone."""
    retry = error_details_pb2.RetryInfo()
    for detail in _details(error):
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToTimedelta().total_seconds())
    return 0.0


def _details(error: grpc.aio.AioRpcError) -> Iterable[Any]:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it is a call, too
    return status.details if status else ()
