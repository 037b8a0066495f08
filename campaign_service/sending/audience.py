"""The audience of a campaign: the targets of its segments, or the users that it names."""

from collections.abc import AsyncIterator, Sequence
from time import monotonic
from typing import Protocol

from campaign_service.campaigns.model import Campaign
from campaign_service.segments import AudienceCursor, AudiencePage, Segments, Waiting
from campaign_service.storage.ports import CampaignStore, Lease
from chat_store.paging import Cursor, PageRequest


class Audience(Protocol):
    def pages(self, lease: Lease, page_size: int, waiting: Waiting) -> AsyncIterator[AudiencePage]:
        """Yields the lease's shard of the audience after its cursor, ascending, each target once."""

    async def among(self, target_ids: Sequence[str], waiting: Waiting) -> Sequence[str]:
        """Returns the targets that are in the audience now, in the same order."""


def audience_of(campaign: Campaign, segments: Segments, store: CampaignStore) -> Audience:
    if campaign.spec.segment_ids:
        return SegmentAudience(campaign, segments)
    return UserAudience(campaign, store)


class SegmentAudience:
    def __init__(self, campaign: Campaign, segments: Segments) -> None:
        self._ids = campaign.spec.segment_ids
        self._sender_id = campaign.spec.sender_id
        self._segments = segments

    def pages(self, lease: Lease, page_size: int, waiting: Waiting) -> AsyncIterator[AudiencePage]:
        start = AudienceCursor(
            self._ids, self._sender_id, lease.shard, lease.shard_count, lease.cursor
        )
        return self._segments.stream(start, page_size, waiting)

    async def among(self, target_ids: Sequence[str], waiting: Waiting) -> Sequence[str]:
        return await self._segments.among(self._ids, self._sender_id, target_ids, waiting)


class UserAudience:
    def __init__(self, campaign: Campaign, store: CampaignStore) -> None:
        self._campaign_id = campaign.id
        self._store = store

    async def pages(
        self,
        lease: Lease,
        page_size: int,
        waiting: Waiting,  # noqa: ARG002 - a run always waits for its own database
    ) -> AsyncIterator[AudiencePage]:
        after = lease.cursor
        # there are at most 10,000 ids, so one shard has them all
        while lease.shard == 0:
            cursor = Cursor((after,)) if after else None
            read_at = monotonic()
            page = await self._store.user_ids(self._campaign_id, PageRequest(page_size, (), cursor))
            if not page.items:
                return
            after = page.items[-1]
            yield AudiencePage(page.items, after, read_at)

    async def among(
        self,
        target_ids: Sequence[str],
        waiting: Waiting,  # noqa: ARG002 - there is nothing to wait for
    ) -> Sequence[str]:
        """Returns all of them, because the users can't change during a run."""
        return target_ids
