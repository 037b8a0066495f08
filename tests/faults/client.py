"""A caller that does not give up: what it is told to do has been acknowledged in the end."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc

from herald.access.v1 import access_service_pb2_grpc
from herald.campaign.v1 import campaign_service_pb2_grpc
from herald.chat.v1 import chat_service_pb2, chat_service_pb2_grpc
from herald.event.v1 import event_service_pb2_grpc
from herald.segment.v1 import segment_service_pb2_grpc
from tests.faults.fair_timeout import FairTimeout

_CALL_SECONDS = 4.0
_PAUSE_SECONDS = 0.05
# a fault may last for seconds, and the way back from it, too
_TIMEOUT_SECONDS = 45.0
_MAY_BE_BETTER_LATER = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    # seen where a call arrives in the very moment in which a server stops
    grpc.StatusCode.CANCELLED,
}
_OPTIONS = (
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_http_proxy", 0),
)


class Client:
    """Any server of its kind answers. A refusal is raised at once, as it is.

    Raises `TimeoutError` when there was nothing but failures for long.
    """

    def __init__(self, to_segments: grpc.aio.Channel, to_campaigns: grpc.aio.Channel) -> None:
        self.segments: Any = segment_service_pb2_grpc.SegmentServiceStub(to_segments)
        self.chat: Any = chat_service_pb2_grpc.ChatServiceStub(to_segments)
        self.campaigns: Any = campaign_service_pb2_grpc.CampaignServiceStub(to_campaigns)
        self.events: Any = event_service_pb2_grpc.EventServiceStub(to_campaigns)
        self.access: Any = access_service_pb2_grpc.AccessServiceStub(to_campaigns)

    async def bring_in(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Imports all of them. Raises `AssertionError` if one is refused."""

        async def requests() -> AsyncIterator[chat_service_pb2.ImportRequest]:
            yield chat_service_pb2.ImportRequest(records=list(map(json.dumps, records)))

        def imported(_: Any, timeout: float) -> Any:
            return self.chat.Import(requests(), timeout=timeout)

        answer = await self.call(imported, None)
        assert answer.failed == 0, answer

    async def call(self, method: Any, request: Any) -> Any:
        timeout = FairTimeout(_TIMEOUT_SECONDS)
        while True:
            try:
                return await method(request, timeout=_CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _MAY_BE_BETTER_LATER:
                    raise
            timeout.spend()
            await asyncio.sleep(_PAUSE_SECONDS)


@asynccontextmanager
async def connected(segments: Sequence[str], campaigns: Sequence[str]) -> AsyncIterator[Client]:
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(f"ipv4:{','.join(addresses)}", options=_OPTIONS)
            )
            for addresses in (segments, campaigns)
        ]
        yield Client(*channels)
