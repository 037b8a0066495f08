import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from chat_store.database.engine import open_database
from chat_store.sql.stores import sql_chat_store
from herald.segment.v1 import segment_pb2
from tests.campaign.builders import SENDER_ID, a_user
from tests.campaign.server_pair import ServerPair, start_pair
from tests.harness.postgres import Postgres


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_database_url(
    request: pytest.FixtureRequest, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A database of each kind for a whole module."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("shared")
        yield f"sqlite+aiosqlite:///{shutil.copy(sqlite_template, folder / 'herald.db')}"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.fresh_database()
    yield postgres.url(name)
    postgres.recycle(name)


@pytest_asyncio.fixture(scope="module")
async def refusing_services(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ServerPair]:
    """For calls that change nothing; with users, of whom some are gone, and segments alike."""
    folder = tmp_path_factory.mktemp("refusing")
    url = f"sqlite+aiosqlite:///{shutil.copy(sqlite_template, folder / 'herald.db')}"
    database = open_database(url)
    users = sql_chat_store(database).users
    now = datetime.now(UTC)
    await users.upsert([a_user(id_) for id_ in (SENDER_ID, "ann", "bob", "asleep", "gone")], now)
    await users.deactivate(["asleep"], now)
    await users.delete(["gone"], now)
    await database.close()
    async with start_pair(url) as services:
        await services.add_list("vips", ["ann"])
        await services.add_list("rooms", [], segment_pb2.SEGMENT_TYPE_CHANNEL)
        await services.add_list("old", [])
        await services.delete_segment("old")
        yield services
