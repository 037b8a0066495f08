"""Whether what a campaign names is there: its sender, extra members and segments."""

from collections.abc import Mapping

from campaign_service.campaigns import Definition
from campaign_service.errors import ReferenceGoneError, UnknownReferenceError
from campaign_service.segment_client import SegmentClient
from chat_store.errors import InvalidInputError
from chat_store.store import ChatStore
from herald.segment.v1 import segment_pb2


class References:
    def __init__(self, chat: ChatStore, segments: SegmentClient) -> None:
        self._chat = chat
        self._segments = segments

    async def check_written(self, definition: Definition) -> bool:
        """Whether the audience is channels. Raises `UnknownReferenceError` at the field."""
        missing = await self._missing_user(definition)
        if missing is not None:
            raise UnknownReferenceError(*missing)
        found = await self._segments.segments(definition.segment_ids)
        for index, id_ in enumerate(definition.segment_ids):
            if not _usable(found, id_):
                raise UnknownReferenceError(f"campaign.segment_ids[{index}]", "segment", id_)
        types = {segment.type for segment in found.values()}
        if len(types) > 1:
            raise InvalidInputError(
                "campaign.segment_ids", "segments of users and of channels can't be mixed"
            )
        return segment_pb2.SEGMENT_TYPE_CHANNEL in types

    async def check_at_start(self, definition: Definition) -> None:
        """Raises `ReferenceGoneError`."""
        missing = await self._missing_user(definition)
        if missing is not None:
            _, kind, id_ = missing
            raise ReferenceGoneError(kind, id_)
        found = await self._segments.segments(definition.segment_ids)
        for id_ in definition.segment_ids:
            if not _usable(found, id_):
                raise ReferenceGoneError("segment", id_)

    async def _missing_user(self, definition: Definition) -> tuple[str, str, str] | None:
        template = definition.channel_template
        members = [member.user_id for member in template.extra_members] if template else []
        found = await self._chat.users.by_id([definition.sender_id, *members])
        sender = found.get(definition.sender_id)
        if sender is None or sender.deleted_at or sender.deactivated_at:
            return "campaign.sender_id", "sender", definition.sender_id
        name = "members" if template and template.members else "members_template"
        for index, user_id in enumerate(members):
            if user_id not in found or found[user_id].deleted_at:
                return f"campaign.channel_template.{name}[{index}]", "member", user_id
        return None


def _usable(found: Mapping[str, segment_pb2.Segment], segment_id: str) -> bool:
    return segment_id in found and not found[segment_id].HasField("deleted_at")
