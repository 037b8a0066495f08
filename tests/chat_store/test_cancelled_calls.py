"""Who gives up waiting for the database takes nothing along: no statement, loan or lock."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest
from sqlalchemy import select, text
from sqlalchemy.engine import make_url

from chat_store.database import engine as engine_module
from chat_store.database.engine import Database, open_database
from chat_store.database.sqlite.engines import begin_immediate, create_write_engine
from chat_store.errors import StoreUnavailableError
from tests.harness.postgres import Postgres

# minutes of work, and a wait
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
SLEEPING = "SELECT pg_sleep(600)"
LOANS = ("autocommit", "snapshot", "transaction")


@pytest.fixture
async def sqlite(sqlite_url: str) -> AsyncIterator[Database]:
    opened = open_database(sqlite_url)
    yield opened
    await opened.close()


@pytest.fixture
def other_process(sqlite_url: str) -> Iterator[sqlite3.Connection]:
    """A connection that knows nothing of ours, and does not wait."""
    file = make_url(sqlite_url).database
    assert file
    with closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as connection:
        yield connection


async def given_up(database: Database, loan: str, statement: str) -> float:
    """Cancels the statement while it runs; returns how many seconds its end took."""
    running = asyncio.Event()

    async def run() -> None:
        async with getattr(database, loan)() as connection:
            await connection.execute(select(1))
            running.set()
            await connection.execute(text(statement))

    return await cancelled(asyncio.create_task(run()), running)


async def cancelled(task: asyncio.Task[None], running: asyncio.Event) -> float:
    """Cancels it once it is running its last statement; returns how many seconds its end took."""
    await running.wait()
    # until the statement is with the driver's thread
    await asyncio.wait([task], timeout=0.2)
    begin = monotonic()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    return monotonic() - begin


@pytest.mark.parametrize("loan", LOANS)
async def test_a_statement_on_sqlite_ends_with_its_caller(
    sqlite: Database, other_process: sqlite3.Connection, loan: str
) -> None:
    for _ in range(3):
        assert await given_up(sqlite, loan, ENDLESS) < 5
        # at once, and not when garbage is collected
        other_process.execute("BEGIN IMMEDIATE")
        other_process.execute("ROLLBACK")

    assert await sqlite.is_available()


@pytest.mark.parametrize("loan", LOANS)
async def test_a_statement_on_postgresql_ends_with_its_caller(
    postgres: Postgres, postgres_url: str, loan: str
) -> None:
    database = open_database(postgres_url, pool_size=1)
    for _ in range(3):
        assert await given_up(database, loan, SLEEPING) < 5
    answers = await database.is_available()
    still_running = postgres.execute(
        f"SELECT count(*) FROM pg_stat_activity WHERE query = '{SLEEPING}' AND state = 'active'"
    )
    await database.close()

    assert answers
    assert still_running == "0"


async def test_the_opening_of_a_connection_ends_with_its_caller_and_before_its_database(
    tmp_path: Path,
) -> None:
    file = tmp_path / "new.db"
    database = open_database(f"sqlite+aiosqlite:///{file}")
    before = set(threading.enumerate())
    with closing(sqlite3.connect(file, isolation_level=None)) as other_process:
        # a file that is no WAL yet can't become one meanwhile
        other_process.execute("BEGIN EXCLUSIVE")
        begin = monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), database.autocommit():
                pass
        waited = monotonic() - begin
        opening = set(threading.enumerate()) - before
        end = asyncio.create_task(database.close())
        await asyncio.wait([end], timeout=0.2)
        closed_before_it = end.done()
        other_process.execute("ROLLBACK")
    await end
    for thread in opening:
        await asyncio.to_thread(thread.join, 10)

    assert waited < 5
    assert len(opening) == 1
    assert not closed_before_it
    assert not any(thread.is_alive() for thread in opening)


async def test_all_who_wait_for_the_write_lock_give_up_together(
    sqlite: Database, other_process: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write() -> None:
        async with sqlite.transaction():
            pass

    await write()
    monkeypatch.setattr(engine_module, "WAIT_SECONDS", 0.5)
    other_process.execute("BEGIN IMMEDIATE")
    begin = monotonic()
    ends = await asyncio.gather(*(write() for _ in range(20)), return_exceptions=True)
    waited = monotonic() - begin
    other_process.execute("ROLLBACK")
    await write()

    assert {type(end) for end in ends} == {StoreUnavailableError}
    assert waited < 5


def left_behind(other_process: sqlite3.Connection) -> bool:
    """Whether the table is there, found by a writer who gets the lock at once."""
    other_process.execute("BEGIN IMMEDIATE")
    tables = "SELECT count(*) FROM sqlite_master WHERE name = 'left_behind'"
    ((found,),) = other_process.execute(tables)
    return bool(found)


async def test_a_transaction_apart_ends_with_its_caller_and_leaves_nothing(
    sqlite: Database, other_process: sqlite3.Connection
) -> None:
    running = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE left_behind (x)")
        loop.call_soon_threadsafe(running.set)
        connection.execute(ENDLESS)

    assert await cancelled(asyncio.create_task(sqlite.transaction_in_thread("", work)), running) < 5

    assert not left_behind(other_process)


async def test_who_is_cancelled_between_two_statements_apart_commits_nothing(
    sqlite: Database, other_process: sqlite3.Connection
) -> None:
    """Between them there is nothing that could be interrupted."""
    written, may_go_on = threading.Event(), threading.Event()

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE left_behind (x)")
        written.set()
        may_go_on.wait(10)

    task = asyncio.create_task(sqlite.transaction_in_thread("", work))
    await asyncio.to_thread(written.wait, 10)
    task.cancel()
    await asyncio.wait([task], timeout=0.2)
    may_go_on.set()
    await asyncio.wait([task])

    assert task.cancelled()
    assert not left_behind(other_process)


@pytest.mark.parametrize("loan", LOANS)
async def test_a_caller_who_is_cancelled_again_and_again_leaves_no_connection_half_closed(
    sqlite_url: str, loan: str
) -> None:
    """The second cancellation comes while the connection is closed because of the first."""
    database = open_database(sqlite_url)
    running = asyncio.Event()

    async def run() -> None:
        async with getattr(database, loan)() as connection:
            running.set()
            await connection.execute(text(ENDLESS))

    before = asyncio.all_tasks()
    task = asyncio.create_task(run())
    await running.wait()
    # until the statement is with the driver's thread
    await asyncio.wait([task], timeout=0.2)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    await database.close()
    closing_tasks = asyncio.all_tasks() - before
    if closing_tasks:
        await asyncio.wait(closing_tasks, timeout=5)

    assert task.cancelled()
    assert not asyncio.all_tasks() - before


async def test_a_transaction_apart_that_fails_leaves_nothing(
    sqlite: Database, other_process: sqlite3.Connection
) -> None:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE left_behind (x)")
        raise LookupError

    with pytest.raises(LookupError):
        await sqlite.transaction_in_thread("", work)

    assert not left_behind(other_process)


async def test_a_transaction_apart_may_take_longer_than_the_lock_is_waited_for(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(connection: sqlite3.Connection) -> None:
        begin = monotonic()
        while monotonic() - begin < 0.5:
            connection.execute("SELECT 1")

    await sqlite.transaction_in_thread("", lambda _: None)
    monkeypatch.setattr(engine_module, "WAIT_SECONDS", 0.2)
    await sqlite.transaction_in_thread("", work)


async def test_who_waits_for_the_write_lock_after_one_who_gave_up_waits_as_long(
    sqlite_url: str, other_process: sqlite3.Connection
) -> None:
    engine = create_write_engine(make_url(sqlite_url))

    async def takes_lock(seconds: float) -> bool:
        # the same connection each time
        async with engine.connect() as connection:
            return await begin_immediate(connection, lambda attempt: attempt(), seconds)

    other_process.execute("BEGIN IMMEDIATE")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await takes_lock(60)
    begin = monotonic()
    got_it = await takes_lock(0.3)
    waited = monotonic() - begin
    other_process.execute("ROLLBACK")
    gets_it = await takes_lock(0)
    await engine.dispose()

    assert not got_it
    assert waited >= 0.3
    assert gets_it


async def test_a_database_that_cannot_be_written_to_does_not_answer(
    sqlite: Database, other_process: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_AVAILABILITY_SECONDS", 0.2)
    other_process.execute("BEGIN IMMEDIATE")
    while_locked = await sqlite.is_available()
    other_process.execute("ROLLBACK")

    assert not while_locked
    assert await sqlite.is_available()
