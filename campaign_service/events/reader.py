"""Reads events from the log, with their payloads."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from campaign_service.campaigns.events import (
    OF_PAGES,
    Event,
    EventRef,
    EventType,
    LogEntry,
    Offset,
    event_id,
)
from campaign_service.campaigns.ids import message_id, message_id_prefix
from campaign_service.events.payloads import (
    Json,
    campaign_payload,
    channel_payload,
    members_json,
    message_payload,
    user_json,
    webhook_payload,
)
from campaign_service.storage.event_ports import EventLog, LogEnds
from chat_store.models import Channel, Member, Message
from chat_store.store import ChatStore

# pages of up to 10,000 targets each, which are read whole
_ENTRIES_AT_ONCE = 8
# the order in which the original lists them
_MOST_MEMBERS = 50


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events are wanted. No types: all. `pushed`: for push notifications."""

    types: Collection[str] = ()
    campaign_id: str | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    pushed: bool = False

    def takes(self, entry: LogEntry) -> bool:
        return (self.not_before is None or entry.created_at >= self.not_before) and (
            self.not_after is None or entry.created_at < self.not_after
        )


class EventReader:
    def __init__(self, log: EventLog, chat: ChatStore) -> None:
        self._log = log
        self._chat = chat

    async def ends(self) -> LogEnds:
        return await self._log.ends()

    async def read(
        self, start: Offset, end: Offset, selection: Selection, most: int
    ) -> tuple[Sequence[Event], Offset]:
        """Returns the next `most` events between the offsets, and the offset after the entries read.

        That offset is `end` if there are no more.
        """
        refs, reached = await self.refs(start, end, selection, most)
        return await self._events(refs), reached

    async def refs(
        self, start: Offset, end: Offset, selection: Selection, most: int
    ) -> tuple[Sequence[EventRef], Offset]:
        """Does as `read`, without the payloads."""
        found: list[EventRef] = []
        offset = start
        while True:
            entries = await self._log.entries(
                offset,
                end,
                _ENTRIES_AT_ONCE,
                types=selection.types,
                campaign_id=selection.campaign_id,
                pushed=selection.pushed,
            )
            for entry in filter(selection.takes, entries):
                for ref in entry.events(selection.types):
                    if offset <= ref.offset < end:
                        found.append(ref)
                        if len(found) == most:
                            return found, ref.next_offset
            if len(entries) < _ENTRIES_AT_ONCE:
                return found, end
            offset = entries[-1].next_offset

    async def _events(self, refs: Sequence[EventRef]) -> Sequence[Event]:
        generated = [ref for ref in refs if ref.type in OF_PAGES]
        revisions = {
            (ref.entry.campaign_id, ref.entry.revision)
            for ref in refs
            if ref.entry.campaign_id and ref.type not in OF_PAGES
        }
        contents = await self._contents(generated)
        campaigns = await self._log.revisions(revisions) if revisions else {}
        senders = await self._chat.users.by_id({c.spec.sender_id for c in campaigns.values()})
        events = []
        for ref in refs:
            entry = ref.entry
            if ref.type in OF_PAGES:
                subject, payload = contents.of(ref)
            elif entry.campaign_id:
                campaign = campaigns[entry.campaign_id, entry.revision]
                subject = f"{entry.campaign_id} {entry.revision}"
                sender = senders.get(campaign.spec.sender_id)
                payload = campaign_payload(ref.type, campaign, sender, entry.created_at)
            else:
                subject = f"{entry.details['id']} {entry.revision}"
                payload = webhook_payload(entry.details, entry.created_at)
            id_ = event_id(ref.type, subject)
            events.append(
                Event(
                    id=id_,
                    type=ref.type,
                    created_at=entry.created_at,
                    campaign_id=entry.campaign_id,
                    payload={"id": id_, **payload},
                    offset=ref.offset,
                    next_offset=ref.next_offset,
                )
            )
        return events

    async def _contents(self, refs: Iterable[EventRef]) -> "_PageContents":
        targets: dict[str, dict[str, None]] = defaultdict(dict)
        for ref in refs:
            targets[ref.entry.campaign_id][ref.target_id] = None
        messages: dict[tuple[str, str], Message] = {}
        for campaign_id, target_ids in targets.items():
            found = await self._chat.messages.of_targets(campaign_id, target_ids)
            messages |= {(campaign_id, target_id): found[target_id] for target_id in found}
        cids = {message.cid for message in messages.values()}
        of_channels = {
            messages[key].cid
            for ref in refs
            if ref.type is not EventType.MESSAGE_NEW
            and (key := (ref.entry.campaign_id, ref.target_id)) in messages
        }
        members = await self._chat.members.first_of(cids, _MOST_MEMBERS) if cids else {}
        channels = await self._chat.channels.by_cid(of_channels) if of_channels else {}
        user_ids = {message.user_id for message in messages.values()}
        user_ids |= {member.user_id for of_one in members.values() for member in of_one}
        user_ids |= {
            channel.created_by_id for channel in channels.values() if channel.created_by_id
        }
        user_ids |= {target_id for _, target_id in messages if ":" not in target_id}
        users = await self._chat.users.by_id(user_ids) if user_ids else {}
        return _PageContents(
            messages,
            channels,
            members,
            {id_: user_json(user) for id_, user in users.items()},
            {campaign_id: message_id_prefix(campaign_id) for campaign_id in targets},
        )


@dataclass(frozen=True, slots=True)
class _PageContents:
    messages: Mapping[tuple[str, str], Message]
    channels: Mapping[str, Channel]
    members: Mapping[str, Sequence[Member]]
    users: Mapping[str, Json]
    prefixes: Mapping[str, str]

    def of(self, ref: EventRef) -> tuple[str, Mapping[str, Any]]:
        """Returns the subject of the event, from which its id is derived, and the payload."""
        campaign_id = ref.entry.campaign_id
        subject = message_id(self.prefixes[campaign_id], ref.target_id)
        message = self.messages.get((campaign_id, ref.target_id)) or _lost(ref, subject)
        members = members_json(self.members.get(message.cid, ()), self.users)
        if ref.type is EventType.MESSAGE_NEW:
            return subject, message_payload(message, members, self.users)
        user_id = ref.target_id if ref.type is EventType.CHANNEL_VISIBLE else message.user_id
        return subject, channel_payload(
            ref.type,
            message,
            self.channels.get(message.cid),
            members,
            self.users,
            user_id=user_id,
        )


def _lost(ref: EventRef, id_: str) -> Message:
    """Returns a stand-in for a message deleted by hand, whose event must not block later ones."""
    return Message(
        id=id_,
        cid="",
        user_id="",
        campaign_id=ref.entry.campaign_id,
        target_id=ref.target_id,
        created_at=ref.entry.created_at,
    )
