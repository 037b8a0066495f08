"""A pusher on a clock that a test moves, and campaigns whose receivers have phones."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from campaign_service.campaigns.pushes import PushCounts
from campaign_service.events.pushes import Pusher
from campaign_service.planning.page import PageBuilder
from campaign_service.planning.routing import Route
from campaign_service.storage.pushes import SqlPushStore
from campaign_service.storage.runs import SqlRunStore
from chat_store.database.engine import Database
from chat_store.models import (
    Channel,
    ChannelState,
    Device,
    Member,
    PickedChannel,
    PushProvider,
    User,
)
from chat_store.sql.stores import sql_chat_store
from chat_store.store import ChannelDraft
from tests.campaign.builders import (
    MOMENT,
    SENDER_ID,
    a_campaign,
    a_compiled_campaign,
    a_message_template,
    a_spec,
)
from tests.campaign.test_runs import claimed, started
from tests.events.reading import a_reader

TTL = timedelta(hours=1)
APN, FIREBASE, HUAWEI = PushProvider.APN, PushProvider.FIREBASE, PushProvider.HUAWEI


def a_device(id_: str, user_id: str, provider: PushProvider = APN, **changes: Any) -> Device:
    given = {"id": id_, "user_id": user_id, "push_provider": provider, "created_at": MOMENT}
    return Device(**{**given, **changes})


class Pushing:
    """`now` begins at the time at which the messages are sent."""

    def __init__(self, database: Database, url: str) -> None:
        self.database = database
        self.url = url
        self.now = MOMENT
        self.chat = sql_chat_store(database)
        self.store = SqlPushStore(database)
        self.pusher = self.another_pusher()

    def another_pusher(self) -> Pusher:
        reader = a_reader(self.database)
        return Pusher(reader, self.chat, self.store, self.url, ttl=TTL, now=lambda: self.now)

    async def push(self) -> None:
        """What is in the log now."""
        await self.pusher.run_once()

    def later(self, delta: timedelta) -> None:
        self.now += delta

    async def register(self, *devices: Device) -> None:
        """With their users, as far as they are new."""
        ids = {SENDER_ID, *(device.user_id for device in devices)}
        known = await self.chat.users.by_id(ids)
        new = [User(id=id_, name=id_.title()) for id_ in sorted(ids - known.keys())]
        if new:
            await self.chat.users.upsert(new, MOMENT)
        await self.chat.devices.upsert(devices, MOMENT)

    async def send(
        self,
        targets: Sequence[str],
        campaign_id: str = "spring",
        text: str = "Hi {{ receiver.name }}",
        **changes: Any,
    ) -> None:
        """A campaign that sends to each target in a channel of its own, which it creates."""
        await started(self.database, campaign_id, **changes)
        runs = SqlRunStore(self.database)
        lease = await claimed(runs)
        spec = a_spec(message_template=a_message_template(text=text))
        draft = PageBuilder(a_compiled_campaign(a_campaign(id=campaign_id, spec=spec)), MOMENT)
        for target in targets:
            id_ = f"{campaign_id}-{target}"
            draft.add(Route(target, f"messaging:{id_}", {"name": target}, target), None)
        await runs.commit_page(lease, draft.build(), targets[-1])
        await runs.finish_pass(lease, MOMENT)

    async def send_to_existing(self, target: str, campaign_id: str = "spring") -> None:
        """To one target, whose channel is there."""
        await started(self.database, campaign_id)
        runs = SqlRunStore(self.database)
        lease = await claimed(runs)
        draft = PageBuilder(a_compiled_campaign(a_campaign(id=campaign_id)), MOMENT)
        channel = PickedChannel(f"messaging:{campaign_id}-{target}", ChannelState.OPEN, ())
        draft.add(Route(target, channel.cid, {"name": target}, None), channel)
        await runs.commit_page(lease, draft.build(), target)

    async def counts(self, campaign_id: str = "spring") -> PushCounts:
        return (await self.store.counts([campaign_id])).get(campaign_id, PushCounts())

    async def join(self, cid: str, *user_ids: str) -> None:
        type_, _, id_ = cid.partition(":")
        draft = ChannelDraft(Channel(type=type_, id=id_))
        await self.chat.channels.upsert([draft], MOMENT)
        members = [Member(cid=cid, user_id=user_id) for user_id in user_ids]
        await self.chat.channels.add_members(cid, members, MOMENT)
