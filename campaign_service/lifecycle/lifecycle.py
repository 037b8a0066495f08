"""The actions of callers and of the clock: write campaigns, start them, stop them."""

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
    CampaignSpec,
    Stats,
    Status,
    Times,
    etag_of,
    next_status,
)
from campaign_service.campaigns.senders import require_own_sender
from campaign_service.campaigns.validation import check_audience, check_channels, check_times
from campaign_service.lifecycle.references import ReferenceChecker
from campaign_service.planning.compiled import compile_templates
from campaign_service.segments import Segments
from campaign_service.storage.ports import CampaignStore, DueTransition, TransitionStore

# the `status_reason` of campaigns that the clock has stopped
STOP_AT_REACHED = "stop_at was reached"


class Lifecycle:
    def __init__(
        self,
        campaigns: CampaignStore,
        transitions: TransitionStore,
        references: ReferenceChecker,
        segments: Segments,
        *,
        now: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._campaigns = campaigns
        self._transitions = transitions
        self._references = references
        self._segments = segments
        self._now = now
        self._wake = wake

    async def create(
        self, campaign_id: str, spec: CampaignSpec, *, validate_only: bool
    ) -> Campaign:
        """Creates a draft, with a new id if none is given.

        A repeated call with the same content returns the stored campaign, even if the things that
        it names have been deleted since.
        """
        require_own_sender(campaign_id, spec.sender_id)
        stored = await self._stored(campaign_id) if campaign_id else None
        if stored is not None:
            if stored.deleted_at or not stored.spec.same_as(spec):
                raise CampaignAlreadyExistsError(campaign_id)
            return stored
        unsaved = await self.draft(campaign_id, spec)
        if validate_only:
            return unsaved
        return await self._campaigns.create(
            campaign_id or str(uuid4()),
            spec,
            unsaved.created_at,
            to_channels=unsaved.to_channels,
        )

    async def draft(self, campaign_id: str, spec: CampaignSpec) -> Campaign:
        """Returns the campaign that `create` would store. Raises what `create` would."""
        to_channels = await self._check(spec)
        now = self._now()
        return Campaign(
            id=campaign_id,
            spec=spec,
            to_channels=to_channels,
            status=Status.DRAFT,
            stats=Stats(),
            revision=0,
            created_at=now,
            updated_at=now,
        )

    async def update(
        self, campaign_id: str, etag: str, change: Callable[[CampaignSpec], CampaignSpec]
    ) -> Campaign:
        """Changes the definition, all or nothing. Retries if it changed meanwhile."""
        while True:
            stored = await self._present(campaign_id)
            if etag and etag != etag_of(stored):
                raise EtagMismatchError(campaign_id, etag, etag_of(stored))
            next_status(campaign_id, stored.status, Action.UPDATE)
            spec = change(stored.spec)
            require_own_sender(campaign_id, spec.sender_id)
            if spec.same_as(stored.spec):
                return stored
            written = await self._transitions.update(
                campaign_id,
                spec,
                stored.revision,
                self._now(),
                to_channels=await self._check(spec, stored),
                audience_changed=not spec.same_audience_as(stored.spec),
            )
            if written:
                return await self._campaigns.get(campaign_id)

    async def delete(self, campaign_id: str) -> None:
        await self._transitions.delete(campaign_id, self._now())

    async def start(self, campaign_id: str, times: Times) -> Campaign:
        """Starts or resumes, at once or at a time. No effect on a campaign in progress."""
        now = self._now()
        check_times(times, now)
        campaign = await self._present(campaign_id)
        # also for a campaign in progress, because its caller expects it to be sent
        await self._transitions.refuse_if_held()
        later = times.scheduled_for is not None and times.scheduled_for > now
        action = Action.SCHEDULE if later else Action.START
        if later or next_status(campaign_id, campaign.status, action) != campaign.status:
            next_status(campaign_id, campaign.status, action)
            await self._references.check_at_start(campaign.spec)
            if later:
                await self._transitions.schedule(campaign_id, times, now)
            else:
                await self._launch(campaign, times)
        return await self._campaigns.get(campaign_id)

    async def stop(self, campaign_id: str) -> Campaign:
        """Stops the campaign. No further message of it appears after this has returned."""
        await self._transitions.stop(campaign_id, "stopped by a caller", self._now())
        return await self._campaigns.get(campaign_id)

    async def fire_due(self, due: DueTransition) -> None:
        """Starts or stops a campaign that is due, unless it has changed meanwhile.

        Raises what `start` would.
        """
        if due.is_stop:
            await self._transitions.stop(
                due.campaign_id, STOP_AT_REACHED, self._now(), revision=due.revision
            )
            return
        campaign = await self._present(due.campaign_id)
        await self._references.check_at_start(campaign.spec)
        await self._launch(campaign, None, due.revision)

    async def _launch(
        self, campaign: Campaign, times: Times | None, revision: int | None = None
    ) -> None:
        total = await self._count(campaign)
        # targets handled before an edit took them out of the audience still count
        total = max(total, campaign.stats.targets_handled)
        await self._transitions.start(
            campaign.id, total, self._now(), times=times, revision=revision
        )
        self._wake()

    async def _present(self, campaign_id: str) -> Campaign:
        campaign = await self._campaigns.get(campaign_id)
        require_own_sender(campaign_id, campaign.spec.sender_id)
        if campaign.deleted_at is not None:
            raise CampaignDeletedError(campaign_id)
        return campaign

    async def _stored(self, campaign_id: str) -> Campaign | None:
        try:
            return await self._campaigns.get(campaign_id)
        except CampaignNotFoundError:
            return None

    async def _check(self, spec: CampaignSpec, stored: Campaign | None = None) -> bool:
        """Returns whether the audience consists of channels. Raises for an invalid definition."""
        check_audience(spec)
        # templates last, because the segments decide whether they may name a receiver
        to_channels = await self._references.check_spec(spec, stored)
        check_channels(spec, to_channels=to_channels)
        compile_templates(spec, to_channels=to_channels)
        return to_channels

    async def _count(self, campaign: Campaign) -> int:
        spec = campaign.spec
        if spec.user_ids:
            return len(spec.user_ids)
        return await self._segments.count(spec.segment_ids, spec.sender_id)
