import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from tests.faults.cluster import RestartablePostgres
from tests.harness.proxy import Proxy, relayed

pytestmark = pytest.mark.xdist_group("faults on postgres")


@pytest.fixture
async def proxy(mortal_postgres: RestartablePostgres) -> AsyncIterator[Proxy]:
    """In front of PostgreSQL."""
    folder = make_url(mortal_postgres.server.url("postgres")).query["host"]
    async with relayed(f"{folder}/.s.PGSQL.5432") as relay:
        yield relay


@pytest.fixture
async def connection(proxy: Proxy) -> AsyncIterator[asyncpg.Connection]:
    """Through the proxy, with an empty table of its own."""
    host, port = proxy.address.split(":")
    connected = await asyncpg.connect(
        host=host, port=int(port), user="postgres", database="postgres", ssl=False
    )
    await connected.execute("DROP TABLE IF EXISTS things; CREATE TABLE things (id INTEGER)")
    yield connected
    connected.terminate()


@pytest.mark.nightly
async def test_a_lost_commit_is_done_and_nobody_is_told(
    proxy: Proxy, connection: asyncpg.Connection, mortal_postgres: RestartablePostgres
) -> None:
    proxy.lose_commit()

    with pytest.raises(asyncpg.PostgresConnectionError):
        await _insert(connection)

    assert proxy.lost_commits == 1
    assert mortal_postgres.server.execute("SELECT count(*) FROM things") == "1"


async def test_a_cut_before_the_commit_undoes_all(
    proxy: Proxy, connection: asyncpg.Connection, mortal_postgres: RestartablePostgres
) -> None:
    await connection.execute("BEGIN; INSERT INTO things VALUES (1)")

    proxy.cut(random.Random(1))  # noqa: S311 - nobody's secret

    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
        await connection.execute("COMMIT")

    assert mortal_postgres.server.execute("SELECT count(*) FROM things") == "0"


@pytest.mark.nightly
async def test_what_is_held_up_goes_through_later(
    proxy: Proxy, connection: asyncpg.Connection
) -> None:
    proxy.hold()
    inserted = asyncio.create_task(_insert(connection))
    while not proxy.held_bytes:  # noqa: ASYNC110 - it has no event, and needs none elsewhere
        await asyncio.sleep(0)
    assert not inserted.done()

    proxy.let_go()
    await inserted

    assert await connection.fetchval("SELECT count(*) FROM things") == 1


async def test_who_is_refused_is_let_in_later(proxy: Proxy, connection: asyncpg.Connection) -> None:
    assert not connection.is_closed()
    host, port = proxy.address.split(":")
    proxy.refuse()
    reader, writer = await asyncio.open_connection(host, int(port))
    with pytest.raises(ConnectionError):
        await _or_error(reader)
    writer.close()

    proxy.let_go()
    again = await asyncpg.connect(
        host=host, port=int(port), user="postgres", database="postgres", ssl=False
    )

    assert proxy.refused == 1
    assert await again.fetchval("SELECT 1") == 1
    await again.close()


async def _insert(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO things VALUES (1)")


async def _or_error(reader: asyncio.StreamReader) -> None:
    """An end is as good as a reset."""
    if not await reader.read(1):
        raise ConnectionResetError
