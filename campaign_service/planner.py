"""Plans pages: looks up whom and what they concern, and renders in slices."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from campaign_service.addresses import (
    Address,
    address_by_template,
    address_channels,
    address_directly,
    reachable,
)
from campaign_service.compiled import CompiledCampaign
from campaign_service.errors import ReferenceGoneError
from campaign_service.outcomes import NotSent
from campaign_service.page import PageDraft, PlannedPage
from chat_store.models import User
from chat_store.store import ChatStore

# so many renders at a time keep the event loop: about a millisecond or two
_SLICE = 200


class Planner:
    def __init__(self, run: CompiledCampaign, chat: ChatStore, now: Callable[[], datetime]) -> None:
        self._run = run
        self._chat = chat
        self._now = now

    async def plan(self, target_ids: Sequence[str]) -> PlannedPage:
        """Raises `ReferenceGoneError` when the sender is not there any more."""
        addresses, not_sent = await self._addresses(target_ids)
        channels = await self._chat.channels.by_cid({address.cid for address in addresses})
        draft = PageDraft(self._run, self._now())
        draft.refuse(not_sent)
        for start in range(0, len(addresses), _SLICE):
            for address in addresses[start : start + _SLICE]:
                draft.add(address, channels.get(address.cid))
            await asyncio.sleep(0)
        return draft.finish()

    async def _addresses(self, target_ids: Sequence[str]) -> tuple[list[Address], list[NotSent]]:
        run = self._run
        sender_id = run.sender.id
        if run.to_channels:
            require_sender(sender_id, (await self._chat.users.by_id([sender_id])).get(sender_id))
            return address_channels(run, target_ids), []
        users = await self._chat.users.by_id([*target_ids, sender_id])
        require_sender(sender_id, users.get(sender_id))
        receivers, not_sent = reachable(run, target_ids, users)
        template = run.definition.channel_template
        if template is None:
            cids = await self._chat.channels.between(
                sender_id, [receiver.id for receiver in receivers]
            )
            addresses, without = address_directly(receivers, cids)
        else:
            addresses, without = address_by_template(run, template, receivers)
        return addresses, [*not_sent, *without]


def require_sender(sender_id: str, sender: User | None) -> User:
    if sender is None or sender.deleted_at is not None or sender.deactivated_at is not None:
        raise ReferenceGoneError("sender", sender_id)
    return sender
