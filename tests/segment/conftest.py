from collections.abc import AsyncIterator

import pytest

from chat_store.database import Database, open_database
from tests.segment.running import Service, running


@pytest.fixture
async def service(database: Database) -> AsyncIterator[Service]:
    """SegmentService on an empty database of each kind, at noon."""
    async with running(database) as service:
        yield service


@pytest.fixture
async def sqlite_service(sqlite_url: str) -> AsyncIterator[Service]:
    """The same on SQLite alone, for what no database has a say in."""
    database = open_database(sqlite_url)
    async with running(database) as service:
        yield service
    await database.close()
