from collections.abc import AsyncIterator
from functools import partial

import grpc
import pytest

from chat_store.database import Database
from herald.chat.v1 import chat_service_pb2_grpc as pb_grpc
from herald_rpc.server import serving
from herald_wire.failures import chat_failure
from segment_service.chat_servicer import ChatServicer
from tests.queries.asking import Asking
from tests.segment.running import running


@pytest.fixture
async def asking(database: Database) -> AsyncIterator[Asking]:
    """SegmentService and ChatService on an empty database of each kind, at noon."""
    async with running(database) as segments:
        servicer = ChatServicer(segments.chat, segments.clock)
        add_to = partial(pb_grpc.add_ChatServiceServicer_to_server, servicer)
        async with (
            serving(
                address="127.0.0.1:0",
                services={"herald.chat.v1.ChatService": add_to},
                failure_for=chat_failure,
                reflection=False,
            ) as server,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            yield Asking(segments, channel, pb_grpc.ChatServiceStub(channel))
