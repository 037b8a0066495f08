"""Converts the templates that callers write between messages and dataclasses."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from google.protobuf.struct_pb2 import Struct

from campaign_service.campaigns.limits import MAX_ATTACHMENTS_BYTES, MAX_TEXT
from campaign_service.campaigns.model import ChannelTemplate, MemberTemplate, MessageTemplate
from chat_store.errors import InvalidInputError, LimitExceededError
from chat_store.ids import MAX_ID
from herald.campaign.v1 import campaign_pb2 as pb
from herald_rpc.wire.fields import check_depth, ids, required, small, text
from herald_rpc.wire.structs import json_object, json_objects, to_struct

MAX_ATTACHMENTS = 30
MAX_MEMBERS = 1_000
MAX_TYPE = 64


def message_template(message: pb.Campaign) -> MessageTemplate:
    """Reads the message template. Raises for the first field that breaks a rule."""
    at = "campaign.message_template"
    if not message.HasField("message_template"):
        raise InvalidInputError(at, "is required")
    template = message.message_template
    return MessageTemplate(
        text=required(template.text, f"{at}.text", MAX_TEXT),
        attachments=_attachments(template.attachments, f"{at}.attachments"),
        poll_id=text(template.poll_id, f"{at}.poll_id") or None,
        custom=_custom(template.custom, f"{at}.custom"),
        searchable=template.searchable,
    )


def message_template_to_proto(template: MessageTemplate) -> pb.MessageTemplate:
    return pb.MessageTemplate(
        text=template.text,
        attachments=[to_struct(attachment) for attachment in template.attachments],
        poll_id=template.poll_id or "",
        custom=to_struct(template.custom),
        searchable=template.searchable,
    )


def channel_template(message: pb.ChannelTemplate) -> ChannelTemplate:
    """Reads a channel template. Raises for the first field that breaks a rule."""
    at = "campaign.channel_template"
    if len(message.members_template) > MAX_MEMBERS:
        raise LimitExceededError(
            f"{at}.members_template", limit=MAX_MEMBERS, given=len(message.members_template)
        )
    return ChannelTemplate(
        type=required(message.type, f"{at}.type", MAX_TYPE),
        id=text(message.id, f"{at}.id") or None,
        team=text(message.team, f"{at}.team") or None,
        custom=_custom(message.custom, f"{at}.custom"),
        members=tuple(ids(message.members, f"{at}.members", MAX_MEMBERS, least=0)),
        members_template=tuple(
            MemberTemplate(
                user_id=required(member.user_id, f"{at}.members_template[{i}].user_id", MAX_ID),
                channel_role=text(
                    member.channel_role, f"{at}.members_template[{i}].channel_role", MAX_TYPE
                )
                or "channel_member",
                custom=_custom(member.custom, f"{at}.members_template[{i}].custom"),
            )
            for i, member in enumerate(message.members_template)
        ),
    )


def channel_template_to_proto(template: ChannelTemplate) -> pb.ChannelTemplate:
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


def _attachments(structs: Sequence[Struct], at: str) -> tuple[dict[str, Any], ...]:
    if len(structs) > MAX_ATTACHMENTS:
        raise LimitExceededError(at, limit=MAX_ATTACHMENTS, given=len(structs))
    attachments = json_objects(structs, at)
    for index, attachment in enumerate(attachments):
        check_depth(attachment, f"{at}[{index}]", around=1)
    size = len(orjson.dumps(attachments))
    if size > MAX_ATTACHMENTS_BYTES:
        raise LimitExceededError(at, limit=MAX_ATTACHMENTS_BYTES, given=size)
    return attachments


def _custom(struct: Struct, at: str) -> Mapping[str, Any]:
    return small(json_object(struct, at), at)
