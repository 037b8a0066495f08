"""Both servers with all of their calls, each found by its descriptor."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from herald.campaign.v1 import campaign_service_pb2
from herald.chat.v1 import chat_service_pb2, chat_service_pb2_grpc
from herald.segment.v1 import segment_service_pb2
from tests.campaign.server_pair import ServerPair, start_pair

# databases, each in a time zone that it shares with the servers
PLACES = [
    ("sqlite", "Asia/Kathmandu"),
    ("postgresql", "Asia/Kathmandu"),
    ("postgresql", "America/Los_Angeles"),
]

SEGMENTS = segment_service_pb2.DESCRIPTOR.services_by_name["SegmentService"]
CHAT = chat_service_pb2.DESCRIPTOR.services_by_name["ChatService"]
CAMPAIGNS = campaign_service_pb2.DESCRIPTOR.services_by_name["CampaignService"]


@dataclass(frozen=True)
class Everything:
    services: ServerPair
    to_segment: grpc.aio.Channel
    _to_campaign: list[grpc.aio.Channel] = field(default_factory=list)

    async def ask(self, request: Message) -> Any:
        """The answer to the call whose request it is; of a stream, the first message."""
        method = _METHODS[request.DESCRIPTOR.full_name]
        channel = self._channel(method)
        path = f"/{method.containing_service.full_name}/{method.name}"
        read = GetMessageClass(method.output_type).FromString
        if not method.server_streaming:
            return await channel.unary_unary(path, type(request).SerializeToString, read)(request)
        call = channel.unary_stream(path, type(request).SerializeToString, read)(request)
        try:
            answer = await call.read()
        finally:
            call.cancel()
        return GetMessageClass(method.output_type)() if answer is grpc.aio.EOF else answer

    async def imported(self, lines: list[str]) -> chat_service_pb2.ImportResponse:
        stub = chat_service_pb2_grpc.ChatServiceStub(self.to_segment)
        requests = [chat_service_pb2.ImportRequest(records=lines)]
        answer: chat_service_pb2.ImportResponse = await stub.Import(iter(requests))
        return answer

    async def restart_campaign(self) -> None:
        await self.services.campaign.stop()
        await self.services.restart_campaign()
        await self.connect()

    async def connect(self) -> None:
        channel = grpc.aio.insecure_channel(self.services.campaign.address)
        self._to_campaign.append(await self.services.channels.enter_async_context(channel))

    def _channel(self, method: MethodDescriptor) -> grpc.aio.Channel:
        of_campaign = method.containing_service is CAMPAIGNS
        return self._to_campaign[-1] if of_campaign else self.to_segment


def methods() -> Iterator[MethodDescriptor]:
    """All that take one request."""
    for service in (SEGMENTS, CHAT, CAMPAIGNS):
        for method in service.methods:
            if not method.client_streaming:
                yield method


_METHODS = {method.input_type.full_name: method for method in methods()}


@asynccontextmanager
async def everything_on(database_url: str) -> AsyncIterator[Everything]:
    async with (
        start_pair(database_url) as services,
        grpc.aio.insecure_channel(services.segment.address) as to_segment,
    ):
        everything = Everything(services, to_segment)
        await everything.connect()
        yield everything
