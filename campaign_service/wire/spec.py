"""Converts the part of a campaign that callers write between message and dataclass."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from google.protobuf.field_mask_pb2 import FieldMask

from campaign_service.campaigns.limits import MAX_CAMPAIGN_BYTES, MAX_NAME
from campaign_service.campaigns.model import CampaignSpec, SenderMode, SenderVisibility
from campaign_service.wire.template import (
    channel_template,
    channel_template_to_proto,
    message_template,
    message_template_to_proto,
)
from chat_store.errors import InvalidInputError, LimitExceededError
from chat_store.ids import MAX_ID, user_target_problem
from herald.campaign.v1 import campaign_pb2 as pb
from herald.campaign.v1 import campaign_service_pb2 as service_pb
from herald_rpc.wire.fields import ids, refuse, required, text

K = TypeVar("K")
T = TypeVar("T")

MAX_SEGMENTS = 25
MAX_USERS = 10_000

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
_FIELDS = (
    "name",
    "description",
    "sender_id",
    "segment_ids",
    "user_ids",
    "sender_mode",
    "sender_visibility",
    "message_template",
    "create_channels",
    "show_channels",
    "channel_template",
    "skip_push",
    "skip_webhook",
    "max_messages_per_second",
)
_TEMPLATES = {
    "message_template": pb.MessageTemplate.DESCRIPTOR,
    "channel_template": pb.ChannelTemplate.DESCRIPTOR,
}


def spec_from_proto(message: pb.Campaign) -> CampaignSpec:
    """Reads the spec. Raises for the first field that breaks a rule; skips output-only fields."""
    if message.max_messages_per_second < 0:
        raise InvalidInputError("campaign.max_messages_per_second", "must not be negative")
    segments = ids(message.segment_ids, "campaign.segment_ids", MAX_SEGMENTS, least=0)
    users = ids(message.user_ids, "campaign.user_ids", MAX_USERS, least=0)
    for index, user_id in enumerate(users):
        refuse(user_target_problem(user_id), f"campaign.user_ids[{index}]")
    spec = CampaignSpec(
        name=text(message.name, "campaign.name", MAX_NAME),
        description=text(message.description, "campaign.description"),
        sender_id=required(message.sender_id, "campaign.sender_id", MAX_ID),
        segment_ids=tuple(dict.fromkeys(segments)),
        user_ids=tuple(dict.fromkeys(users)),
        sender_mode=_known(_MODES, message.sender_mode, "campaign.sender_mode"),
        sender_visibility=_known(
            _VISIBILITIES, message.sender_visibility, "campaign.sender_visibility"
        ),
        message_template=message_template(message),
        create_channels=message.create_channels,
        show_channels=message.show_channels,
        channel_template=channel_template(message.channel_template)
        if message.HasField("channel_template")
        else None,
        skip_push=message.skip_push,
        skip_webhook=message.skip_webhook,
        max_messages_per_second=message.max_messages_per_second,
    )
    size = spec_to_proto(spec).ByteSize()
    if size > MAX_CAMPAIGN_BYTES:
        raise LimitExceededError("campaign", limit=MAX_CAMPAIGN_BYTES, given=size)
    return spec


def change_from_proto(
    request: service_pb.UpdateCampaignRequest,
) -> Callable[[CampaignSpec], CampaignSpec]:
    """Returns a function from the stored spec to the changed one. Raises for an invalid path."""
    paths = list(request.update_mask.paths)
    if not paths or "*" in paths:
        replaced = spec_from_proto(request.campaign)
        return lambda _: replaced
    for path in paths:
        if not _can_change(path):
            raise InvalidInputError("update_mask", f"{path!r} can't be changed")
    mask = FieldMask(paths=paths)

    def changed(stored: CampaignSpec) -> CampaignSpec:
        given, merged = pb.Campaign(), spec_to_proto(stored)
        given.CopyFrom(request.campaign)
        for path in paths:
            template, _, field = path.partition(".")
            if field:
                # merging would skip an unset template, instead of unsetting its field
                getattr(given, template).SetInParent()
        mask.MergeMessage(given, merged, replace_message_field=True, replace_repeated_field=True)
        return spec_from_proto(merged)

    return changed


def _can_change(path: str) -> bool:
    name, _, field = path.partition(".")
    if not field:
        return path in _FIELDS
    return name in _TEMPLATES and field in _TEMPLATES[name].fields_by_name


def spec_to_proto(spec: CampaignSpec) -> pb.Campaign:
    """Returns a campaign message with only the fields that its caller writes."""
    template = spec.channel_template
    modes = {value: key for key, value in _MODES.items()}
    visibilities = {value: key for key, value in _VISIBILITIES.items()}
    return pb.Campaign(
        name=spec.name,
        description=spec.description,
        sender_id=spec.sender_id,
        segment_ids=spec.segment_ids,
        user_ids=spec.user_ids,
        sender_mode=modes[spec.sender_mode],
        sender_visibility=visibilities[spec.sender_visibility],
        message_template=message_template_to_proto(spec.message_template),
        create_channels=spec.create_channels,
        show_channels=spec.show_channels,
        channel_template=channel_template_to_proto(template) if template else None,
        skip_push=spec.skip_push,
        skip_webhook=spec.skip_webhook,
        max_messages_per_second=spec.max_messages_per_second,
    )


def _known(values: Mapping[K, T], value: K, field: str) -> T:
    if value not in values:
        raise InvalidInputError(field, f"unknown value {value}")
    return values[value]
