"""The ports of the chat store, the same on every database.

Every write is one transaction and durable when the call returns. Records are the frozen
dataclasses of `chat_store.models`; times are aware UTC. If two given records have the same id,
the last one counts. An unset `created_at` keeps the stored one, or becomes the time of the write.
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
    MemberDevices,
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
        """Writes all or none. Returns the stored records, in the order given.

        The store alone sets `updated_at`, `last_active`, `deactivated_at` and `deleted_at`:
        deactivated users stay so. Raises `InvalidInputError` instead of replacing a deleted one.
        """

    async def get(self, id_: str) -> User:
        """Returns the user, also a deactivated or deleted one. Raises `UserNotFoundError`."""

    async def by_id(self, ids: Iterable[str]) -> Mapping[str, User]:
        """Returns the users that exist, deactivated and deleted ones included."""

    async def pick(self, ids: Iterable[str], names: Sequence[str]) -> Mapping[str, PickedUser]:
        """Does as `by_id`, with these fields only."""

    async def query(
        self, predicate: Predicate, page: PageRequest, *, include_deactivated: bool = False
    ) -> Page[User]:
        """Returns a page of users, never deleted ones."""

    async def deactivate(self, ids: Sequence[str], now: datetime) -> int:
        """Returns how many were active until now. Skips unknown ids."""

    async def reactivate(self, ids: Sequence[str], now: datetime) -> int:
        """Returns how many were deactivated until now. Skips unknown and deleted ones."""

    async def restore(self, ids: Sequence[str], now: datetime) -> int:
        """Clears `deleted_at`. Returns how many were deleted until now."""

    async def delete(self, ids: Sequence[str], now: datetime) -> int:
        """Sets `deleted_at`; the row stays. Returns how many were not deleted until now."""


@dataclass(frozen=True, slots=True)
class ChannelDraft:
    """A channel to write. `first_member_ids` are its members if this write creates it."""

    channel: Channel
    first_member_ids: Sequence[str] = ()
    named_by_members: bool = False


class ChannelStore(Protocol):
    async def upsert(
        self, given: Sequence[ChannelDraft], now: datetime, mode: WriteMode = WriteMode.REPLACE
    ) -> list[Channel]:
        """Writes all or none. Returns the stored records, in the order given.

        The store alone sets the counts, `last_message_at`, `updated_at` and `deleted_at`. Raises
        `UserNotFoundError` for a first member who is missing or deleted, and
        `ChannelNotFoundError` for a missing distinct channel that is not given by its members.
        """

    async def get(self, cid: str) -> Channel:
        """Returns the channel, also a deleted one. Raises `ChannelNotFoundError`."""

    async def by_cid(self, cids: Iterable[str]) -> Mapping[str, Channel]:
        """Returns the channels that exist, deleted ones included."""

    async def pick(self, cids: Iterable[str], names: Sequence[str]) -> Mapping[str, PickedChannel]:
        """Does as `by_cid`, with these fields only."""

    async def between(
        self, user_id: str, others: Sequence[str], names: Sequence[str]
    ) -> Mapping[str, PickedChannel]:
        """Returns, by other user, the channel whose members are exactly the two, as `pick` does.

        Deleted channels don't count. The most recently active channel wins if there are several:
        by the last message or else the creation, then by CID.
        """

    async def members_among(
        self, cids: Sequence[str], user_ids: Sequence[str]
    ) -> Collection[tuple[str, str]]:
        """Those pairs, of a channel and a user each, in which the user is a member."""

    async def query(self, predicate: Predicate, page: PageRequest) -> Page[Channel]:
        """Returns a page of channels, never deleted ones."""

    async def delete(self, cids: Sequence[str], now: datetime) -> int:
        """Sets `deleted_at`. Returns how many were not deleted until now."""

    async def add_members(self, cid: str, given: Sequence[Member], now: datetime) -> int:
        """Returns how many members are new. Existing members stay as they are.

        Raises `ChannelNotFoundError` and `UserNotFoundError` for missing or deleted ones.
        """

    async def remove_members(self, cid: str, user_ids: Sequence[str]) -> int:
        """Returns how many were members. Skips users who are not.

        Raises `ChannelNotFoundError` for a missing or deleted channel.
        """

    async def query_members(self, cid: str, page: PageRequest) -> Page[Member]:
        """Returns a page of members. Raises `ChannelNotFoundError` for an unknown CID."""


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
        """Returns the member after the change. None leaves a state as it is.

        A member archived before keeps the time of that. Raises `ChannelNotFoundError` for a
        missing or deleted channel, and `MemberNotFoundError` for a user who is not in it.
        """

    async def first_of(self, cids: Collection[str], most: int) -> Mapping[str, Sequence[Member]]:
        """By CID, the first `most` members by user id; channels without any are left out."""


@dataclass(frozen=True, slots=True)
class ReaderCount:
    """The number of receivers of a batch of a campaign's messages who have read theirs.

    `reached` is the last target of the batch; None if no message follows the batch.
    """

    readers: int
    reached: str | None


class MessageStore(Protocol):
    async def upsert(
        self, given: Sequence[Message], now: datetime, mode: WriteMode = WriteMode.REPLACE
    ) -> None:
        """Writes all or none, and updates the channels' `message_count` and `last_message_at`."""

    async def in_channel(self, cid: str, page: PageRequest) -> Page[Message]:
        """Returns messages newest first; ignores `page.sort`.

        Raises `ChannelNotFoundError` for an unknown CID.
        """

    async def of_campaign(self, campaign_id: str, page: PageRequest) -> Page[Message]:
        """Returns messages in target order; ignores `page.sort`."""

    async def of_targets(
        self, campaign_id: str, target_ids: Collection[str]
    ) -> Mapping[str, Message]:
        """The campaign's messages to these targets, by target."""

    async def taken(self, campaign_id: str, ids: Mapping[str, str]) -> Collection[str]:
        """Returns the targets of the campaign whose message id belongs to another message.

        `ids` maps each target to the id of its message. A message that the campaign has sent to
        the same target is not another message.
        """

    async def count_readers(self, campaign_ids: Collection[str]) -> Mapping[str, int]:
        """Returns, by campaign, how many receivers have read up to their message or further.

        Leaves out campaigns without readers. Reads every message of the campaigns.
        """

    async def count_readers_after(
        self, campaign_id: str, target_id: str, most_messages: int
    ) -> ReaderCount:
        """Counts readers of the next `most_messages` messages after the target, in target order.

        An empty target comes before all others.
        """

    async def mark_read(self, cid: str, user_id: str, read_at: datetime) -> datetime:
        """Moves the member's read position, never back. Returns the position after that.

        Raises `ChannelNotFoundError` for a missing or deleted channel, and `MemberNotFoundError`
        for a user who is not in it.
        """


