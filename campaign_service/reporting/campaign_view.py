"""Campaigns as responses, with their sender, segments and a page of their users."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from campaign_service.campaigns.errors import SegmentServiceUnavailableError
from campaign_service.campaigns.model import Campaign, Status, with_late_counts
from campaign_service.campaigns.pushes import PushCounts
from campaign_service.reporting.read_counter import ReadCounter
from campaign_service.segments import SegmentInfo, Segments
from campaign_service.storage.event_ports import PushStore
from campaign_service.storage.ports import CampaignStore
from campaign_service.wire.campaign import campaign_to_proto
from chat_store.models import User
from chat_store.store import ChatStore
from herald.campaign.v1 import campaign_pb2 as pb


class CampaignViews:
    """Builds responses. `refusal` returns why the database takes no writes; empty if it does."""

    def __init__(
        self,
        campaigns: CampaignStore,
        chat: ChatStore,
        segments: Segments,
        read_counter: ReadCounter,
        pushes: PushStore,
        now: Callable[[], datetime],
        refusal: Callable[[], str] = str,
    ) -> None:
        self._campaigns = campaigns
        self._chat = chat
        self._segments = segments
        self._read_counter = read_counter
        self._pushes = pushes
        self._now = now
        self._refusal = refusal

    async def get(self, campaign_id: str) -> pb.Campaign:
        """Returns the campaign. Raises `CampaignNotFoundError`."""
        campaign, sender = await self._campaigns.get_with_sender(campaign_id)
        (campaign,), segments = await asyncio.gather(
            self._with_late_counts([campaign]),
            self._segments_if_available(campaign.spec.segment_ids),
        )
        return campaign_to_proto(self._waiting(campaign), sender, segments, self._now())

    async def of(self, campaign: Campaign) -> pb.Campaign:
        (message,) = await self.of_many([campaign])
        return message

    async def of_many(self, campaigns: Sequence[Campaign]) -> tuple[pb.Campaign, ...]:
        segment_ids = {id_ for c in campaigns for id_ in c.spec.segment_ids}
        # concurrently: three wait for the database and one for the segment service
        senders, segments, counted = await asyncio.gather(
            self._chat.users.by_id({c.spec.sender_id for c in campaigns}),
            self._segments_if_available(sorted(segment_ids)),
            self._with_late_counts(campaigns),
        )
        now = self._now()
        return tuple(
            campaign_to_proto(c, senders.get(c.spec.sender_id), segments, now)
            for c in map(self._waiting, counted)
        )

    async def existing_users(self, user_ids: Sequence[str]) -> tuple[User, ...]:
        """Returns the users that exist, in the order of the ids."""
        if not user_ids:
            return ()
        found = await self._chat.users.by_id(user_ids)
        return tuple(found[id_] for id_ in user_ids if id_ in found)

    async def _with_late_counts(self, campaigns: Sequence[Campaign]) -> Sequence[Campaign]:
        read, pushes = await asyncio.gather(
            self._read_counter.of(campaigns),
            self._push_counts([c.id for c in campaigns if c.stats.messages_sent]),
        )
        none = PushCounts()
        return [with_late_counts(c, read[c.id], pushes.get(c.id, none)) for c in campaigns]

    async def _push_counts(self, campaign_ids: Sequence[str]) -> Mapping[str, PushCounts]:
        return await self._pushes.counts(campaign_ids) if campaign_ids else {}

    def _waiting(self, campaign: Campaign) -> Campaign:
        """Adds the `status_reason` that senders can't write while the database refuses writes."""
        if campaign.status is not Status.IN_PROGRESS or campaign.status_reason:
            return campaign
        refusal = self._refusal()
        return replace(campaign, status_reason=f"retrying: {refusal}") if refusal else campaign

    async def _segments_if_available(self, ids: Sequence[str]) -> dict[str, SegmentInfo]:
        # campaigns can be read and stopped while the segment service is unavailable
        try:
            return await self._segments.by_id(ids) if ids else {}
        except SegmentServiceUnavailableError:
            return {}
