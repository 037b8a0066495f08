"""The one database: its read snapshots and its write transactions."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import orjson
from sqlalchemy import Dialect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from chat_store.crash_points import Point, passing
from chat_store.errors import StoreUnavailableError
from chat_store.postgres_times import read_exactly
from chat_store.sqlite.engines import (
    WAIT_SECONDS,
    begins,
    reading_engine,
    sqlite_file,
    transacts,
    without_transactions,
    writing_engine,
)
from chat_store.sqlite.turn import Rule, WriteTurn

DialectName = Literal["sqlite", "postgresql"]
_Begin = Callable[[AsyncConnection, Rule, float], Awaitable[bool]]

_POOL_WAIT_SECONDS = 10.0
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 3.0
_CLOSE_SECONDS = 3.0
# a plan for any keys, made while a table was empty, would read all of it for each when it is large
_POSTGRES_SETTINGS = {"plan_cache_mode": "force_custom_plan"}
_SQLITE_TRANSIENT = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
}
# connection, resources, operator intervention, lost races and lock time-outs
_POSTGRES_TRANSIENT = ("08", "53", "57P", "40001", "40P01", "55P03")


class Database:
    """Both services and the import reach the database through one of these per process."""

    def __init__(
        self,
        looker: AsyncEngine,
        reader: AsyncEngine,
        writer: AsyncEngine,
        turn: WriteTurn | None,
        file: Path | None = None,
    ) -> None:
        self.file = file
        """SQLite's; None on PostgreSQL."""
        self.dialect: DialectName = "sqlite" if turn else "postgresql"
        self._looker = looker
        self._reader = reader
        self._writer = writer
        self._turn = turn

    @property
    def sql_dialect(self) -> Dialect:
        """SQLAlchemy's, to compile statements ahead for it."""
        return self._reader.dialect

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One consistent snapshot. Never hold it across a `yield` or an RPC."""
        with _translated_errors():
            async with self._reader.connect() as connection:
                yield connection

    @asynccontextmanager
    async def look(self) -> AsyncIterator[AsyncConnection]:
        """For one statement, which is a snapshot by itself.

        Without a transaction around it, it goes to the database and back once instead of three
        times; each of them waits for a turn of a busy event loop.
        """
        with _translated_errors():
            async with self._looker.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self, step: str = "") -> AsyncIterator[AsyncConnection]:
        """One transaction, committed on leaving, rolled back on an exception.

        On SQLite it holds the only write lock from its first moment, so it can't fail half-way
        for want of it. `step` names it among the `crash_points`.
        """
        with _translated_errors():
            async with self._begun() as connection:
                passing(step, Point.BEGUN)
                yield connection
                passing(step, Point.BEFORE_COMMIT)
                # leaving by an exception closes the connection, which rolls back
                await connection.commit()
                passing(step, Point.AFTER_COMMIT)

    async def write_apart(self, step: str, work: Callable[[sqlite3.Connection], None]) -> None:
        """As `write`, on SQLite only, with all of the transaction in the connection's thread.

        From when it has the write lock until it is committed it waits for no turn of a busy event
        loop, and nobody else waits for that with it.
        """
        if self._turn is None:
            raise TypeError("only SQLite has connections with threads of their own")

        def whole(connection: sqlite3.Connection) -> None:
            passing(step, Point.BEGUN)
            work(connection)
            passing(step, Point.BEFORE_COMMIT)

        with _translated_errors():
            async with AsyncExitStack() as stack:
                await self._in_turn(self._turn, stack, partial(transacts, whole))
        passing(step, Point.AFTER_COMMIT)

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[AsyncConnection]:
        async with AsyncExitStack() as stack:
            if self._turn is None:
                yield await stack.enter_async_context(self._writer.connect())
            else:
                yield await self._in_turn(self._turn, stack, begins)

    async def _in_turn(
        self, turn: WriteTurn, stack: AsyncExitStack, begin: _Begin
    ) -> AsyncConnection:
        """The connection of which `begin` has said true, until the stack is closed."""
        # for all that is waited for together, or each in the queue would wait as long again
        until = monotonic() + WAIT_SECONDS
        try:
            async with asyncio.timeout(WAIT_SECONDS) as waiting, turn.within_process:
                # whoever waits for its turn holds no connection
                connection = await stack.enter_async_context(self._writer.connect())
                # what may be a whole transaction is not cut off
                waiting.reschedule(None)
                await turn.begun(partial(begin, connection), until)
        except TimeoutError as error:
            raise StoreUnavailableError("the database is locked") from error
        return connection

    async def answers(self) -> bool:
        """Whether a transaction that may write can be begun within 3 s. Writes nothing."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), self.write() as connection:
                await connection.execute(select(1))
        except (StoreUnavailableError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """Within 3 s: connections that can't be closed by then end with the process."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._reader.dispose()
                await self._writer.dispose()
        if self._turn:
            self._turn.close()


def open_database(url: str, *, pool_size: int = 8, patient: bool = False) -> Database:
    """Opens nothing yet: connections are made when needed. Creates an SQLite file's folder.

    `patient` is for who writes without a pause: on SQLite all others go first.
    """
    parsed = make_url(url)
    json: dict[str, Any] = {
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
    }
    if parsed.get_backend_name() == "sqlite":
        file = sqlite_file(parsed)
        file.parent.mkdir(parents=True, exist_ok=True)
        reader = reading_engine(parsed, pool_size, **json)
        writer = writing_engine(parsed, **json)
        return Database(
            without_transactions(reader), reader, writer, WriteTurn(file, patient=patient), file
        )
    engine = create_async_engine(
        parsed,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=_POOL_WAIT_SECONDS,
        # the same few are used again and again, and know the statements
        pool_use_lifo=True,
        connect_args={"timeout": _CONNECT_SECONDS, "server_settings": _POSTGRES_SETTINGS},
        **json,
    )
    read_exactly(engine)
    looker = engine.execution_options(isolation_level="AUTOCOMMIT")
    reader = engine.execution_options(isolation_level="REPEATABLE READ")
    return Database(looker, reader, engine, None)


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Turns a driver's passing faults into `StoreUnavailableError`; mistakes of ours fly."""
    try:
        yield
    except Exception as error:
        if is_transient(error):
            raise StoreUnavailableError(str(error)) from error
        raise


def is_transient(error: Exception) -> bool:
    """Whether the same work may succeed later without anyone mending anything in it."""
    if isinstance(error, PoolTimeoutError | OSError):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        return (code & 0xFF) in _SQLITE_TRANSIENT
    # asyncpg's word for a connection that was cut while it was being made
    if type(cause).__name__ == "InternalClientError":
        return True
    # asyncpg's own errors reach us unwrapped while a connection is being made
    return str(getattr(cause, "sqlstate", None) or "").startswith(_POSTGRES_TRANSIENT)
