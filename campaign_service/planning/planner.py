"""Plans pages: looks up users and channels, and renders in short time slices."""

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
from campaign_service.planning.page import PageBuilder, PlannedPage
from campaign_service.planning.routing import (
    Route,
    resolve_receiver,
    route_by_template,
    route_to_direct_channel,
    routes_to_channels,
)
from campaign_service.templates.views import JsonView
from chat_store.models import PickedChannel, PickedUser, User, UserState
from chat_store.store import ChatStore

T = TypeVar("T")

# how long a slice keeps the event loop; a single target takes longer if its templates do
_SLICE_SECONDS = 0.002


class Planner:
    def __init__(self, run: CompiledCampaign, chat: ChatStore, now: Callable[[], datetime]) -> None:
        self._run = run
        self._chat = chat
        self._now = now

    async def plan(
        self, target_ids: Sequence[str], *, check_message_ids: bool = False
    ) -> PlannedPage:
        """Plans a page. Raises `ReferenceGoneError` if the sender does not exist any more.

        Message ids are derived from campaign and target, so they are hardly ever taken. Only
        previews and pages that have met a taken id set `check_message_ids`.
        """
        page = PageBuilder(self._run, self._now())
        routes, channels = await self._routes(target_ids, page)
        if check_message_ids:
            page.fail_taken(await self._taken(routes))
        strangers = await self._strangers(routes, channels)
        async for part in _time_slices(routes):
            for route in part:
                page.add(
                    route,
                    channels.get(route.cid),
                    is_stranger=(route.cid, route.target_id) in strangers,
                )
        return page.build()

    async def _routes(
        self, target_ids: Sequence[str], page: PageBuilder
    ) -> tuple[Sequence[Route], Mapping[str, PickedChannel]]:
        """Returns the routes of the messages, and the existing channels by CID."""
        run = self._run
        sender_id = run.sender.id
        if run.to_channels:
            require_sender(sender_id, (await self._chat.users.by_id([sender_id])).get(sender_id))
            return routes_to_channels(target_ids), await self._picked(target_ids)
        users = await self._chat.users.pick([*target_ids, sender_id], run.receiver_fields.names)
        if sender_id not in users or users[sender_id].state is not UserState.ACTIVE:
            raise ReferenceGoneError("sender", sender_id)
        template = run.spec.channel_template
        if template is not None:
            by_template = partial(route_by_template, run, template)
            routes = await self._routed(target_ids, users, by_template, page)
            return routes, await self._picked({route.cid for route in routes})
        direct = await self._chat.channels.between(sender_id, target_ids, run.channel_fields.names)
        routes = await self._routed(
            target_ids, users, partial(route_to_direct_channel, direct), page
        )
        return routes, {channel.cid: channel for channel in direct.values()}

    async def _routed(
        self,
        target_ids: Sequence[str],
        users: Mapping[str, PickedUser],
        route_of: Callable[[str, JsonView], Route | NotSent],
        page: PageBuilder,
    ) -> Sequence[Route]:
        routes: list[Route] = []
        async for part in _time_slices(target_ids):
            for target_id in part:
                receiver = resolve_receiver(self._run, target_id, users.get(target_id))
                found = receiver if isinstance(receiver, NotSent) else route_of(target_id, receiver)
                if isinstance(found, NotSent):
                    page.skip([found])
                else:
                    routes.append(found)
        return routes

    async def _strangers(
        self, routes: Sequence[Route], channels: Mapping[str, PickedChannel]
    ) -> Collection[tuple[str, str]]:
        """The receivers who are not in the channel that a template gave them, if it exists."""
        run = self._run
        if run.to_channels or run.spec.channel_template is None:
            return ()
        given = [(route.cid, route.target_id) for route in routes if route.cid in channels]
        if not given:
            return ()
        cids, user_ids = zip(*given, strict=True)
        return set(given).difference(await self._chat.channels.members_among(cids, user_ids))

    async def _taken(self, routes: Sequence[Route]) -> Collection[str]:
        prefix = self._run.message_id_prefix
        targets = [route.target_id for route in routes]
        ids = {target_id: message_id(prefix, target_id) for target_id in targets}
        return await self._chat.messages.taken(self._run.id, ids)

    async def _picked(self, cids: Iterable[str]) -> Mapping[str, PickedChannel]:
        return await self._chat.channels.pick(cids, self._run.channel_fields.names)


def require_sender(sender_id: str, sender: User | None) -> User:
    if sender is None or sender.deleted_at is not None or sender.deactivated_at is not None:
        raise ReferenceGoneError("sender", sender_id)
    return sender


async def _time_slices(items: Sequence[T]) -> AsyncIterator[Iterator[T]]:
    """Yields slices of the items, and lets other tasks run after each."""
    rest = iter(items)
    for item in rest:
        yield _slice(item, rest)
        await asyncio.sleep(0)


def _slice(first: T, rest: Iterator[T]) -> Iterator[T]:
    """Yields items for `_SLICE_SECONDS`, at least one."""
    end = perf_counter() + _SLICE_SECONDS
    for item in chain([first], rest):
        yield item
        if perf_counter() >= end:
            return
