import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.harness.postgres import Postgres
from tests.segment.running import Service, running


@pytest_asyncio.fixture(scope="session")
async def lasting_sqlite_service(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """One server for all tests of this process, which leave it empty."""
    file = shutil.copy(sqlite_template, tmp_path_factory.mktemp("segments") / "herald.db")
    async with running(f"sqlite+aiosqlite:///{file}") as service:
        yield service


@pytest_asyncio.fixture(scope="session")
async def lasting_postgres_service(postgres: Postgres) -> AsyncIterator[Service]:
    async with running(postgres.url(postgres.fresh_database())) as service:
        yield service


@pytest.fixture(params=["sqlite", "postgres"])
def lasting_service(request: pytest.FixtureRequest) -> Service:
    service: Service = request.getfixturevalue(f"lasting_{request.param}_service")
    return service


@pytest_asyncio.fixture
async def service(lasting_service: Service) -> AsyncIterator[Service]:
    """SegmentService on an empty database of each kind, at noon."""
    yield lasting_service
    await lasting_service.empty()


@pytest_asyncio.fixture
async def sqlite_service(lasting_sqlite_service: Service) -> AsyncIterator[Service]:
    """The same on SQLite alone, for what no database has a say in."""
    yield lasting_sqlite_service
    await lasting_sqlite_service.empty()
