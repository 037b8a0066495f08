"""The client of the segment service: translates its responses and errors to this service's."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from time import monotonic
from typing import Any, NoReturn

import grpc
import structlog
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from campaign_service.campaigns.errors import ReferenceGoneError, SegmentServiceUnavailableError
from campaign_service.campaigns.waiting import FOR_SEGMENT_SERVICE
from campaign_service.segments import AudienceCursor, AudiencePage, SegmentInfo, Waiting
from herald.segment.v1 import segment_pb2, segment_service_pb2_grpc
from herald.segment.v1 import segment_service_pb2 as pb
from herald_rpc import tracing
from herald_rpc.client.picker import ChannelPicker
from herald_rpc.process.waiting import Backoff
from herald_rpc.server.deadlines import seconds_left
from herald_rpc.wire.structs import to_struct

# The total of three attempts, because the first may reach a frozen server. The next attempt goes
# to another server if there is one, because calls are balanced round-robin.
_CALL_SECONDS, _ATTEMPTS = 9.0, 3
# A count reads all that a segment matches. If the server dies meanwhile, or during a stream, the
# channel's pings notice it after 8 s.
_COUNT_SECONDS = 300.0
_MAX_QUERY_SIZE = 100
# How long the reader may take for the pages of one stream. The segment server reads ahead, so the
# last page is that old. A call for each page would cost up to 5 % of a fast run.
_STREAM_SECONDS = 0.2
# Permanent errors: the segment itself is unusable; retrying can't help (AIP-194).
_PERMANENT = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
}
# The token or its scopes: callers and runs wait, as for a service that is down, until an operator
# has mended it.
_REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_BETWEEN_LINES_SECONDS = 60.0
_PROBLEMS = {"ERROR_REASON_SEGMENT_FILTER_REFUSED": "has a filter that is not allowed any more"}

logger = structlog.get_logger(__name__)


class SegmentClient:
    """See `campaign_service.segments.Segments`."""

    def __init__(self, *channels: grpc.aio.Channel) -> None:
        self._picker = ChannelPicker(channels)
        self._stubs = {
            channel: segment_service_pb2_grpc.SegmentServiceStub(channel) for channel in channels
        }

    async def by_id(self, ids: Sequence[str]) -> dict[str, SegmentInfo]:
        if len(ids) == 1:
            return await self._segment(ids[0])
        found: dict[str, SegmentInfo] = {}
        for start in range(0, len(ids), _MAX_QUERY_SIZE):
            part = list(ids[start : start + _MAX_QUERY_SIZE])
            request = pb.QuerySegmentsRequest(
                filter=to_struct({"id": {"$in": part}}), page_size=len(part), show_deleted=True
            )
            async for segment in self._queried(request):
                found[segment.id] = _segment_info(segment)
        return found

    async def _queried(
        self, request: pb.QuerySegmentsRequest
    ) -> AsyncIterator[segment_pb2.Segment]:
        """Yields segments, in several pages if one would exceed the size of a response."""
        while True:
            try:
                response = await self._picker.call(
                    lambda channel: self._stubs[channel].QuerySegments,
                    request,
                    seconds_left(_CALL_SECONDS),
                    attempts=_ATTEMPTS,
                )
            except grpc.aio.AioRpcError as error:
                _translate(error)
            for segment in response.segments:
                yield segment
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def _segment(self, id_: str) -> dict[str, SegmentInfo]:
        """Returns a single segment, which most campaigns have, at half the cost of a query."""
        request = pb.GetSegmentRequest(id=id_)
        try:
            response = await self._picker.call(
                lambda channel: self._stubs[channel].GetSegment,
                request,
                seconds_left(_CALL_SECONDS),
                attempts=_ATTEMPTS,
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return {}
            _translate(error)
        return {id_: _segment_info(response.segment)}

    async def count(self, segment_ids: Sequence[str], sender_id: str) -> int:
        request = pb.CountTargetsRequest(segment_ids=segment_ids, sender_id=sender_id)
        try:
            response = await self._picker.call(
                lambda channel: self._stubs[channel].CountTargets,
                request,
                seconds_left(_COUNT_SECONDS),
            )
        except grpc.aio.AioRpcError as error:
            _translate(error)
        return response.count

    async def among(
        self,
        segment_ids: Sequence[str],
        sender_id: str,
        target_ids: Sequence[str],
        waiting: Waiting,
    ) -> Sequence[str]:
        request = pb.FilterTargetsRequest(
            segment_ids=segment_ids, sender_id=sender_id, target_ids=target_ids
        )
        retries = _Retries(waiting)
        while True:
            try:
                response = await self._picker.call(
                    lambda channel: self._stubs[channel].FilterTargets, request, _CALL_SECONDS
                )
            except grpc.aio.AioRpcError as error:
                await retries.wait(error)
            else:
                return response.target_ids

    async def stream(
        self, start: AudienceCursor, page_size: int, waiting: Waiting
    ) -> AsyncGenerator[AudiencePage, None]:
        """Requests per call as many pages as the reader takes within `_STREAM_SECONDS`.

        The service reads the pages of a call ahead, so those of a slow reader would be old.
        """
        request = pb.StreamTargetsRequest(
            segment_ids=start.segment_ids,
            sender_id=start.sender_id,
            page_size=page_size,
            resume_token=start.cursor,
            shard=segment_pb2.Shard(index=start.shard, count=start.shard_count),
            page_limit=1,
        )
        retries = _Retries(waiting)
        while True:
            channel = await self._picker.pick(_CALL_SECONDS / _ATTEMPTS)
            began = monotonic()
            pages = 0
            call = self._stubs[channel].StreamTargets(request, metadata=tracing.outgoing())
            try:
                async for page in call:
                    pages += 1
                    yield AudiencePage(page.target_ids, page.resume_token, read_at=began)
                    request.resume_token = page.resume_token
                    retries.reset()
            except grpc.aio.AioRpcError as error:
                await retries.wait(error)
            else:
                if pages < request.page_limit:
                    return
                in_time = int(pages * _STREAM_SECONDS / (monotonic() - began))
                request.page_limit = max(1, min(in_time, 2 * pages))
            finally:
                call.cancel()


class _Retries:
    """The pauses between the attempts of one request: longer each time, until one succeeds."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._backoff = Backoff()

    def reset(self) -> None:
        self._backoff.reset()

    async def wait(self, error: grpc.aio.AioRpcError) -> None:
        """Waits before the next attempt. Raises `ReferenceGoneError` for a permanent error."""
        if error.code() in _PERMANENT:
            _translate(error)
        _log_refusal(error)
        await self._waiting(FOR_SEGMENT_SERVICE)
        await asyncio.sleep(max(self._backoff.next(), _retry_delay(error)))


