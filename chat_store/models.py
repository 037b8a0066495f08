"""The records of the chat store: users, channels, members, messages, devices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

Json = Mapping[str, Any]

Values = Mapping[str, Sequence[Any]]
"""Records by column: each column's name with one value per record."""

# limit of a record's custom object, as compact JSON
MAX_CUSTOM_BYTES = 5 * 1024

# limit of all strings of a record together, as UTF-8: with its custom objects, a record is then
# smaller than 200 KiB as a protobuf message, and fits into a response with a campaign of 3.5 MiB
MAX_TEXTS_BYTES = 128 * 1024

# limit of a message's attachments, as compact JSON; a protobuf message takes up to 5.5 times that
MAX_ATTACHMENTS_BYTES = 512 * 1024

# overhead of a short string in a list of a protobuf message
_ITEM_BYTES = 3


class WriteMode(StrEnum):
    """How a write treats a record whose id is taken."""

    REPLACE = "replace"
    INSERT = "insert"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person or a bot. `deleted_at` marks a soft deletion: the row stays."""

    id: str
    name: str | None = None
    username: str | None = None
    email: str | None = None
    role: str = "user"
    language: str | None = None
    image: str | None = None
    teams: tuple[str, ...] = ()
    custom: Json = field(default_factory=dict)
    banned: bool = False
    shadow_banned: bool = False
    push_preferences: Json = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    last_active: datetime | None = None
    deactivated_at: datetime | None = None
    deleted_at: datetime | None = None


class UserState(IntEnum):
    ACTIVE = 0
    DEACTIVATED = 1
    DELETED = 2


class PickedUser(NamedTuple):
    """The requested fields of a user, in the order requested: a light form for millions."""

    state: UserState
    values: Sequence[Any]


class ChannelState(IntEnum):
    """Whether a channel takes messages and members. The last state wins if several apply."""

    OPEN = 0
    DISTINCT = 1
    """Takes messages, but no new members: its members are its identity."""
    FROZEN = 2
    """Or disabled."""
    DELETED = 3


class PickedChannel(NamedTuple):
    """The requested fields of a channel, in the order requested: a light form for millions."""

    cid: str
    state: ChannelState
    values: Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A conversation, named by its CID `type:id`.

    `distinct` channels are identified by their members (see `distinct_channels`). The store
    keeps the two counts and ignores them on input.
    """

    type: str
    id: str
    name: str | None = None
    team: str | None = None
    created_by_id: str | None = None
    custom: Json = field(default_factory=dict)
    filter_tags: tuple[str, ...] = ()
    frozen: bool = False
    disabled: bool = False
    distinct: bool = False
    member_count: int = 0
    message_count: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    last_message_at: datetime | None = None
    deleted_at: datetime | None = None

    @property
    def cid(self) -> str:
        return cid_of(self.type, self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A user's membership of a channel. `hidden` and `archived_at` apply to that user alone."""

    cid: str
    user_id: str
    channel_role: str = "channel_member"
    custom: Json = field(default_factory=dict)
    hidden: bool = False
    archived_at: datetime | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of `user_id` in the channel `cid`.

    `target_id` is the campaign target that it was sent to. It is set exactly if `campaign_id` is.
    """

    id: str
    cid: str
    user_id: str
    type: str = "regular"
    text: str = ""
    attachments: tuple[Json, ...] = ()
    poll_id: str | None = None
    custom: Json = field(default_factory=dict)
    searchable: bool = False
    campaign_id: str | None = None
    target_id: str | None = None
    created_at: datetime | None = None


class PushProvider(StrEnum):
    """A push notification service, by its name in imports."""

    FIREBASE = "firebase"
    APN = "apn"
    HUAWEI = "huawei"
    XIAOMI = "xiaomi"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device that receives push notifications of `user_id`. `id` is the provider's token.

    `push_provider_name` names one of several configurations of the provider, or is empty. Devices
    with the same `hardware_id` are one phone. The store alone sets `disabled` and its reason.
    """

    id: str
    user_id: str
    push_provider: PushProvider
    push_provider_name: str = ""
    hardware_id: str = ""
    disabled: bool = False
    disabled_reason: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberDevices:
    """A member of a channel who has devices. `is_active`: neither deactivated nor deleted."""

    cid: str
    user_id: str
    is_active: bool
    push_preferences: Json
    devices: tuple[Device, ...]


def texts_bytes(record: User | Channel | Member | Message | Device) -> int:
    """Returns how many bytes of `MAX_TEXTS_BYTES` the record takes."""
    total = 0
    for name in record.__slots__:
        value = getattr(record, name)
        if isinstance(value, str):
            total += len(value.encode())
        elif isinstance(value, tuple):
            total += sum(len(item.encode()) + _ITEM_BYTES for item in value if type(item) is str)
    return total


def cid_of(channel_type: str, channel_id: str) -> str:
    return f"{channel_type}:{channel_id}"
