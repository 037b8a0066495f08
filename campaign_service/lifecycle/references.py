"""Checks that a campaign's sender, extra members and segments exist."""

from collections.abc import Sequence

from campaign_service.campaigns.errors import ReferenceGoneError, UnknownReferenceError
from campaign_service.campaigns.model import Campaign, CampaignSpec, ChannelTemplate
from campaign_service.segments import Segments, is_usable
from chat_store.errors import InvalidInputError
from chat_store.store import ChatStore


class ReferenceChecker:
    def __init__(self, chat: ChatStore, segments: Segments) -> None:
        self._chat = chat
        self._segments = segments

    async def check_spec(self, spec: CampaignSpec, stored: Campaign | None = None) -> bool:
        """Returns whether the audience consists of channels.

        Raises `UnknownReferenceError` at the fields. References that are the same in `stored` are
        not checked again.
        """
        before = stored.spec if stored else None
        new_sender = before is None or spec.sender_id != before.sender_id
        if new_sender and await self._gone_sender(spec.sender_id):
            raise UnknownReferenceError("sender", {"campaign.sender_id": spec.sender_id})
        if before is None or _members(spec) != _members(before):
            await self._check_members(spec)
        if stored is None or spec.segment_ids != stored.spec.segment_ids:
            return await self._check_segments(spec.segment_ids)
        return stored.to_channels

    async def check_at_start(self, spec: CampaignSpec) -> None:
        """Raises `ReferenceGoneError` for references that are missing at the start."""
        if await self._gone_sender(spec.sender_id):
            raise ReferenceGoneError("sender", spec.sender_id)
        members = _members(spec)
        gone = await self._gone_members(members)
        if gone:
            raise ReferenceGoneError("member", *(members[index] for index in gone))
        found = await self._segments.by_id(spec.segment_ids)
        gone_segments = [id_ for id_ in spec.segment_ids if not is_usable(found, id_)]
        if gone_segments:
            raise ReferenceGoneError("segment", *gone_segments)

    async def _check_members(self, spec: CampaignSpec) -> None:
        members = _members(spec)
        at = _members_field(spec.channel_template)
        missing = {f"{at}[{i}]": members[i] for i in await self._gone_members(members)}
        if missing:
            raise UnknownReferenceError("member", missing)

    async def _check_segments(self, ids: Sequence[str]) -> bool:
        found = await self._segments.by_id(ids)
        missing = {
            f"campaign.segment_ids[{i}]": id_
            for i, id_ in enumerate(ids)
            if not is_usable(found, id_)
        }
        if missing:
            raise UnknownReferenceError("segment", missing)
        kinds = {segment.of_channels for segment in found.values()}
        if len(kinds) > 1:
            raise InvalidInputError(
                "campaign.segment_ids", "segments of users and of channels can't be mixed"
            )
        return True in kinds

    async def _gone_sender(self, sender_id: str) -> bool:
        sender = (await self._chat.users.by_id([sender_id])).get(sender_id)
        return bool(sender is None or sender.deleted_at or sender.deactivated_at)

    async def _gone_members(self, user_ids: Sequence[str]) -> list[int]:
        """Returns the indexes in `user_ids` of unknown or deleted users."""
        if not user_ids:
            return []
        found = await self._chat.users.by_id(user_ids)
        return [i for i, id_ in enumerate(user_ids) if id_ not in found or found[id_].deleted_at]


def _members(spec: CampaignSpec) -> list[str]:
    template = spec.channel_template
    return [member.user_id for member in template.extra_members] if template else []


def _members_field(template: ChannelTemplate | None) -> str:
    name = "members" if template and template.members else "members_template"
    return f"campaign.channel_template.{name}"
