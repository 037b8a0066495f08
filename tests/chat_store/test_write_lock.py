import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
from sqlalchemy import text

from chat_store.database.engine import Database, open_database

# Writes one page after the other, each of them as long as it takes, and takes the lock again at
# once; says when it has begun, and goes on until its standard input ends.
_BUSY = """
import asyncio, sys, threading
from sqlalchemy import text
from chat_store.database.engine import open_database

stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()

INSERT = "INSERT INTO writes (who) VALUES ('busy')"

def page(connection):
    connection.execute(INSERT)
    connection.execute(sys.argv[2]).fetchall()

async def main():
    background = sys.argv[3] == "background"
    database = open_database(sys.argv[1], background=background)
    while not stop.is_set():
        if background:
            await database.transaction_in_thread("", page)
        else:
            async with database.transaction() as connection:
                await connection.execute(text(INSERT))
                await connection.execute(text(sys.argv[2]))
        print("page", flush=True)
    await database.close()

asyncio.run(main())
"""
# some tens of milliseconds of work inside the transaction
_WORK = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
SELECT count(*) FROM n
"""


@pytest.fixture
async def url(tmp_path: Path) -> str:
    url = f"sqlite+aiosqlite:///{tmp_path}/writes.db"
    database = open_database(url)
    async with database.transaction() as connection:
        await connection.execute(
            text("CREATE TABLE writes (position INTEGER PRIMARY KEY, who TEXT NOT NULL)")
        )
    await database.close()
    return url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = open_database(url)
    yield database
    await database.close()


async def write_one(database: Database, who: str, *, work: bool = False) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("INSERT INTO writes (who) VALUES (:who)"), {"who": who})
        if work:
            await connection.execute(text(_WORK))


async def writers(database: Database) -> list[str]:
    async with database.snapshot() as connection:
        return list(await connection.scalars(text("SELECT who FROM writes ORDER BY position")))


def pages_between(order: list[str]) -> list[int]:
    """How many pages of busy processes there are between each write of the other and its next."""
    positions = [position for position, who in enumerate(order) if who == "other"]
    assert len(positions) == 10
    return [later - earlier - 1 for earlier, later in pairwise(positions)]


@contextmanager
def busy_process(url: str, kind: str = "equal") -> Iterator[None]:
    """Another process that writes without a pause."""
    program = [sys.executable, "-c", _BUSY, url, _WORK, kind]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "page\n"
        yield
        process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.nightly
async def test_a_writer_gets_in_between_two_pages_of_a_busy_task(database: Database) -> None:
    async def busy() -> None:
        for _ in range(10):
            await write_one(database, "busy", work=True)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(busy())
        await write_one(database, "other")
        await write_one(database, "other")

    order = await writers(database)
    assert order.count("busy") == 10
    assert order.index("other") <= 2


@pytest.mark.alone
async def test_a_writer_gets_in_between_two_pages_of_a_busy_process(
    url: str, database: Database
) -> None:
    with busy_process(url):
        for _ in range(10):
            await write_one(database, "other")
        order = await writers(database)

    between = order[order.index("other") :]
    assert between.count("other") == 10
    # about one page for each write: neither starves the other
    assert 5 <= between.count("busy") <= 20


@pytest.mark.alone
async def test_a_writer_waits_for_the_page_under_way_and_not_for_those_of_two_background_processes(
    url: str, database: Database
) -> None:
    with busy_process(url, "background"), busy_process(url, "background"):
        for _ in range(10):
            await write_one(database, "other")
        order = await writers(database)

    # not each: while this process waits for a core it does not wait for the lock, and they go on
    assert median(pages_between(order)) <= 1


@pytest.mark.alone
async def test_background_processes_are_not_starved(url: str, database: Database) -> None:
    with busy_process(url, "background"):
        written = (await writers(database)).count("busy")

        async def always_there() -> None:
            while (await writers(database)).count("busy") < written + 3:
                await write_one(database, "other")

        async with asyncio.TaskGroup() as others:
            for _ in range(3):
                others.create_task(always_there())


async def test_those_who_wait_come_in_the_order_they_asked(database: Database) -> None:
    async with asyncio.TaskGroup() as tasks, database.transaction():
        for number in range(5):
            tasks.create_task(write_one(database, str(number)))
        for _ in range(3):
            await asyncio.sleep(0)

    assert await writers(database) == ["0", "1", "2", "3", "4"]
