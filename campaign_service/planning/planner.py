"""Plans pages: looks up whom and what they concern, and renders in short turns."""

import asyncio
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import datetime
from functools import partial
from itertools import chain
from time import perf_counter
from typing import TypeVar

from campaign_service.campaigns.errors import ReferenceGoneError
from campaign_service.campaigns.ids import message_id
from campaign_service.campaigns.outcomes import NotSent
from campaign_service.planning.compiled import CompiledCampaign
from campaign_service.planning.page import PageDraft, PlannedPage
from campaign_service.planning.routing import (
    Address,
    address_by_template,
    address_channels,
    address_directly,
    reach,
)
from campaign_service.templates.views import View
from chat_store.models import PickedChannel, PickedUser, User, UserState
from chat_store.store import ChatStore

T = TypeVar("T")

# how long targets keep the event loop; a single one may take longer, if its templates do
_TURN_SECONDS = 0.002


class Planner:
    def __init__(self, run: CompiledCampaign, chat: ChatStore, now: Callable[[], datetime]) -> None:
        self._run = run
        self._chat = chat
        self._now = now

    async def plan(
        self, target_ids: Sequence[str], *, look_for_taken_ids: bool = False
    ) -> PlannedPage:
        """Raises `ReferenceGoneError` when the sender is not there any more.

        Message ids are made from campaign and target, so they are hardly ever taken: only a page
        that has met one, and a preview, look for them.
        """
        draft = PageDraft(self._run, self._now())
        addresses, channels = await self._addresses(target_ids, draft)
        if look_for_taken_ids:
            draft.fail_taken(await self._taken(addresses))
        async for part in _turns(addresses):
            for address in part:
                draft.add(address, channels.get(address.cid))
        return draft.finish()

    async def _addresses(
        self, target_ids: Sequence[str], draft: PageDraft
    ) -> tuple[Sequence[Address], Mapping[str, PickedChannel]]:
        """Where the messages go, and the channels that are there, by CID."""
        run = self._run
        sender_id = run.sender.id
        if run.to_channels:
            require_sender(sender_id, (await self._chat.users.by_id([sender_id])).get(sender_id))
            return address_channels(target_ids), await self._picked(target_ids)
        users = await self._chat.users.pick([*target_ids, sender_id], run.receiver_fields.names)
        if sender_id not in users or users[sender_id].state is not UserState.ACTIVE:
            raise ReferenceGoneError("sender", sender_id)
        template = run.definition.channel_template
        if template is not None:
            by_template = partial(address_by_template, run, template)
            addresses = await self._addressed(target_ids, users, by_template, draft)
            return addresses, await self._picked({address.cid for address in addresses})
        direct = await self._chat.channels.between(sender_id, target_ids, run.channel_fields.names)
        addresses = await self._addressed(
            target_ids, users, partial(address_directly, direct), draft
        )
        return addresses, {channel.cid: channel for channel in direct.values()}

    async def _addressed(
        self,
        target_ids: Sequence[str],
        users: Mapping[str, PickedUser],
        address_of: Callable[[str, View], Address | NotSent],
        draft: PageDraft,
    ) -> Sequence[Address]:
        addresses: list[Address] = []
        async for part in _turns(target_ids):
            for target_id in part:
                receiver = reach(self._run, target_id, users.get(target_id))
                found = (
                    receiver if isinstance(receiver, NotSent) else address_of(target_id, receiver)
                )
                if isinstance(found, NotSent):
                    draft.refuse([found])
                else:
                    addresses.append(found)
        return addresses

    async def _taken(self, addresses: Sequence[Address]) -> Collection[str]:
        prefix = self._run.message_id_prefix
        targets = [address.target_id for address in addresses]
        ids = {target_id: message_id(prefix, target_id) for target_id in targets}
        return await self._chat.messages.taken(self._run.id, ids)

    async def _picked(self, cids: Iterable[str]) -> Mapping[str, PickedChannel]:
        return await self._chat.channels.pick(cids, self._run.channel_fields.names)


def require_sender(sender_id: str, sender: User | None) -> User:
    if sender is None or sender.deleted_at is not None or sender.deactivated_at is not None:
        raise ReferenceGoneError("sender", sender_id)
    return sender


async def _turns(items: Sequence[T]) -> AsyncIterator[Iterator[T]]:
    """Parts of the items, with a turn for everyone else after each."""
    rest = iter(items)
    for item in rest:
        yield _turn(item, rest)
        await asyncio.sleep(0)


def _turn(first: T, rest: Iterator[T]) -> Iterator[T]:
    """As many as are handled in the time, one at least."""
    end = perf_counter() + _TURN_SECONDS
    for item in chain([first], rest):
        yield item
        if perf_counter() >= end:
            return
