import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from chat_store.database.engine import open_database
from chat_store.sql.stores import sql_chat_store
from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as pb
from herald.chat.v1 import chat_service_pb2_grpc as pb_grpc
from herald_rpc.server.serving import serving
from herald_rpc.wire.failures import chat_failure
from segment_service.chat_servicer import ChatServicer
from tests.chat.running_chat import NOON, Chat
from tests.harness.emptying import empty
from tests.harness.manual_clock import ManualClock
from tests.harness.postgres import Postgres


@asynccontextmanager
async def _served(url: str) -> AsyncIterator[Chat]:
    database = open_database(url)
    store, clock = sql_chat_store(database), ManualClock(NOON)
    add_to = partial(pb_grpc.add_ChatServiceServicer_to_server, ChatServicer(store, clock))
    async with (
        serving(
            address="127.0.0.1:0",
            services={"herald.chat.v1.ChatService": add_to},
            failure_for=chat_failure,
            reflection=False,
        ) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield Chat(url, database, pb_grpc.ChatServiceStub(channel), store, clock)
    await database.close()


@pytest_asyncio.fixture(scope="session")
async def lasting_sqlite_chat(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Chat]:
    """One server for all tests of this process, which leave it empty."""
    file = shutil.copy(sqlite_template, tmp_path_factory.mktemp("chat") / "herald.db")
    async with _served(f"sqlite+aiosqlite:///{file}") as chat:
        yield chat


@pytest_asyncio.fixture(scope="session")
async def lasting_postgres_chat(postgres: Postgres) -> AsyncIterator[Chat]:
    async with _served(postgres.url(postgres.fresh_database())) as chat:
        yield chat


@pytest.fixture
def dialect() -> str:
    """The database of `chat`. A module whose tests are worth both overrides it."""
    return "sqlite"


@pytest.fixture
def lasting_chat(request: pytest.FixtureRequest, dialect: str) -> Chat:
    chat: Chat = request.getfixturevalue(f"lasting_{dialect}_chat")
    return chat


@pytest_asyncio.fixture
async def chat(lasting_chat: Chat) -> AsyncIterator[Chat]:
    yield lasting_chat
    lasting_chat.clock.now = NOON
    await empty(lasting_chat.database)


@pytest.fixture
async def chat_with_members(chat: Chat) -> Chat:
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
