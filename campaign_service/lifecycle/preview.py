"""Previews what targets would get now: planned as in a run, but not written."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime

from campaign_service.campaigns.errors import CampaignDeletedError, SegmentServiceUnavailableError
from campaign_service.campaigns.ids import derived_channel_id
from campaign_service.campaigns.model import Campaign, ChannelTemplate
from campaign_service.campaigns.outcomes import Preview, PreviewRequest
from campaign_service.lifecycle.lifecycle import Lifecycle
from campaign_service.lifecycle.references import ReferenceChecker
from campaign_service.planning.compiled import compile_campaign
from campaign_service.planning.page import CAMPAIGN_KEYS, PlannedPage
from campaign_service.planning.planner import Planner, require_sender
from campaign_service.segments import AudienceCursor, Segments
from campaign_service.storage.ports import CampaignStore
from chat_store.models import Message, cid_of
from chat_store.page_rows import PageRows
from chat_store.store import ChatStore

_PAGE_SECONDS = 10.0


class Previews:
    def __init__(
        self,
        campaigns: CampaignStore,
        lifecycle: Lifecycle,
        references: ReferenceChecker,
        chat: ChatStore,
        segments: Segments,
        *,
        now: Callable[[], datetime],
        multi_tenancy: bool,
    ) -> None:
        self._campaigns = campaigns
        self._lifecycle = lifecycle
        self._references = references
        self._chat = chat
        self._segments = segments
        self._now = now
        self._multi_tenancy = multi_tenancy

    async def of(self, request: PreviewRequest) -> list[Preview]:
        """Returns one preview per target, in the order of the receiver ids or of the audience.

        If the campaign has no id, values derived from it are left out. Raises what
        `Lifecycle.start` or `Lifecycle.create` would raise for missing references.
        """
        if request.spec is None:
            campaign = await self._stored(request.campaign_id)
        else:
            campaign = await self._lifecycle.draft(request.campaign_id, request.spec)
        targets = request.receiver_ids or await self._sample(campaign, request.sample_size)
        sender_id = campaign.spec.sender_id
        users = await self._chat.users.by_id([sender_id])
        run = compile_campaign(
            campaign,
            require_sender(sender_id, users.get(sender_id)),
            self._now(),
            multi_tenancy=self._multi_tenancy,
        )
        planner = Planner(run, self._chat, self._now)
        page = await planner.plan(targets, check_message_ids=True)
        found = _previews(page)
        if not campaign.id:
            template = campaign.spec.channel_template
            found = {id_: _without_id(preview, template) for id_, preview in found.items()}
        return [found[target_id] for target_id in targets]

    async def _stored(self, campaign_id: str) -> Campaign:
        campaign = await self._campaigns.get(campaign_id)
        if campaign.deleted_at is not None:
            raise CampaignDeletedError(campaign_id)
        await self._references.check_at_start(campaign.spec)
        return campaign

    async def _sample(self, campaign: Campaign, size: int) -> list[str]:
        spec = campaign.spec
        if spec.user_ids:
            return sorted(spec.user_ids, key=str.encode)[:size]
        cursor = AudienceCursor(spec.segment_ids, spec.sender_id, 0, 1, "")
        stream = self._segments.stream(cursor, size, _unavailable)
        found: list[str] = []
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(_PAGE_SECONDS) as time_limit, aclosing(stream) as pages:
                async for page in pages:
                    found += page.target_ids
                    if len(found) >= size:
                        break
                    time_limit.reschedule(now() + _PAGE_SECONDS)
        except TimeoutError:
            raise SegmentServiceUnavailableError from None
        return found[:size]


async def _unavailable(_: str) -> None:
    # a run waits here until the service is back; a caller gets an error instead
    raise SegmentServiceUnavailableError


def _previews(page: PlannedPage) -> dict[str, Preview]:
    new = set(page.rows.channels.get("cid", ()))
    found = {
        not_sent.target_id: Preview(not_sent.target_id, not_sent.cid, reason=not_sent.reason)
        for not_sent in page.not_sent
    }
    for target_id, message in _messages(page.rows):
        found[target_id] = Preview(target_id, message.cid, message.cid in new, message)
    return found


def _messages(rows: PageRows) -> Iterator[tuple[str, Message]]:
    constants = {**rows.message_constants, "created_at": None}
    for values in zip(*rows.messages.values(), strict=True):
        row = dict(zip(rows.messages, values, strict=True))
        yield row["target_id"], Message(**constants, **row)


def _without_id(preview: Preview, template: ChannelTemplate | None) -> Preview:
    cid, message = preview.cid, preview.message
    if template and cid == cid_of(template.type, derived_channel_id("", preview.target_id)):
        cid = None
    if message is not None:
        custom = {key: value for key, value in message.custom.items() if key not in CAMPAIGN_KEYS}
        message = replace(message, id="", cid=cid or "", campaign_id=None, custom=custom)
    return replace(preview, cid=cid, message=message)
