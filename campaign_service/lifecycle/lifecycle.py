"""What callers and the clock do with campaigns: write them, start them, stop them."""

from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

from campaign_service.campaigns.errors import (
    CampaignAlreadyExistsError,
    CampaignDeletedError,
    CampaignNotFoundError,
    EtagMismatchError,
)
from campaign_service.campaigns.model import (
    Action,
    Campaign,
    Definition,
    Stats,
    Status,
    Times,
    etag_of,
    next_status,
)
from campaign_service.campaigns.validation import check_audience, check_channels, check_times
from campaign_service.lifecycle.references import References
from campaign_service.planning.compiled import compile_templates
from campaign_service.segments import Segments
from campaign_service.storage.ports import CampaignStore, Due, MoveStore

# what the clock says when it stops a campaign
TIME_IS_UP = "stop_at was reached"


class Lifecycle:
    def __init__(
        self,
        campaigns: CampaignStore,
        moves: MoveStore,
        references: References,
        segments: Segments,
        *,
        now: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._campaigns = campaigns
        self._moves = moves
        self._references = references
        self._segments = segments
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
        draft = await self.unwritten(campaign_id, definition)
        if validate_only:
            return draft
        return await self._campaigns.create(
            campaign_id or str(uuid4()),
            definition,
            draft.created_at,
            to_channels=draft.to_channels,
        )

    async def unwritten(self, campaign_id: str, definition: Definition) -> Campaign:
        """The campaign that the definition would make. Raises whatever `create` would."""
        to_channels = await self._check(definition)
        now = self._now()
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

    async def update(
        self, campaign_id: str, etag: str, change: Callable[[Definition], Definition]
    ) -> Campaign:
        """Changes the definition as a whole or not at all; again, if it changed meanwhile."""
        while True:
            stored = await self._present(campaign_id)
            if etag and etag != etag_of(stored):
                raise EtagMismatchError(campaign_id, etag, etag_of(stored))
            next_status(campaign_id, stored.status, Action.UPDATE)
            definition = change(stored.definition)
            if definition.same_as(stored.definition):
                return stored
            written = await self._moves.update(
                campaign_id,
                definition,
                stored.revision,
                self._now(),
                to_channels=await self._check(definition, stored),
                audience_changed=not definition.same_audience_as(stored.definition),
            )
            if written:
                return await self._campaigns.get(campaign_id)

    async def delete(self, campaign_id: str) -> None:
        await self._moves.delete(campaign_id, self._now())

    async def start(self, campaign_id: str, times: Times) -> Campaign:
        """Starts or resumes, at once or when the clock says; no effect where it is in progress."""
        now = self._now()
        check_times(times, now)
        campaign = await self._present(campaign_id)
        # also for a campaign that is in progress: its caller expects it to be sent
        await self._moves.refuse_if_held()
        later = times.scheduled_for is not None and times.scheduled_for > now
        action = Action.SCHEDULE if later else Action.START
        if later or next_status(campaign_id, campaign.status, action) != campaign.status:
            next_status(campaign_id, campaign.status, action)
            await self._references.check_at_start(campaign.definition)
            if later:
                await self._moves.schedule(campaign_id, times, now)
            else:
                await self._launch(campaign, times)
        return await self._campaigns.get(campaign_id)

    async def stop(self, campaign_id: str) -> Campaign:
        """After this has returned, no further message of the campaign appears."""
        await self._moves.stop(campaign_id, "stopped by a caller", self._now())
        return await self._campaigns.get(campaign_id)

    async def on_time(self, due: Due) -> None:
        """Starts or stops what the clock says, unless the campaign has changed meanwhile.

        Raises what `start` would.
        """
        if due.over:
            await self._moves.stop(due.campaign_id, TIME_IS_UP, self._now(), revision=due.revision)
            return
        campaign = await self._present(due.campaign_id)
        await self._references.check_at_start(campaign.definition)
        await self._launch(campaign, None, due.revision)

    async def _launch(
        self, campaign: Campaign, times: Times | None, revision: int | None = None
    ) -> None:
        total = await self._count(campaign)
        # whoever was handled before an edit took them out of the audience is still a target
        total = max(total, campaign.stats.targets_handled)
        await self._moves.start(campaign.id, total, self._now(), times=times, revision=revision)
        self._wake()

    async def _present(self, campaign_id: str) -> Campaign:
        campaign = await self._campaigns.get(campaign_id)
        if campaign.deleted_at is not None:
            raise CampaignDeletedError(campaign_id)
        return campaign

    async def _stored(self, campaign_id: str) -> Campaign | None:
        try:
            return await self._campaigns.get(campaign_id)
        except CampaignNotFoundError:
            return None

    async def _check(self, definition: Definition, stored: Campaign | None = None) -> bool:
        """Whether the audience is channels. Raises what is wrong with the definition."""
        check_audience(definition)
        # templates last: whether they may name a receiver depends on the segments
        to_channels = await self._references.check_written(definition, stored)
        check_channels(definition, to_channels=to_channels)
        compile_templates(definition, to_channels=to_channels)
        return to_channels

    async def _count(self, campaign: Campaign) -> int:
        definition = campaign.definition
        if definition.user_ids:
            return len(definition.user_ids)
        return await self._segments.count(definition.segment_ids, definition.sender_id)
