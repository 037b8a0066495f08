"""What the chat store promises, whatever database is behind it.

Every write is one transaction and durable when the call returns. Records travel as the frozen
dataclasses of `chat_store.models`; times are aware UTC. Of two given records with one id the last
counts. An unset `created_at` keeps the stored one, or is the time of the write.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from chat_store.filters.predicates import Predicate
from chat_store.models import (
    Channel,
    Device,
    Member,
    Message,
    PickedChannel,
    PickedUser,
    User,
    WriteMode,
)
from chat_store.paging import Page, PageRequest


class UserStore(Protocol):
    async def upsert(
        self, given: Sequence[User], now: datetime, mode: WriteMode = WriteMode.REPLACE
    ) -> list[User]:
        """Writes all or none, and answers what is stored now, in the order given.

        `updated_at`, `last_active`, `deactivated_at` and `deleted_at` are the store's own: who
        was deactivated or deleted stays so.
        """

    async def get(self, id_: str) -> User:
        """A deactivated or deleted one, too; else raises `UserNotFoundError`."""

    async def by_id(self, ids: Iterable[str]) -> Mapping[str, User]:
        """The users that exist, deactivated and deleted ones included."""

    async def pick(self, ids: Iterable[str], names: Sequence[str]) -> Mapping[str, PickedUser]:
        """As `by_id`, with these fields only."""

    async def query(
        self, predicate: Predicate, page: PageRequest, *, include_deactivated: bool = False
    ) -> Page[User]:
        """Deleted users are never found."""

    async def deactivate(self, ids: Sequence[str], now: datetime) -> int:
        """How many were active until now; unknown ids are passed over."""

    async def delete(self, ids: Sequence[str], now: datetime) -> int:
        """Soft: the row stays, `deleted_at` is set. How many were there until now."""


@dataclass(frozen=True, slots=True)
class ChannelDraft:
    """A channel to write, and who is in it if it is the write that creates it."""

    channel: Channel
    first_member_ids: Sequence[str] = ()
    named_by_members: bool = False


class ChannelStore(Protocol):
    async def upsert(
        self, given: Sequence[ChannelDraft], now: datetime, mode: WriteMode = WriteMode.REPLACE
    ) -> list[Channel]:
        """Writes all or none, and answers what is stored now, in the order given.

        Counts, `last_message_at`, `updated_at` and `deleted_at` are the store's own. Raises
        `UserNotFoundError` for a first member who is not there or deleted, and
        `ChannelNotFoundError` for a distinct channel that is not there and not named by its
        members.
        """

    async def get(self, cid: str) -> Channel:
        """A deleted one, too; else raises `ChannelNotFoundError`."""

    async def by_cid(self, cids: Iterable[str]) -> Mapping[str, Channel]:
        """The channels that exist, deleted ones included."""

    async def pick(self, cids: Iterable[str], names: Sequence[str]) -> Mapping[str, PickedChannel]:
        """The channels that exist, deleted ones included, with these fields of `Channel` alone."""

    async def between(
        self, user_id: str, others: Sequence[str], names: Sequence[str]
    ) -> Mapping[str, PickedChannel]:
        """By other user: the channel whose members are exactly these two, as `pick` has it.

        Deleted channels don't count. Of several it is the most recently active: by the last
        message or else the creation, then by CID.
        """

    async def query(self, predicate: Predicate, page: PageRequest) -> Page[Channel]:
        """Deleted channels are never found."""

    async def delete(self, cids: Sequence[str], now: datetime) -> int:
        """Soft. How many were there until now."""

    async def add_members(self, cid: str, given: Sequence[Member], now: datetime) -> int:
        """How many were not in yet; who is in stays as is.

        Raises `ChannelNotFoundError` and `UserNotFoundError` for what is not there or deleted.
        """

    async def remove_members(self, cid: str, user_ids: Sequence[str]) -> int:
        """How many were in; absent ones are no error.

        Raises `ChannelNotFoundError` for a channel that is not there or deleted.
        """

    async def query_members(self, cid: str, page: PageRequest) -> Page[Member]:
        """Raises `ChannelNotFoundError` for a CID that was never there."""


class MemberStore(Protocol):
    async def set_membership(
        self,
        cid: str,
        user_id: str,
        *,
        hidden: bool | None,
        archived: bool | None,
        now: datetime,
    ) -> Member:
        """The member after the change. None leaves a state as it is.

        Who is archived already keeps the time of it. Raises `ChannelNotFoundError` for a channel
        that is not there or deleted and `MemberNotFoundError` for who is not in it.
        """


@dataclass(frozen=True, slots=True)
class ReaderCount:
    """How many receivers of some of a campaign's messages have read up to theirs, or further.

    `reached` is the last of their targets; None if there is no message after them.
    """

    readers: int
    reached: str | None


class MessageStore(Protocol):
    async def upsert(
        self, given: Sequence[Message], now: datetime, mode: WriteMode = WriteMode.REPLACE
    ) -> None:
        """Writes all or none, and moves the channels' `message_count` and `last_message_at`."""

    async def in_channel(self, cid: str, page: PageRequest) -> Page[Message]:
        """Newest first, whatever `page.sort` says.

        Raises `ChannelNotFoundError` for a CID that was never there.
        """

    async def of_campaign(self, campaign_id: str, page: PageRequest) -> Page[Message]:
        """In target order, whatever `page.sort` says."""

    async def taken(self, campaign_id: str, ids: Mapping[str, str]) -> Collection[str]:
        """Those of the campaign's targets whose message would get the id of another message.

        `ids` has the id of each message by its target. The target's own message of the campaign
        is no other one.
        """

    async def count_readers(self, campaign_ids: Collection[str]) -> Mapping[str, int]:
        """How many receivers of each campaign have read up to their message, or further.

        By campaign; those without any are left out. Looks at every message of the campaigns.
        """

    async def count_readers_after(
        self, campaign_id: str, target_id: str, most_messages: int
    ) -> ReaderCount:
        """Of the campaign's next messages, in target order, after that of the target.

        The target may be empty, which comes before all others.
        """

    async def mark_read(self, cid: str, user_id: str, read_at: datetime) -> datetime:
        """Moves the member's read position, never back; answers where it is now.

        Raises `ChannelNotFoundError` for a channel that is not there or deleted and
        `MemberNotFoundError` for who is not in it.
        """


