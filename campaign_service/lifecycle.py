"""What callers do with campaigns: write them, start them, stop them."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

from campaign_service.campaigns import Action, Campaign, Definition, Stats, Status, next_status
from campaign_service.compiled import compile_templates
from campaign_service.errors import (
    CampaignAlreadyExistsError,
    CampaignDeletedError,
    CampaignNotFoundError,
)
from campaign_service.references import References
from campaign_service.rules import check_audience, check_channels
from campaign_service.segment_client import SegmentClient
from campaign_service.store import CampaignStore


class Lifecycle:
    def __init__(
        self,
        campaigns: CampaignStore,
        references: References,
        segments: SegmentClient,
        *,
        shards: int,
        now: Callable[[], datetime],
        wake: asyncio.Event,
    ) -> None:
        self._campaigns = campaigns
        self._references = references
        self._segments = segments
        self._shards = shards
        self._now = now
        self._wake = wake

    async def create(
        self, campaign_id: str, definition: Definition, *, validate_only: bool
    ) -> Campaign:
        """A draft, with an id of its own if none is given.

        Repeated with the same content it gives what is there: what it named may be gone by now,
        which is no concern of a repeated call.
        """
        stored = await self._stored(campaign_id) if campaign_id else None
        if stored is not None:
            if stored.deleted_at or not stored.definition.same_as(definition):
                raise CampaignAlreadyExistsError(campaign_id)
            return stored
        to_channels = await self._check(definition)
        now = self._now()
        if validate_only:
            return _unwritten(campaign_id, definition, now, to_channels=to_channels)
        id_ = campaign_id or str(uuid4())
        return await self._campaigns.create(id_, definition, now, to_channels=to_channels)

    async def start(self, campaign_id: str) -> Campaign:
        """Starts or resumes; no effect on a campaign in progress."""
        campaign = await self._campaigns.get(campaign_id)
        if campaign.deleted_at is not None:
            raise CampaignDeletedError(campaign_id)
        if next_status(campaign_id, campaign.status, Action.START) != campaign.status:
            await self._references.check_at_start(campaign.definition)
            total = await self._count(campaign)
            await self._campaigns.start(campaign_id, total, self._shards, self._now())
            self._wake.set()
        return await self._campaigns.get(campaign_id)

    async def stop(self, campaign_id: str) -> Campaign:
        """After this has returned, no further message of the campaign appears."""
        await self._campaigns.stop(campaign_id, "stopped by a caller", self._now())
        return await self._campaigns.get(campaign_id)

    async def _stored(self, campaign_id: str) -> Campaign | None:
        try:
            return await self._campaigns.get(campaign_id)
        except CampaignNotFoundError:
            return None

    async def _check(self, definition: Definition) -> bool:
        check_audience(definition)
        # templates last: whether they may name a receiver depends on the segments
        to_channels = await self._references.check_written(definition)
        check_channels(definition, to_channels=to_channels)
        compile_templates(definition, to_channels=to_channels)
        return to_channels

    async def _count(self, campaign: Campaign) -> int:
        definition = campaign.definition
        if definition.user_ids:
            return len(definition.user_ids)
        return await self._segments.count(definition.segment_ids, definition.sender_id)


def _unwritten(
    campaign_id: str, definition: Definition, now: datetime, *, to_channels: bool
) -> Campaign:
    return Campaign(
        id=campaign_id,
        definition=definition,
        to_channels=to_channels,
        status=Status.DRAFT,
        stats=Stats(),
        revision=0,
        created_at=now,
        updated_at=now,
    )
