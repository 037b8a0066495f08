"""The worker that pushes new messages to the phones of channel members."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from campaign_service.campaigns.events import EventRef, EventType, Offset
from campaign_service.campaigns.pushes import (
    EXPIRED,
    NO_ANSWER,
    PushReason,
    PushResult,
    phones,
)
from campaign_service.events.push_gateway import (
    GatewayUnavailableError,
    PushGateway,
    open_gateway,
)
from campaign_service.events.push_requests import Push, batches, notification
from campaign_service.events.reader import EventReader, Selection
from campaign_service.storage.event_ports import PushStore
from chat_store.errors import StoreUnavailableError
from chat_store.models import Device, MemberDevices, Message
from chat_store.store import ChatStore
from herald_rpc.process.outages import Outages, repeat
from herald_rpc.process.waiting import wait_at_most

logger = structlog.get_logger(__name__)

_POLL_SECONDS = 0.2
# messages that are taken together: a crash leaves no more than these unpushed
_MESSAGES_AT_ONCE = 500
_MEMBERS_AT_ONCE = 500
_PUSHED = Selection((EventType.MESSAGE_NEW,), pushed=True)
_MOST_REASON = 255
_GATEWAY = "the push gateway"


@dataclass(slots=True)
class _Taken:
    """Messages that this process pushes, to members behind `after`: a CID and a user id."""

    refs: Sequence[EventRef]
    after: tuple[str, str] = ("", "")


class Pusher:
    """Pushes each message at most once: its offset in the log is stored before it is posted.

    Several pushers may run: each message is taken by one. While the gateway takes nothing, what
    was taken waits for it, until it is older than the time to live.
    """

    def __init__(
        self,
        reader: EventReader,
        chat: ChatStore,
        pushes: PushStore,
        url: str,
        *,
        ttl: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._reader = reader
        self._chat = chat
        self._pushes = pushes
        self._url = url
        self._ttl = ttl
        self._now = now
        # everything to push before this offset is taken
        self._done = Offset(0)
        self._taken: _Taken | None = None
        # results that are to be stored: counts, and the reasons of devices that are dead
        self._counts: Counter[tuple[str, PushResult]] = Counter()
        self._dead: dict[str, str] = {}
        self._outages = Outages(StoreUnavailableError)
        self._gateway_outages = Outages(GatewayUnavailableError)

    @property
    def is_well(self) -> bool:
        """Whether the database works. A gateway that is down concerns no caller."""
        return not self._outages

    @property
    def reached(self) -> Offset | None:
        """The offset up to which everything is pushed."""
        return self._done

    async def run(self, stop: asyncio.Event) -> None:
        """Pushes until `stop` is set. Pushes that wait for the gateway then are given up."""
        async with open_gateway(self._url) as gateway:
            step = partial(self._step, gateway, stop)
            await repeat("push notifications", step, stop, self._outages)

    async def run_once(self) -> None:
        """Pushes everything that is in the log now."""
        stop = asyncio.Event()
        async with open_gateway(self._url) as gateway:
            while not await self._step(gateway, stop):
                pass

    async def _step(self, gateway: PushGateway, stop: asyncio.Event) -> float:
        await self._store_results()
        if self._taken is None and not await self._take():
            return _POLL_SECONDS
        if self._taken is not None:
            await self._push(self._taken, gateway, stop)
            await self._store_results()
        return 0.0

    async def _take(self) -> bool:
        """Takes the next messages, if there are any. Returns whether the log may have more."""
        ends = await self._reader.ends()
        if ends.next < self._done:
            # the database has lost its last transactions in a failover
            self._done = Offset(0)
        if ends.next == self._done:
            return False
        offset = await self._pushes.offset()
        begin = max(offset, self._done, ends.first)
        refs, reached = await self._reader.refs(begin, ends.next, _PUSHED, _MESSAGES_AT_ONCE)
        if refs:
            if not await self._pushes.advance(offset, reached):
                return False
            self._taken = _Taken(refs)
        self._done = reached
        return True

    async def _push(self, taken: _Taken, gateway: PushGateway, stop: asyncio.Event) -> None:
        """Pushes page by page. After a failure of the database it goes on with the next page."""
        by_cid = await self._messages(taken.refs)
        sender_ids = {message.user_id for of_one in by_cid.values() for message in of_one}
        senders = await self._chat.users.by_id(sender_ids) if sender_ids else {}
        titles = {id_: user.name or id_ for id_, user in senders.items()}
        while self._taken is taken:
            page = await self._chat.devices.of_members(by_cid, taken.after, _MEMBERS_AT_ONCE)
            if len(page) == _MEMBERS_AT_ONCE:
                taken.after = (page[-1].cid, page[-1].user_id)
            else:
                self._taken = None
            pushes = [push for member in page for push in self._pushes_to(member, by_cid, titles)]
            async with asyncio.TaskGroup() as group:
                for batch in batches(pushes):
                    group.create_task(self._post(batch, gateway, stop))

    async def _messages(self, refs: Sequence[EventRef]) -> Mapping[str, Sequence[Message]]:
        """Returns the messages by channel. Messages that were deleted by hand are left out."""
        targets: dict[str, list[str]] = defaultdict(list)
        for ref in refs:
            targets[ref.entry.campaign_id].append(ref.target_id)
        by_cid: dict[str, list[Message]] = defaultdict(list)
        for campaign_id, target_ids in targets.items():
            found = await self._chat.messages.of_targets(campaign_id, target_ids)
            for message in found.values():
                by_cid[message.cid].append(message)
        return by_cid

    def _pushes_to(
        self,
        member: MemberDevices,
        by_cid: Mapping[str, Sequence[Message]],
        titles: Mapping[str, str],
    ) -> Iterator[Push]:
        """Yields a push for each message to each phone, and counts those that are skipped."""
        now = self._now()
        for message in by_cid[member.cid]:
            if message.user_id == member.user_id:
                continue
            campaign_id = message.campaign_id or ""
            for phone in phones(member, now):
                if isinstance(phone, Device):
                    yield Push(
                        campaign_id,
                        (message.created_at or now) + self._ttl,
                        notification(message, member.user_id, phone, titles),
                    )
                else:
                    self._counts[campaign_id, phone] += 1

    async def _post(self, batch: Sequence[Push], gateway: PushGateway, stop: asyncio.Event) -> None:
        """Posts the batch as soon as the gateway takes it, without those that have expired."""
        while True:
            now = self._now()
            fresh = [push for push in batch if now < push.expires_at]
            self._count(EXPIRED, [push for push in batch if push.expires_at <= now])
            batch = fresh
            if not batch:
                return
            try:
                reports = await gateway.post([push.notification for push in batch])
            except GatewayUnavailableError as error:
                if await wait_at_most(stop, self._gateway_outages.failed(_GATEWAY, error)):
                    self._count(NO_ANSWER, batch)
                    return
                continue
            self._gateway_outages.over(_GATEWAY)
            break
        for push, report in zip(batch, reports, strict=True):
            self._counts[push.campaign_id, report.result] += 1
            if report.result.reason is PushReason.UNREGISTERED:
                reason = report.error.replace("\0", "")[:_MOST_REASON]
                self._dead[push.notification.token] = reason

    def _count(self, result: PushResult, pushes: Sequence[Push]) -> None:
        for push in pushes:
            self._counts[push.campaign_id, result] += 1

    async def _store_results(self) -> None:
        """Stores counts and dead devices. They are kept for the next time if that fails."""
        if self._dead:
            await self._chat.devices.disable(self._dead)
            self._dead.clear()
        if self._counts:
            counts = Counter(self._counts)
            await self._pushes.count(counts)
            self._counts.clear()
            for (campaign_id, result), pushes in counts.items():
                logger.info(
                    "pushes",
                    campaign_id=campaign_id,
                    outcome=result.outcome,
                    reason=result.reason,
                    pushes=pushes,
                )
