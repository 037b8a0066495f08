import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.harness.postgres import Postgres
from tests.segment.segment_server import SegmentServer, start_segment_server


@pytest_asyncio.fixture(scope="session")
async def lasting_sqlite_service(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SegmentServer]:
    """One server for all tests of this process, which leave it empty."""
    file = shutil.copy(sqlite_template, tmp_path_factory.mktemp("segments") / "herald.db")
    async with start_segment_server(f"sqlite+aiosqlite:///{file}") as service:
        yield service


@pytest_asyncio.fixture(scope="session")
async def lasting_postgres_service(postgres: Postgres) -> AsyncIterator[SegmentServer]:
    async with start_segment_server(postgres.url(postgres.fresh_database())) as service:
        yield service


@pytest.fixture(params=["sqlite", "postgres"])
def lasting_service(request: pytest.FixtureRequest) -> SegmentServer:
    service: SegmentServer = request.getfixturevalue(f"lasting_{request.param}_service")
    return service


@pytest_asyncio.fixture
async def service(lasting_service: SegmentServer) -> AsyncIterator[SegmentServer]:
    """SegmentService on an empty database of each kind, at noon."""
    yield lasting_service
    await lasting_service.empty()


@pytest_asyncio.fixture
async def sqlite_service(lasting_sqlite_service: SegmentServer) -> AsyncIterator[SegmentServer]:
    """The same on SQLite alone, for what no database has a say in."""
    yield lasting_sqlite_service
    await lasting_sqlite_service.empty()
