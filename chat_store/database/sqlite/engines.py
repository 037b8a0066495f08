"""SQLite as two engines: one for snapshots, one for the single writer."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Self, TypeVar, cast

import aiosqlite
from sqlalchemy import Connection, event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from chat_store.database.sqlite.functions import register
from chat_store.database.sqlite.write_lock import PRIVATE_FILE, LockPolicy

_T = TypeVar("_T")

WAIT_SECONDS = 10.0
"""How long callers wait for a connection or for the write lock."""

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    # FULL: what an RPC has acknowledged survives a power cut
    "PRAGMA synchronous=FULL",
    "PRAGMA temp_store=MEMORY",
)
# Page caches in KiB. A writer uses the same pages again; the pages that readers scan are in the
# system's cache and would only fill theirs.
_READER_CACHE = 16_384
_WRITER_CACHE = 65_536
# readers wait only while another process recovers the file after a crash
_READER_BUSY_MILLISECONDS = 5_000
# SQLite's own wait sleeps ever longer; the writer at the head of the queue polls instead
_WRITER_BUSY_MILLISECONDS = 0
_LOCK_POLL_SECONDS = 0.001
# execution option of connections without transactions
_AUTOCOMMIT = "herald_statements_alone"
# one writer in its transaction, and the next one waiting for the lock
_WRITERS = 2
_PRIVATE_FOLDER = 0o700


def sqlite_file(url: URL) -> Path:
    """Returns the database's file. Raises ValueError for a database in memory."""
    if not url.database or url.database == ":memory:":
        raise ValueError("SQLite needs a file: the two servers share it")
    return Path(url.database)


def create_file(file: Path) -> None:
    """Creates an empty database for its owner alone, and its folder, unless they exist.

    SQLite gives its companions the mode of the database.
    """
    file.parent.mkdir(_PRIVATE_FOLDER, parents=True, exist_ok=True)
    if not file.exists():
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE))


def create_snapshot_engine(url: URL, pool_size: int, **options: Any) -> AsyncEngine:
    settings = (f"PRAGMA cache_size=-{_READER_CACHE}", *_PRAGMAS)
    engine = _engine(url, pool_size, settings, _READER_BUSY_MILLISECONDS, options)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def create_write_engine(url: URL, **options: Any) -> AsyncEngine:
    """Creates the writer's engine, whose transactions begin with `begin_immediate`."""
    settings = (f"PRAGMA cache_size=-{_WRITER_CACHE}", *_PRAGMAS)
    return _engine(url, _WRITERS, settings, _WRITER_BUSY_MILLISECONDS, options)


def with_autocommit(engine: AsyncEngine) -> AsyncEngine:
    """Returns an engine of the same connections, without transactions around statements."""
    return engine.execution_options(**{_AUTOCOMMIT: True})


async def begin_immediate(
    connection: AsyncConnection, policy: LockPolicy, within_seconds: float
) -> bool:
    """Takes the write lock as soon as the policy allows. Returns false if that takes too long."""
    # bypasses SQLAlchemy and the event loop, through which polling would cost far more
    driver = await _driver_of(connection)
    until = monotonic() + within_seconds
    if not await driver.in_thread(partial(driver.take_lock, policy, until)):
        return False
    await connection.begin()
    return True


async def run_transaction(
    work: Callable[[sqlite3.Connection], None],
    connection: AsyncConnection,
    policy: LockPolicy,
    within_seconds: float,
) -> bool:
    """Does as `begin_immediate`, then does `work` and commits. Returns whether it has."""
    driver = await _driver_of(connection)
    until = monotonic() + within_seconds
    return await driver.in_thread(partial(driver.transact, work, policy, until))


async def _driver_of(connection: AsyncConnection) -> "_Connection":
    driver: Any = (await connection.get_raw_connection()).driver_connection
    return cast("_Connection", driver)


