"""Converts channels and members between messages and the chat store's values."""

from chat_store.distinct_channels import distinct_channel_id, is_distinct
from chat_store.errors import InvalidInputError
from chat_store.ids import MAX_CHANNEL_TYPE, MAX_ID, channel_id_problem, channel_type_problem
from chat_store.models import Channel, Member
from chat_store.store import ChannelDraft
from herald.chat.v1 import chat_pb2 as pb
from herald_rpc.wire.fields import ids, in_bounds, moment, refuse, required, small, text, timestamp
from herald_rpc.wire.structs import json_object, to_struct

MAX_FIRST_MEMBERS = 1_000
MAX_ROLE = 64


def channel_from_proto(message: pb.Channel, field: str) -> ChannelDraft:
    """Reads a channel. Raises for the first field that breaks a rule; skips output-only fields."""
    type_ = required(message.type, f"{field}.type", MAX_CHANNEL_TYPE)
    refuse(channel_type_problem(type_), f"{field}.type")
    member_ids = sorted(
        set(ids(message.member_ids, f"{field}.member_ids", MAX_FIRST_MEMBERS, least=0))
    )
    id_ = _channel_id(message.id, member_ids, field)
    channel = Channel(
        type=type_,
        id=id_,
        name=text(message.name, f"{field}.name") or None,
        team=text(message.team, f"{field}.team") or None,
        created_by_id=text(message.created_by_id, f"{field}.created_by_id", MAX_ID) or None,
        custom=small(json_object(message.custom, f"{field}.custom"), f"{field}.custom"),
        filter_tags=tuple(
            required(tag, f"{field}.filter_tags[{i}]") for i, tag in enumerate(message.filter_tags)
        ),
        frozen=message.frozen,
        disabled=message.disabled,
        distinct=is_distinct(id_),
        created_at=moment(message, "created_at", f"{field}.created_at"),
    )
    in_bounds(channel, field)
    return ChannelDraft(channel, member_ids, named_by_members=not message.id)


def _channel_id(id_: str, member_ids: list[str], field: str) -> str:
    """Returns the given id, or the id of the distinct channel of these members."""
    if id_:
        text(id_, f"{field}.id", MAX_ID)
        refuse(channel_id_problem(id_), f"{field}.id")
        return id_
    if not member_ids:
        raise InvalidInputError(f"{field}.id", "is required, unless member_ids name the channel")
    if len(member_ids) == 1:
        raise InvalidInputError(f"{field}.member_ids", "a channel can't be named by a single user")
    return distinct_channel_id(member_ids)


def channel_to_proto(channel: Channel) -> pb.Channel:
    return pb.Channel(
        cid=channel.cid,
        type=channel.type,
        id=channel.id,
        name=channel.name or "",
        team=channel.team or "",
        created_by_id=channel.created_by_id or "",
        custom=to_struct(channel.custom),
        filter_tags=channel.filter_tags,
        frozen=channel.frozen,
        disabled=channel.disabled,
        distinct=channel.distinct,
        member_count=channel.member_count,
        message_count=channel.message_count,
        created_at=timestamp(channel.created_at),
        updated_at=timestamp(channel.updated_at),
        last_message_at=timestamp(channel.last_message_at),
        deleted_at=timestamp(channel.deleted_at),
    )


def named_channel(channel: Channel) -> pb.Channel:
    """Returns a message with only the identity of the channel."""
    return pb.Channel(cid=channel.cid, type=channel.type, id=channel.id)


def new_member_from_proto(message: pb.Member, field: str, cid: str) -> Member:
    """Reads a new member of the channel `cid`: `user_id`, `channel_role` and `custom` only."""
    return Member(
        cid=cid,
        user_id=required(message.user_id, f"{field}.user_id", MAX_ID),
        channel_role=text(message.channel_role, f"{field}.channel_role", MAX_ROLE)
        or "channel_member",
        custom=small(json_object(message.custom, f"{field}.custom"), f"{field}.custom"),
    )


def member_to_proto(member: Member) -> pb.Member:
    return pb.Member(
        cid=member.cid,
        user_id=member.user_id,
        channel_role=member.channel_role,
        custom=to_struct(member.custom),
        hidden=member.hidden,
        archived_at=timestamp(member.archived_at),
        created_at=timestamp(member.created_at),
    )
