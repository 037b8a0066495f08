"""A campaign as an answer: with its sender, its segments and a page of its users looked up."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from campaign_service.campaigns import Campaign, with_readers
from campaign_service.errors import SegmentServiceUnavailableError
from campaign_service.read_counts import ReadCounts
from campaign_service.segment_client import SegmentClient
from campaign_service.wire.campaign import campaign_to_proto
from chat_store.models import User
from chat_store.store import ChatStore
from herald.campaign.v1 import campaign_pb2 as pb
from herald.segment.v1 import segment_pb2


class Presentation:
    def __init__(
        self,
        chat: ChatStore,
        segments: SegmentClient,
        read_counts: ReadCounts,
        now: Callable[[], datetime],
    ) -> None:
        self._chat = chat
        self._segments = segments
        self._read_counts = read_counts
        self._now = now

    async def one(self, campaign: Campaign) -> pb.Campaign:
        (message,) = await self.many([campaign])
        return message

    async def many(self, campaigns: Sequence[Campaign]) -> tuple[pb.Campaign, ...]:
        segment_ids = {id_ for c in campaigns for id_ in c.definition.segment_ids}
        # two of them wait for the database and one for the segment service
        senders, segments, read = await asyncio.gather(
            self._chat.users.by_id({c.definition.sender_id for c in campaigns}),
            self._segments_or_nothing(sorted(segment_ids)),
            self._read_counts.of(campaigns),
        )
        now = self._now()
        return tuple(
            campaign_to_proto(c, senders.get(c.definition.sender_id), segments, now)
            for c in (with_readers(c, read[c.id]) for c in campaigns)
        )

    async def users(self, user_ids: Sequence[str]) -> tuple[User, ...]:
        """Those that exist, in the order of the ids."""
        if not user_ids:
            return ()
        found = await self._chat.users.by_id(user_ids)
        return tuple(found[id_] for id_ in user_ids if id_ in found)

    async def _segments_or_nothing(self, ids: Sequence[str]) -> dict[str, segment_pb2.Segment]:
        # a campaign can be read, and stopped, while the segment service is away
        try:
            return await self._segments.segments(ids) if ids else {}
        except SegmentServiceUnavailableError:
            return {}