class _Connection(aiosqlite.Connection):
    """A connection that interrupts its running statement when the waiting task is cancelled.

    Otherwise its thread would run on, for minutes maybe, and everything else would wait for it.
    """

    def __init__(
        self,
        file: Path,
        set_up: Callable[[sqlite3.Connection], None],
        ending: set[asyncio.Future[Any]],
    ) -> None:
        # no isolation level: the driver's own BEGIN comes late and can't be IMMEDIATE
        connector = partial(sqlite3.connect, file, factory=_SqliteConnection, isolation_level=None)
        super().__init__(connector, iter_chunk_size=64)
        # a process that ends without closing the connection does not wait for its thread
        self._thread.daemon = True
        self._set_up = set_up
        self._ending = ending
        self._ended: asyncio.Future[Any] | None = None
        # set if a statement was interrupted; only the thread knows how that one ended
        self._stopped = threading.Event()

    async def _connect(self) -> Self:
        await super()._connect()
        try:
            # in one call: each call to the thread waits for a busy event loop
            await self.in_thread(self._set_up)
        except BaseException:
            self.stop()
            raise
        return self

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        except asyncio.CancelledError:
            self._stopped.set()
            if self._connection is not None:
                self._connection.interrupt()
            raise

    def stop(self) -> "asyncio.Future[Any] | None":
        # an ended thread would never report its end a second time
        if not self._running:
            return self._ended
        self._ended = ended = super().stop()
        if ended:
            self._ending.add(ended)
            ended.add_done_callback(self._ending.discard)
        return ended

    def cursor(self) -> "_Cursor":  # type: ignore[override]
        return _Cursor(self)

    async def in_thread(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        done: _T = await self._execute(work, self._conn)
        return done

    def take_lock(self, policy: LockPolicy, until: float, connection: sqlite3.Connection) -> bool:
        """Runs in the thread. Returns false after `until`, or if the caller was cancelled."""
        while not policy(partial(_try_begin_immediate, connection)):
            if monotonic() >= until or self._stopped.wait(_LOCK_POLL_SECONDS):
                return False
        return True

    def transact(
        self,
        work: Callable[[sqlite3.Connection], None],
        policy: LockPolicy,
        until: float,
        connection: sqlite3.Connection,
    ) -> bool:
        """Does as `take_lock`, then `work`; commits unless the caller was cancelled."""
        if not self.take_lock(policy, until, connection):
            return False
        # an exception closes the connection, which rolls back
        work(connection)
        if self._stopped.is_set():
            return False
        connection.execute("COMMIT")
        return True

    async def rollback(self) -> None:
        if self._stopped.is_set() or self.in_transaction:
            await super().rollback()
            self._stopped.clear()


def _try_begin_immediate(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Executed:
    description: Any
    rowcount: int
    lastrowid: int | None
    rows: list[Any]


class _Cursor:
    """A cursor for SQLAlchemy that calls the connection's thread once per statement.

    The driver's own cursor calls it four times (create, execute, fetch, close), and each call
    waits for a busy event loop.
    """

    arraysize = 1

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._executed = _Executed(None, -1, None, [])

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        self._executed = await self._connection.in_thread(
            lambda connection: _finished(connection.execute(statement, parameters))
        )

    async def executemany(self, statement: str, parameters: Iterable[Sequence[Any]]) -> None:
        self._executed = await self._connection.in_thread(
            lambda connection: _finished(connection.executemany(statement, parameters))
        )

    async def fetchall(self) -> list[Any]:
        return self._executed.rows

    async def close(self) -> None:
        """Does nothing: the driver's cursor is closed already."""

    @property
    def description(self) -> Any:
        return self._executed.description

    @property
    def rowcount(self) -> int:
        return self._executed.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._executed.lastrowid


def _finished(cursor: sqlite3.Cursor) -> _Executed:
    with closing(cursor):
        rows = cursor.fetchall()
        return _Executed(cursor.description, cursor.rowcount, cursor.lastrowid, rows)


class _SqliteConnection(sqlite3.Connection):
    """A connection that ends its transaction when it is closed.

    Otherwise, while anything refers to one of its statements, SQLite keeps the connection and its
    locks until the garbage collector runs.
    """

    def close(self) -> None:
        # raised if it is closed already
        with suppress(sqlite3.ProgrammingError):
            self.rollback()
        super().close()


class _Engine(AsyncEngine):
    """An engine whose `dispose` waits until the threads of its connections have ended.

    A thread that nobody waits for could report to an event loop that is closed by then.
    """

    __slots__ = ("_ending",)

    def __init__(self, engine: AsyncEngine, ending: set[asyncio.Future[Any]]) -> None:
        super().__init__(engine.sync_engine)
        self._ending = ending

    async def dispose(self, close: bool = True) -> None:  # noqa: FBT001, FBT002 - SQLAlchemy's
        await super().dispose(close)
        if self._ending:
            await asyncio.wait(self._ending)


def _set_up(
    settings: Sequence[str], busy_milliseconds: int, connection: sqlite3.Connection
) -> None:
    # first, because the other settings may have to wait for another process
    connection.execute(f"PRAGMA busy_timeout={_READER_BUSY_MILLISECONDS}")
    for pragma in settings:
        connection.execute(pragma)
    connection.execute(f"PRAGMA busy_timeout={busy_milliseconds}")
    register(connection)


def _engine(
    url: URL,
    pool_size: int,
    settings: Sequence[str],
    busy_milliseconds: int,
    options: dict[str, Any],
) -> AsyncEngine:
    set_up = partial(_set_up, settings, busy_milliseconds)
    ending: set[asyncio.Future[Any]] = set()
    engine = create_async_engine(
        url,
        async_creator=partial(_Connection, sqlite_file(url), set_up, ending),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=WAIT_SECONDS,
        # the connection used last has its pages and statements cached
        pool_use_lifo=True,
        **options,
    )
    return _Engine(engine, ending)


def _begin(connection: Connection) -> None:
    if _AUTOCOMMIT not in connection.get_execution_options():
        connection.exec_driver_sql("BEGIN")
