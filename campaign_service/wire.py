"""Campaigns between their message and the domain's value."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TypeVar

from campaign_service.campaigns import (
    Campaign,
    ChannelTemplate,
    Definition,
    MemberTemplate,
    MessageTemplate,
    SenderMode,
    SenderVisibility,
    Stats,
    Status,
)
from campaign_service.sandbox import MAX_TEXT
from chat_store.errors import InvalidInputError, LimitExceededError
from chat_store.models import User
from herald.campaign.v1 import campaign_pb2 as pb
from herald.campaign.v1 import campaign_service_pb2 as service_pb
from herald.segment.v1 import segment_pb2
from herald_wire.fields import MAX_ID, ids, required, small, text, timestamp
from herald_wire.structs import json_object, json_objects, to_struct
from herald_wire.users import user_to_proto

K = TypeVar("K")
T = TypeVar("T")

MAX_SEGMENTS = 25
MAX_USERS = 10_000
MAX_ATTACHMENTS = 30
MAX_MEMBERS = 1_000
MAX_TYPE = 64

_MODES: Mapping[pb.SenderMode.ValueType, SenderMode | None] = {
    pb.SENDER_MODE_UNSPECIFIED: None,
    pb.SENDER_MODE_EXCLUDE: SenderMode.EXCLUDE,
    pb.SENDER_MODE_INCLUDE: SenderMode.INCLUDE,
}
_VISIBILITIES: Mapping[pb.SenderVisibility.ValueType, SenderVisibility | None] = {
    pb.SENDER_VISIBILITY_UNSPECIFIED: None,
    pb.SENDER_VISIBILITY_HIDDEN: SenderVisibility.HIDDEN,
    pb.SENDER_VISIBILITY_ARCHIVED: SenderVisibility.ARCHIVED,
}
_STATUSES: Mapping[Status, pb.CampaignStatus.ValueType] = {
    status: pb.CampaignStatus.Value(f"CAMPAIGN_STATUS_{status.name}") for status in Status
}


def status_name(status: str) -> str:
    """A status as callers know it."""
    return pb.CampaignStatus.Name(_STATUSES[Status(status)])


def definition_from_proto(message: pb.Campaign) -> Definition:
    """Raises for the first field that breaks a rule. Output-only fields are passed over."""
    if message.max_messages_per_second:
        raise InvalidInputError(
            "campaign.max_messages_per_second", "is not supported yet: leave it at 0"
        )
    segments = ids(message.segment_ids, "campaign.segment_ids", MAX_SEGMENTS, least=0)
    users = ids(message.user_ids, "campaign.user_ids", MAX_USERS, least=0)
    return Definition(
        name=text(message.name, "campaign.name"),
        description=text(message.description, "campaign.description"),
        sender_id=required(message.sender_id, "campaign.sender_id", MAX_ID),
        segment_ids=tuple(dict.fromkeys(segments)),
        user_ids=tuple(dict.fromkeys(users)),
        sender_mode=_known(_MODES, message.sender_mode, "campaign.sender_mode"),
        sender_visibility=_known(
            _VISIBILITIES, message.sender_visibility, "campaign.sender_visibility"
        ),
        message_template=_message_template(message),
        create_channels=message.create_channels,
        show_channels=message.show_channels,
        channel_template=_channel_template(message.channel_template)
        if message.HasField("channel_template")
        else None,
        skip_push=message.skip_push,
        skip_webhook=message.skip_webhook,
    )


def started_from_proto(request: service_pb.StartCampaignRequest) -> str:
    """The campaign to start at once. Raises for a time, which nothing would look at yet."""
    for name in ("scheduled_for", "stop_at"):
        if request.HasField(name):
            raise InvalidInputError(name, "is not supported yet: leave it unset")
    return required(request.id, "id", MAX_ID)


def campaign_to_proto(
    campaign: Campaign,
    sender: User | None,
    segments: Mapping[str, segment_pb2.Segment],
    now: datetime,
) -> pb.Campaign:
    definition = campaign.definition
    template = definition.channel_template
    written = campaign.revision > 0
    modes = {value: key for key, value in _MODES.items()}
    visibilities = {value: key for key, value in _VISIBILITIES.items()}
    return pb.Campaign(
        id=campaign.id,
        name=definition.name,
        description=definition.description,
        status=_STATUSES[campaign.status],
        status_reason=campaign.status_reason,
        sender_id=definition.sender_id,
        sender=user_to_proto(sender) if sender else None,
        segment_ids=definition.segment_ids,
        user_ids=definition.user_ids,
        segments=[segments.get(id_, segment_pb2.Segment(id=id_)) for id_ in definition.segment_ids],
        sender_mode=modes[definition.sender_mode],
        sender_visibility=visibilities[definition.sender_visibility],
        message_template=_message_template_to_proto(definition.message_template),
        create_channels=definition.create_channels,
        show_channels=definition.show_channels,
        channel_template=_channel_template_to_proto(template) if template else None,
        skip_push=definition.skip_push,
        skip_webhook=definition.skip_webhook,
        stats=_stats_to_proto(campaign, now),
        created_at=timestamp(campaign.created_at if written else None),
        updated_at=timestamp(campaign.updated_at if written else None),
        deleted_at=timestamp(campaign.deleted_at),
        etag=str(campaign.revision) if written else "",
    )


def _message_template(message: pb.Campaign) -> MessageTemplate:
    at = "campaign.message_template"
    if not message.HasField("message_template"):
        raise InvalidInputError(at, "is required")
    template = message.message_template
    if len(template.attachments) > MAX_ATTACHMENTS:
        raise LimitExceededError(
            f"{at}.attachments", limit=MAX_ATTACHMENTS, given=len(template.attachments)
        )
    return MessageTemplate(
        text=required(template.text, f"{at}.text", MAX_TEXT),
        attachments=json_objects(template.attachments, f"{at}.attachments"),
        poll_id=text(template.poll_id, f"{at}.poll_id") or None,
        custom=small(json_object(template.custom, f"{at}.custom"), f"{at}.custom"),
        searchable=template.searchable,
    )


def _message_template_to_proto(template: MessageTemplate) -> pb.MessageTemplate:
    return pb.MessageTemplate(
        text=template.text,
        attachments=[to_struct(attachment) for attachment in template.attachments],
        poll_id=template.poll_id or "",
        custom=to_struct(template.custom),
        searchable=template.searchable,
    )


def _channel_template(message: pb.ChannelTemplate) -> ChannelTemplate:
    at = "campaign.channel_template"
    if len(message.members_template) > MAX_MEMBERS:
        raise LimitExceededError(
            f"{at}.members_template", limit=MAX_MEMBERS, given=len(message.members_template)
        )
    return ChannelTemplate(
        type=required(message.type, f"{at}.type", MAX_TYPE),
        id=text(message.id, f"{at}.id") or None,
        team=text(message.team, f"{at}.team") or None,
        custom=small(json_object(message.custom, f"{at}.custom"), f"{at}.custom"),
        members=tuple(ids(message.members, f"{at}.members", MAX_MEMBERS, least=0)),
        members_template=tuple(
            MemberTemplate(
                user_id=required(member.user_id, f"{at}.members_template[{i}].user_id", MAX_ID),
                channel_role=text(
                    member.channel_role, f"{at}.members_template[{i}].channel_role", MAX_TYPE
                )
                or "channel_member",
                custom=small(
                    json_object(member.custom, f"{at}.members_template[{i}].custom"),
                    f"{at}.members_template[{i}].custom",
                ),
            )
            for i, member in enumerate(message.members_template)
        ),
    )


def _channel_template_to_proto(template: ChannelTemplate) -> pb.ChannelTemplate:
    return pb.ChannelTemplate(
        type=template.type,
        id=template.id or "",
        team=template.team or "",
        custom=to_struct(template.custom),
        members=template.members,
        members_template=[
            pb.MemberTemplate(
                user_id=member.user_id,
                channel_role=member.channel_role,
                custom=to_struct(member.custom),
            )
            for member in template.members_template
        ],
    )


def _stats_to_proto(campaign: Campaign, now: datetime) -> pb.CampaignStats:
    stats = campaign.stats
    rate = _messages_per_second(campaign, now)
    return pb.CampaignStats(
        started_at=timestamp(stats.started_at),
        completed_at=timestamp(stats.completed_at),
        targets_total=stats.targets_total,
        messages_sent=stats.messages_sent,
        users_sent=0 if campaign.to_channels else stats.messages_sent,
        channels_created=stats.channels_created,
        targets_skipped=stats.targets_skipped,
        targets_failed=stats.targets_failed,
        progress=stats.progress,
        messages_per_second=rate,
        estimated_completion_at=timestamp(_estimated_completion(campaign, stats, rate, now)),
    )


def _messages_per_second(campaign: Campaign, now: datetime) -> float:
    stats = campaign.stats
    if stats.started_at is None or campaign.status not in (Status.IN_PROGRESS, Status.COMPLETED):
        return 0.0
    seconds = ((stats.completed_at or now) - stats.started_at).total_seconds()
    return stats.messages_sent / seconds if seconds > 0 else 0.0


def _estimated_completion(
    campaign: Campaign, stats: Stats, rate: float, now: datetime
) -> datetime | None:
    if campaign.status is not Status.IN_PROGRESS or rate <= 0:
        return None
    left = max(0, stats.targets_total - stats.targets_handled)
    return now + timedelta(seconds=left / rate)


def _known(values: Mapping[K, T], value: K, field: str) -> T:
    if value not in values:
        raise InvalidInputError(field, f"no value {value}")
    return values[value]
