"""Who a campaign is for: its segments' targets, or the users that it names."""

from collections.abc import AsyncIterator
from typing import Protocol

from campaign_service.campaigns import Campaign
from campaign_service.errors import ReferenceGoneError
from campaign_service.segment_client import AudiencePage, SegmentClient, StreamPlace, Waiting
from campaign_service.store import CampaignStore, Lease
from chat_store.paging import Cursor, PageRequest
from herald.segment.v1 import segment_pb2


class Audience(Protocol):
    async def version(self) -> str:
        """Differs when targets were added that a walk under way may have passed by."""

    def pages(self, lease: Lease, page_size: int, waiting: Waiting) -> AsyncIterator[AudiencePage]:
        """The lease's part of the audience from its cursor on, ascending, each target once."""


def audience_of(campaign: Campaign, segments: SegmentClient, store: CampaignStore) -> Audience:
    if campaign.definition.segment_ids:
        return SegmentAudience(campaign, segments)
    return UserAudience(campaign, store)


class SegmentAudience:
    def __init__(self, campaign: Campaign, segments: SegmentClient) -> None:
        self._ids = campaign.definition.segment_ids
        self._sender_id = campaign.definition.sender_id
        self._segments = segments

    async def version(self) -> str:
        """Lists only: who begins to match a filter behind the walk is not chased.

        Raises `ReferenceGoneError` for a segment that is deleted: the walk may have been past it.
        """
        found = await self._segments.segments(self._ids)
        for id_ in self._ids:
            if id_ not in found or found[id_].HasField("deleted_at"):
                raise ReferenceGoneError("segment", id_)
        return " ".join(
            f"{segment.size_updated_at.ToNanoseconds()}"
            for segment in found.values()
            if _is_list(segment)
        )

    def pages(self, lease: Lease, page_size: int, waiting: Waiting) -> AsyncIterator[AudiencePage]:
        place = StreamPlace(
            self._ids, self._sender_id, lease.shard, lease.shard_count, lease.cursor
        )
        return self._segments.stream(place, page_size, waiting)


class UserAudience:
    def __init__(self, campaign: Campaign, store: CampaignStore) -> None:
        self._campaign_id = campaign.id
        self._store = store

    async def version(self) -> str:
        """Always the same: the users can't change during a run."""
        return "users"

    async def pages(
        self,
        lease: Lease,
        page_size: int,
        waiting: Waiting,  # noqa: ARG002 - its own database is what the run waits for anyway
    ) -> AsyncIterator[AudiencePage]:
        after = lease.cursor
        # at most 10,000 ids: one shard has them all
        while lease.shard == 0:
            cursor = Cursor((after,)) if after else None
            page = await self._store.user_ids(self._campaign_id, PageRequest(page_size, (), cursor))
            if not page.items:
                return
            after = page.items[-1]
            yield AudiencePage(page.items, after)


def _is_list(segment: segment_pb2.Segment) -> bool:
    return segment.WhichOneof("definition") is None
