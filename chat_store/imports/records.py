"""Reads and checks one line of an import in the Stream format, and collects its references."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from chat_store.distinct_channels import distinct_channel_id, is_distinct, user_id_problem
from chat_store.ids import CHANNEL_ID, CHANNEL_TYPE, MAX_CHANNEL_TYPE, MAX_CID, MAX_ID
from chat_store.imports.fields import Fields, RecordError
from chat_store.models import (
    MAX_TEXTS_BYTES,
    Channel,
    Device,
    Member,
    Message,
    PushProvider,
    User,
    cid_of,
    texts_bytes,
)

MAX_LINE_BYTES = 4 * 1024 * 1024
MAX_TEAMS, MAX_TEAM_BYTES = 250, 100
MAX_MEMBERS = 1_000
MAX_TEXT = 20_000
MAX_ATTACHMENTS = 30
MAX_ROLE = 64
MAX_TYPE = 64

_MESSAGE_ID = re.compile(r"[^,%]*")
_MESSAGE_TYPES = ("regular", "reply", "deleted", "system")

_INTERNAL_KEYS = ("app_pk", "pk")
_PASSED_OVER = {
    "user": (
        "teams_role invisible blocked_user_ids channel_mutes user_mutes privacy_settings "
        "push_notifications updated_at"
    ).split(),
    "device": (),
    "channel": (
        "banned_users truncated_at updated_at distinct member_count message_count deleted_at"
    ).split(),
    "member": (
        "invited invite_accepted_at invited_accepted_at invite_rejected_at hide_messages_before "
        "is_moderator"
    ).split(),
    "message": (
        "html parent_id show_in_channel mentioned_users_ids mentioned_roles mentioned_channel "
        "mentioned_here quoted_message_id restricted_visibility pinned_at pinned_by_id pin_expires "
        "updated_at"
    ).split(),
}
_RESERVED = {
    "user": (*_INTERNAL_KEYS, "user_pk", "online"),
    "device": _INTERNAL_KEYS,
    "channel": (*_INTERNAL_KEYS, "last_message_at", "cid", "created_by_pk", "members", "config"),
    "member": _INTERNAL_KEYS,
    "message": (
        *_INTERNAL_KEYS,
        *(
            "tmp_id latest_reactions own_reactions reactions_count reply_count command "
            "quoted_message pinned_by"
        ).split(),
    ),
}


@dataclass(frozen=True, slots=True)
class Membership:
    """A member with the time up to which they have read; None means everything."""

    member: Member
    last_read: datetime | None


@dataclass(frozen=True, slots=True)
class Record:
    """An imported record. `user_ids` (field and id) and `cid` must exist before it is written."""

    value: User | Device | Channel | Membership | Message
    user_ids: tuple[tuple[str, str], ...] = ()
    cid: str | None = None


def read_line(line: bytes) -> tuple[str, Mapping[str, Any]]:
    """Returns the record's type and data, not checked any further."""
    if len(line) > MAX_LINE_BYTES:
        raise RecordError(f"line max length exceeded ({MAX_LINE_BYTES})")
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RecordError(f"invalid JSON: {error}") from None
    if not isinstance(record, dict):
        raise RecordError('a record is an object such as {"type": "user", "data": {…}}')
    type_, data = record.get("type"), record.get("data")
    if not isinstance(type_, str):
        raise RecordError("type required")
    if not isinstance(data, dict):
        raise RecordError("data required")
    # an unknown type is repeated in the list of errors, which is kept in memory
    return type_[:MAX_TYPE], data


def id_of(type_: str, data: Mapping[str, Any]) -> str:
    """Returns the record's id for the list of errors; empty if it can't be read."""
    id_ = data.get("user_id" if type_ in {"member", "channel_member"} else "id")
    if not isinstance(id_, str):
        return ""
    return (cid_of(str(data.get("type")), id_) if type_ == "channel" else id_)[:MAX_CID]


def read_record(type_: str, data: Mapping[str, Any]) -> Record:
    """Reads the record. Raises `RecordError` for the first rule that it breaks."""
    read = _READERS.get(type_)
    if read is None:
        raise RecordError(f'type "{type_}" is not imported')
    kind = type_.removeprefix("channel_")
    fields = Fields(kind, data)
    fields.refuse(_RESERVED[kind])
    record = read(fields)
    value = record.value.member if isinstance(record.value, Membership) else record.value
    if texts_bytes(value) > MAX_TEXTS_BYTES:
        raise RecordError(f"{kind} max size of all strings exceeded ({MAX_TEXTS_BYTES})")
    return record


