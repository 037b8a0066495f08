"""SegmentService: each call decodes its request, does its work and encodes the response."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from functools import partial
from typing import Any

from chat_store.ids import MAX_CID, MAX_ID
from chat_store.paging import Page, PageRequest
from chat_store.worker_thread import SHORT_BYTES, aside_if
from herald.segment.v1 import segment_pb2
from herald.segment.v1 import segment_service_pb2 as pb
from herald.segment.v1 import segment_service_pb2_grpc as pb_grpc
from herald_rpc.wire.fields import required, text
from herald_rpc.wire.response_pages import fitting_page
from segment_service import wire
from segment_service.explanations import clauses_to_proto
from segment_service.segments import Segment, SegmentSpec, check, has_large_filter
from segment_service.store import SegmentStore, TargetStore
from segment_service.streams import TargetStreams


class SegmentServicer(pb_grpc.SegmentServiceServicer):
    def __init__(
        self,
        segments: SegmentStore,
        targets: TargetStore,
        streams: TargetStreams,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._segments = segments
        self._targets = targets
        self._streams = streams
        self._now = now
        self._new_id = new_id

    async def CreateSegment(
        self, request: pb.CreateSegmentRequest, context: Any
    ) -> pb.CreateSegmentResponse:
        id_ = text(request.segment.id, "segment.id", MAX_ID) or self._new_id()
        spec = await aside_if(request.ByteSize() > SHORT_BYTES, partial(_checked_content, request))
        segment = await self._segments.create(id_, spec, self._now())
        return pb.CreateSegmentResponse(segment=await _to_proto(segment))

    async def GetSegment(
        self, request: pb.GetSegmentRequest, context: Any
    ) -> pb.GetSegmentResponse:
        segment = await self._segments.get(required(request.id, "id", MAX_ID))
        return pb.GetSegmentResponse(segment=await _to_proto(segment))

    async def UpdateSegment(
        self, request: pb.UpdateSegmentRequest, context: Any
    ) -> pb.UpdateSegmentResponse:
        id_ = required(request.segment.id, "segment.id", MAX_ID)
        change = await aside_if(
            request.ByteSize() > SHORT_BYTES, partial(wire.change_from_proto, request)
        )
        segment = await self._segments.update(id_, change, self._now())
        return pb.UpdateSegmentResponse(segment=await _to_proto(segment))

    async def DeleteSegment(
        self, request: pb.DeleteSegmentRequest, context: Any
    ) -> pb.DeleteSegmentResponse:
        await self._segments.delete(required(request.id, "id", MAX_ID), self._now())
        return pb.DeleteSegmentResponse()

    async def QuerySegments(
        self, request: pb.QuerySegmentsRequest, context: Any
    ) -> pb.QuerySegmentsResponse:
        query = await wire.segment_query(request)

        async def find(page: PageRequest) -> Page[segment_pb2.Segment]:
            found = await self._segments.query(
                query.predicate, page, show_deleted=request.show_deleted
            )
            encoded = [await _to_proto(segment) for segment in found.items]
            return Page(tuple(encoded), found.next_cursor, found.prev_cursor)

        page = await fitting_page(query.paging, find, lambda segment: segment)
        return pb.QuerySegmentsResponse(
            segments=page.records, next_page_token=page.next_token, prev_page_token=page.prev_token
        )

    async def AddTargets(
        self, request: pb.AddTargetsRequest, context: Any
    ) -> pb.AddTargetsResponse:
        id_ = required(request.segment_id, "segment_id", MAX_ID)
        target_ids = wire.target_ids(request.target_ids)
        added, segment = await self._segments.add_targets(id_, target_ids, self._now())
        return pb.AddTargetsResponse(added=added, segment=await _to_proto(segment))

    async def RemoveTargets(
        self, request: pb.RemoveTargetsRequest, context: Any
    ) -> pb.RemoveTargetsResponse:
        id_ = required(request.segment_id, "segment_id", MAX_ID)
        target_ids = wire.target_ids(request.target_ids)
        removed, segment = await self._segments.remove_targets(id_, target_ids, self._now())
        return pb.RemoveTargetsResponse(removed=removed, segment=await _to_proto(segment))

    async def TargetExists(
        self, request: pb.TargetExistsRequest, context: Any
    ) -> pb.TargetExistsResponse:
        exists = await self._targets.exists(
            required(request.segment_id, "segment_id", MAX_ID),
            required(request.target_id, "target_id", MAX_CID),
            wire.sender_id(request.sender_id),
        )
        return pb.TargetExistsResponse(exists=exists)

    async def QueryTargets(
        self, request: pb.QueryTargetsRequest, context: Any
    ) -> pb.QueryTargetsResponse:
        id_ = required(request.segment_id, "segment_id", MAX_ID)
        sender_id = wire.sender_id(request.sender_id)
        query = await wire.target_query(request)
        find = partial(self._targets.query, id_, sender_id, query.predicate)
        page = await fitting_page(query.paging, find, wire.target_to_proto)
        return pb.QueryTargetsResponse(
            targets=page.records, next_page_token=page.next_token, prev_page_token=page.prev_token
        )

    async def CountTargets(
        self, request: pb.CountTargetsRequest, context: Any
    ) -> pb.CountTargetsResponse:
        segment_ids = wire.segment_ids(request.segment_ids)
        count = await self._targets.count(segment_ids, wire.sender_id(request.sender_id))
        return pb.CountTargetsResponse(count=count)

    async def StreamTargets(
        self, request: pb.StreamTargetsRequest, context: Any
    ) -> AsyncIterator[pb.StreamTargetsResponse]:
        page_size = wire.STREAM_SIZES.size(request.page_size)
        page_limit = wire.page_limit(request.page_limit)
        pages = self._streams.pages(wire.stream_cursor(request), page_size, page_limit)
        async for target_ids, cursor in pages:
            response = pb.StreamTargetsResponse(
                target_ids=target_ids, resume_token=wire.stream_token(cursor)
            )
            # frees the ids while the message waits for its reader
            del target_ids
            yield response

    async def FilterTargets(
        self, request: pb.FilterTargetsRequest, context: Any
    ) -> pb.FilterTargetsResponse:
        found = await self._targets.among(
            wire.segment_ids(request.segment_ids),
            wire.sender_id(request.sender_id),
            wire.target_ids(request.target_ids),
        )
        return pb.FilterTargetsResponse(target_ids=found)

    async def ExplainTarget(
        self, request: pb.ExplainTargetRequest, context: Any
    ) -> pb.ExplainTargetResponse:
        explanation = await self._targets.explain(
            required(request.segment_id, "segment_id", MAX_ID),
            required(request.target_id, "target_id", MAX_CID),
            wire.sender_id(request.sender_id),
        )
        clauses = await asyncio.to_thread(clauses_to_proto, explanation.clauses)
        return pb.ExplainTargetResponse(exists=explanation.exists, clauses=clauses)


def _checked_content(request: pb.CreateSegmentRequest) -> SegmentSpec:
    spec = wire.spec_from_proto(request.segment)
    check(spec)
    return spec


async def _to_proto(segment: Segment) -> segment_pb2.Segment:
    return await aside_if(has_large_filter([segment]), partial(wire.segment_to_proto, segment))
