import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from herald.chat.v1 import chat_service_pb2_grpc as pb_grpc
from herald_rpc.server.serving import serving
from herald_rpc.wire.failures import chat_failure
from segment_service.chat_servicer import ChatServicer
from tests.harness.postgres import Postgres
from tests.queries.query_clients import QueryClients
from tests.segment.segment_server import start_segment_server


@asynccontextmanager
async def _served(url: str) -> AsyncIterator[QueryClients]:
    async with start_segment_server(url) as segments:
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
            yield QueryClients(segments, channel, pb_grpc.ChatServiceStub(channel))


@pytest_asyncio.fixture(scope="session")
async def lasting_sqlite_asking(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[QueryClients]:
    """One pair of services for all tests of this process, which leave it empty."""
    file = shutil.copy(sqlite_template, tmp_path_factory.mktemp("queries") / "herald.db")
    async with _served(f"sqlite+aiosqlite:///{file}") as clients:
        yield clients


@pytest_asyncio.fixture(scope="session")
async def lasting_postgres_asking(postgres: Postgres) -> AsyncIterator[QueryClients]:
    async with _served(postgres.url(postgres.fresh_database())) as clients:
        yield clients


@pytest.fixture(params=["sqlite", "postgres"])
def lasting_asking(request: pytest.FixtureRequest) -> QueryClients:
    clients: QueryClients = request.getfixturevalue(f"lasting_{request.param}_asking")
    return clients


@pytest_asyncio.fixture
async def clients(lasting_asking: QueryClients) -> AsyncIterator[QueryClients]:
    """SegmentService and ChatService on an empty database of each kind, at noon."""
    yield lasting_asking
    await lasting_asking.segments.empty()