def _user(fields: Fields) -> Record:
    id_ = fields.required("id", MAX_ID)
    if problem := user_id_problem(id_):
        raise RecordError(f"user.id {problem}")
    user = User(
        id=id_,
        name=fields.text("name"),
        username=fields.text("username"),
        email=fields.text("email"),
        role=fields.text("role") or "user",
        language=fields.text("language"),
        image=fields.text("image"),
        teams=fields.texts("teams", MAX_TEAMS, MAX_TEAM_BYTES),
        banned=fields.flag("banned"),
        shadow_banned=fields.flag("shadow_banned"),
        push_preferences=fields.small_object("push_preferences"),
        created_at=fields.time("created_at"),
        last_active=fields.time("last_active"),
        deactivated_at=fields.time("deactivated_at"),
        deleted_at=fields.time("deleted_at"),
        custom=_custom(fields),
    )
    return Record(user)


def _device(fields: Fields) -> Record:
    user_id = fields.required("user_id", MAX_ID)
    device = Device(
        id=fields.required("id", MAX_ID),
        user_id=user_id,
        push_provider=fields.choice("push_provider_type", PushProvider),
        push_provider_name=fields.text("push_provider_name") or "",
        hardware_id=fields.text("hardware_id", MAX_ID) or "",
        created_at=fields.time("created_at"),
    )
    return Record(device, (("user_id", user_id),))


def _channel(fields: Fields) -> Record:
    type_ = fields.required("type", MAX_CHANNEL_TYPE, CHANNEL_TYPE)
    id_, member_ids = _channel_id(fields, "id", "member_ids")
    created_by_id = fields.required("created_by", MAX_ID)
    channel = Channel(
        type=type_,
        id=id_,
        name=fields.text("name"),
        team=fields.text("team"),
        created_by_id=created_by_id,
        filter_tags=fields.texts("filter_tags", MAX_TEAMS, MAX_ID),
        frozen=fields.flag("frozen"),
        disabled=fields.flag("disabled"),
        distinct=is_distinct(id_),
        created_at=fields.time("created_at"),
        custom=_custom(fields),
    )
    users = (("created_by", created_by_id), *(("member_ids", member) for member in member_ids))
    needs_itself = channel.distinct and not member_ids
    return Record(channel, users, channel.cid if needs_itself else None)


def _member(fields: Fields) -> Record:
    cid, _ = _channel_of(fields)
    user_id = fields.required("user_id", MAX_ID)
    last_read = fields.time("last_read")
    member = Member(
        cid=cid,
        user_id=user_id,
        channel_role=fields.text("channel_role", MAX_ROLE) or "channel_member",
        hidden=fields.flag("hide_channel"),
        archived_at=fields.time("archived_at"),
        created_at=fields.time("created_at"),
        custom=_custom(fields),
    )
    return Record(Membership(member, last_read), (("user_id", user_id),), cid)


def _message(fields: Fields) -> Record:
    id_ = fields.required("id", MAX_ID, _MESSAGE_ID)
    cid, _ = _channel_of(fields)
    user_id = fields.required("user", MAX_ID)
    type_ = fields.text("type") or "regular"
    if type_ not in _MESSAGE_TYPES:
        raise RecordError(f'message.type invalid ("{"|".join(_MESSAGE_TYPES)}" allowed)')
    if type_ == "reply":
        fields.required("parent_id", MAX_ID)
    if (type_ == "deleted") != (fields.time("deleted_at") is not None):
        raise RecordError("message.deleted_at required if, and only if, message.type is deleted")
    message = Message(
        id=id_,
        cid=cid,
        user_id=user_id,
        type=type_,
        text=fields.text("text", MAX_TEXT) or "",
        attachments=fields.objects("attachments", MAX_ATTACHMENTS),
        poll_id=fields.text("poll_id"),
        searchable=True,
        created_at=fields.time("created_at"),
        custom=_custom(fields),
    )
    return Record(message, (("user", user_id),), cid)


_READERS: Mapping[str, Callable[[Fields], Record]] = {
    "user": _user,
    "device": _device,
    "channel": _channel,
    "member": _member,
    "channel_member": _member,
    "message": _message,
}


def _channel_of(fields: Fields) -> tuple[str, tuple[str, ...]]:
    """Returns the CID of a member's or message's channel, and the member ids that name it."""
    type_ = fields.required("channel_type", MAX_CHANNEL_TYPE, CHANNEL_TYPE)
    id_, member_ids = _channel_id(fields, "channel_id", "channel_member_ids")
    return cid_of(type_, id_), member_ids


def _channel_id(fields: Fields, id_name: str, members_name: str) -> tuple[str, tuple[str, ...]]:
    id_ = fields.text(id_name, MAX_ID, CHANNEL_ID)
    member_ids = fields.texts(members_name, MAX_MEMBERS, 4 * MAX_ID)
    if bool(id_) == bool(member_ids):
        kind = fields.kind
        raise RecordError(f"either {kind}.{id_name} or {kind}.{members_name} required")
    return id_ or distinct_channel_id(member_ids), member_ids


def _custom(fields: Fields) -> dict[str, Any]:
    fields.pass_over(_PASSED_OVER[fields.kind])
    return fields.custom()