def _segment_info(segment: segment_pb2.Segment) -> SegmentInfo:
    return SegmentInfo(
        id=segment.id,
        of_channels=segment.type == segment_pb2.SEGMENT_TYPE_CHANNEL,
        is_deleted=segment.HasField("deleted_at"),
        encoded=segment.SerializeToString(),
    )


def _translate(error: grpc.aio.AioRpcError) -> NoReturn:
    if error.code() in _PERMANENT:
        info = _info(error)
        problem = _PROBLEMS.get(info.reason, "is not available")
        raise ReferenceGoneError("segment", info.metadata["segment_id"], problem=problem) from error
    _log_refusal(error)
    raise SegmentServiceUnavailableError from error


_refusal_logged_at: float | None = None


def _log_refusal(error: grpc.aio.AioRpcError) -> None:
    """Logs at most once a minute that this server's own token is refused."""
    global _refusal_logged_at  # noqa: PLW0603 - one log of this process
    if error.code() not in _REFUSED:
        return
    if _refusal_logged_at is None or monotonic() - _refusal_logged_at >= _BETWEEN_LINES_SECONDS:
        _refusal_logged_at = monotonic()
        logger.warning(
            "the segment service refuses HERALD_TOKEN",
            reason=_info(error).reason,
            error=error.details() or "",
        )


def _info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    for detail in _details(error):
        if detail.Unpack(info):
            break
    return info


def _retry_delay(error: grpc.aio.AioRpcError) -> float:
    """Returns the seconds after which the service asks for a retry; 0 if it does not."""
    retry = error_details_pb2.RetryInfo()
    for detail in _details(error):
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToTimedelta().total_seconds())
    return 0.0


def _details(error: grpc.aio.AioRpcError) -> Iterable[Any]:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it is a call, too
    return status.details if status else ()
