from collections.abc import AsyncIterator
from functools import partial

import grpc
import pytest

from chat_store.database import open_database
from chat_store.sql.stores import sql_chat_store
from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as pb
from herald.chat.v1 import chat_service_pb2_grpc as pb_grpc
from herald_rpc.server import serving
from herald_wire.failures import chat_failure
from segment_service.chat_servicer import ChatServicer
from tests.chat.running_chat import Chat, Clock


@pytest.fixture
def chat_url(sqlite_url: str) -> str:
    """What `chat` runs on. A module whose tests are worth both databases overrides it."""
    return sqlite_url


@pytest.fixture
async def chat(chat_url: str) -> AsyncIterator[Chat]:
    database = open_database(chat_url)
    store = sql_chat_store(database)
    clock = Clock()
    servicer = ChatServicer(store, clock)
    services = {
        "herald.chat.v1.ChatService": partial(pb_grpc.add_ChatServiceServicer_to_server, servicer)
    }
    async with (
        serving(
            address="127.0.0.1:0", services=services, failure_for=chat_failure, reflection=False
        ) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield Chat(pb_grpc.ChatServiceStub(channel), store, clock)
    await database.close()


@pytest.fixture
async def peopled(chat: Chat) -> Chat:
    """With anna and bob in the channel `general`, the deleted zoe, and the channel `gone`."""
    users = [chat_pb2.User(id=id_) for id_ in ("anna", "bob", "cleo", "zoe")]
    await chat.call.UpsertUsers(pb.UpsertUsersRequest(users=users))
    await chat.call.DeleteUsers(pb.DeleteUsersRequest(ids=["zoe"]))
    await chat.call.UpsertChannels(
        pb.UpsertChannelsRequest(
            channels=[
                chat_pb2.Channel(type="messaging", id="general", member_ids=["bob", "anna"]),
                chat_pb2.Channel(type="messaging", id="gone"),
            ]
        )
    )
    await chat.call.DeleteChannels(pb.DeleteChannelsRequest(cids=["messaging:gone"]))
    return chat