class DeviceStore(Protocol):
    async def upsert(
        self, given: Sequence[Device], now: datetime, mode: WriteMode = WriteMode.REPLACE
    ) -> list[Device]:
        """Writes all or none. Returns the stored records, in the order given.

        A device that is replaced is enabled again. Raises `UserNotFoundError` if the user of a
        device is missing or deleted. A device that a later one with the same id replaces is not
        checked.
        """

    async def of_members(
        self, cids: Collection[str], after: tuple[str, str], most: int
    ) -> Sequence[MemberDevices]:
        """Returns the next `most` members with devices, by CID and user id.

        `after` is the CID and the user id of the last one before; two empty strings begin.
        """

    async def disable(self, reasons: Mapping[str, str]) -> int:
        """Disables devices, each with its reason. Returns how many were enabled until now."""

    async def delete(self, ids: Sequence[str]) -> int:
        """Deletes for good. Returns how many existed; skips unknown ids."""


@dataclass(frozen=True, slots=True)
class ImportBatch:
    """Records of an import, written together. All that they refer to is among them or stored.

    `last_read` maps CID and user id of members to the time up to which they have read; None means
    that they have read everything.
    """

    users: list[User] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    channels: list[Channel] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    last_read: dict[tuple[str, str], datetime | None] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)

    @property
    def cids(self) -> AbstractSet[str]:
        """The CIDs of all channels whose records or counts it changes."""
        return {
            *(channel.cid for channel in self.channels),
            *(member.cid for member in self.members),
            *(message.cid for message in self.messages),
        }

    @property
    def records(self) -> int:
        """How many there are."""
        of_users = len(self.users) + len(self.devices)
        return of_users + len(self.channels) + len(self.members) + len(self.messages)


class ImportStore(Protocol):
    async def known_users(self, ids: AbstractSet[str]) -> AbstractSet[str]:
        """Returns the ids that are stored, those of deleted users included."""

    async def known_channels(self, cids: AbstractSet[str]) -> AbstractSet[str]:
        """Returns the CIDs that are stored, those of deleted channels included."""

    async def write(self, batch: ImportBatch, now: datetime, mode: WriteMode) -> None:
        """Writes all or none.

        Unlike an upsert, it stores the users' given `last_active`, `deactivated_at` and
        `deleted_at`.
        """


@dataclass(frozen=True, slots=True)
class ChatStore:
    users: UserStore
    channels: ChannelStore
    members: MemberStore
    messages: MessageStore
    devices: DeviceStore
    imports: ImportStore
