"""Both services of the segment server over one database, and short ways to ask them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc

from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as pb
from herald.chat.v1 import chat_service_pb2_grpc as pb_grpc
from herald.chat.v1.sort_pb2 import SORT_DIRECTION_DESC, Sort
from herald_rpc.wire.fields import timestamp
from herald_rpc.wire.structs import to_struct
from tests.segment.segment_server import NOON, SegmentServer

BY_ID = Sort(field="id")
BY_ID_DOWN = Sort(field="id", direction=SORT_DIRECTION_DESC)


def person(id_: str, *, minute: int = 0, **values: Any) -> chat_pb2.User:
    """A user who was created `minute` minutes after noon."""
    if "custom" in values:
        values["custom"] = to_struct(values["custom"])
    created_at = timestamp(NOON + timedelta(minutes=minute))
    return chat_pb2.User(id=id_, created_at=created_at, **values)


@dataclass(frozen=True)
class QueryClients:
    segments: SegmentServer
    channel: grpc.aio.Channel
    chat: "pb_grpc.ChatServiceAsyncStub"

    async def given(self, *users: chat_pb2.User) -> None:
        await self.chat.UpsertUsers(pb.UpsertUsersRequest(users=users))

    async def given_channels(self, **members: Iterable[str]) -> None:
        """Channels of type `messaging` by id, with the members that each has."""
        channels = [
            chat_pb2.Channel(type="messaging", id=id_, member_ids=member_ids)
            for id_, member_ids in members.items()
        ]
        await self.chat.UpsertChannels(pb.UpsertChannelsRequest(channels=channels))

    async def users(
        self, filter_: dict[str, Any], sort: Sort = BY_ID, **arguments: Any
    ) -> list[str]:
        request = pb.QueryUsersRequest(filter=to_struct(filter_), sort=[sort], **arguments)
        return [user.id for user in (await self.chat.QueryUsers(request)).users]

    async def channels(self, filter_: dict[str, Any]) -> list[str]:
        request = pb.QueryChannelsRequest(filter=to_struct(filter_), sort=[BY_ID])
        return [channel.id for channel in (await self.chat.QueryChannels(request)).channels]
