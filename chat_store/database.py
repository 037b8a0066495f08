"""The one database: an engine, its read snapshots and its write transactions."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from pathlib import Path
from typing import Any, Literal

import orjson
from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from chat_store.errors import StoreUnavailableError
from chat_store.turn import WriteTurn

DialectName = Literal["sqlite", "postgresql"]

_SQLITE_WAIT_SECONDS = 30
_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    # FULL: what an RPC has acknowledged survives a power cut
    "PRAGMA synchronous=FULL",
    f"PRAGMA busy_timeout={_SQLITE_WAIT_SECONDS * 1000}",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-65536",
)
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

    def __init__(self, engine: AsyncEngine, turn: WriteTurn | None) -> None:
        self.engine = engine
        self.dialect: DialectName = "sqlite" if turn else "postgresql"
        self._turn = turn

    def read(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """One consistent snapshot. Never hold it across a `yield` or an RPC."""
        return self._transaction(nullcontext(), write=False)

    def write(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """One transaction, committed on leaving, rolled back on an exception.

        On SQLite it holds the only write lock from its first moment, so it can't fail half-way
        for want of it.
        """
        return self._transaction(self._turn.taken() if self._turn else nullcontext(), write=True)

    @asynccontextmanager
    async def _transaction(
        self, turn: AbstractAsyncContextManager[None], *, write: bool
    ) -> AsyncIterator[AsyncConnection]:
        with _translated_errors():
            async with self.engine.connect() as connection:
                await connection.execution_options(
                    herald_write=write, **_isolation(self.dialect, write=write)
                )
                async with turn:
                    await connection.begin()
                yield connection
                # leaving by an exception closes the connection, which rolls back
                await connection.commit()

    async def close(self) -> None:
        await self.engine.dispose()
        if self._turn:
            self._turn.close()


def open_database(url: str, *, pool_size: int = 8) -> Database:
    """Opens nothing yet: connections are made when needed. Creates an SQLite file's folder."""
    parsed = make_url(url)
    json: dict[str, Any] = {
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
    }
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed, json, pool_size)
    engine = create_async_engine(
        parsed, pool_size=pool_size, max_overflow=pool_size, pool_timeout=30, **json
    )
    return Database(engine, None)


def _open_sqlite(url: URL, json: dict[str, Any], pool_size: int) -> Database:
    if not url.database or url.database == ":memory:":
        raise ValueError("SQLite needs a file: the two servers share it")
    file = Path(url.database)
    file.parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=_SQLITE_WAIT_SECONDS,
        **json,
    )
    event.listen(engine.sync_engine, "connect", _configure_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return Database(engine, WriteTurn(file))


def _configure_sqlite(dbapi_connection: Any, _record: Any) -> None:
    # the driver's own BEGIN comes late and can't be IMMEDIATE
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    for pragma in _SQLITE_PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("herald_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _isolation(dialect: DialectName, *, write: bool) -> dict[str, str]:
    if dialect == "postgresql" and not write:
        return {"isolation_level": "REPEATABLE READ"}
    return {}


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
    # asyncpg's own errors reach us unwrapped while a connection is being made
    return str(getattr(cause, "sqlstate", None) or "").startswith(_POSTGRES_TRANSIENT)