class DeviceStore(Protocol):
    async def upsert(
        self, given: Sequence[Device], now: datetime, mode: WriteMode = WriteMode.REPLACE
    ) -> list[Device]:
        """Writes all or none, and answers what is stored now, in the order given.

        Raises `UserNotFoundError` for the user of one that counts who is not there or deleted.
        """

    async def delete(self, ids: Sequence[str]) -> int:
        """For good. How many were there until now; unknown ids are passed over."""


@dataclass(frozen=True, slots=True)
class ImportBatch:
    """Records of an import, to be written at once; what they refer to is among them or stored.

    `last_read`: by CID and user id of members, up to when they have read. None: everything.
    """

    users: list[User] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    channels: list[Channel] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    last_read: dict[tuple[str, str], datetime | None] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)


class ImportStore(Protocol):
    async def known_users(self, ids: AbstractSet[str]) -> AbstractSet[str]:
        """Those that are stored, deleted ones included."""

    async def known_channels(self, cids: AbstractSet[str]) -> AbstractSet[str]:
        """Those that are stored, deleted ones included."""

    async def write(self, batch: ImportBatch, now: datetime, mode: WriteMode) -> None:
        """Writes all or none.

        Unlike an upsert it takes `last_active`, `deactivated_at` and `deleted_at` of users as
        they are given.
        """


@dataclass(frozen=True, slots=True)
class ChatStore:
    users: UserStore
    channels: ChannelStore
    members: MemberStore
    messages: MessageStore
    devices: DeviceStore
    imports: ImportStore
