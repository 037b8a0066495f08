"""The database: its read snapshots and write transactions."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import orjson
from sqlalchemy import Dialect, event, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import Pool, QueuePool

from chat_store.database.crash_points import Point, hit
from chat_store.database.errors import Fault, judgement_on
from chat_store.database.postgres.times import read_exactly
from chat_store.database.postgres.urls import read_url
from chat_store.database.sqlite.engines import (
    WAIT_SECONDS,
    begin_immediate,
    create_file,
    create_snapshot_engine,
    create_write_engine,
    run_transaction,
    sqlite_file,
    with_autocommit,
)
from chat_store.database.sqlite.write_lock import FairWriteLock, LockPolicy
from chat_store.errors import (
    ChatStoreError,
    RequestTooLargeError,
    StoreUnavailableError,
    UnusableDatabaseError,
)

DialectName = Literal["sqlite", "postgresql"]
_LockedWork = Callable[[AsyncConnection, LockPolicy, float], Awaitable[bool]]

_POOL_WAIT_SECONDS = 10.0
_AVAILABILITY_SECONDS = 3.0
_CLOSE_SECONDS = 3.0
# how long health remembers a refused write, if no other write succeeds meanwhile
_REFUSED_SECONDS = 5.0
# a transaction that can begin may still be read-only
_POSTGRES_MAY_WRITE = text(
    """
    DO $$ BEGIN
        IF current_setting('transaction_read_only')::boolean THEN
            RAISE read_only_sql_transaction USING MESSAGE = 'the database is read-only';
        END IF;
    END $$
    """
)
_SQLITE_MAY_WRITE = text("SELECT 1")


@dataclass(frozen=True, slots=True)
class ConnectionUse:
    """The connections of a pool. `size` is how many it keeps open."""

    in_use: int
    idle: int
    size: int


class Database:
    """The way to the database of both services and the import: one instance per process."""

    def __init__(
        self,
        autocommit_engine: AsyncEngine,
        snapshot_engine: AsyncEngine,
        write_engine: AsyncEngine,
        write_lock: FairWriteLock | None,
        file: Path | None = None,
    ) -> None:
        self.file = file
        """SQLite's file; None on PostgreSQL."""
        self.dialect: DialectName = "sqlite" if write_lock else "postgresql"
        self._autocommit_engine = autocommit_engine
        self._snapshot_engine = snapshot_engine
        self._write_engine = write_engine
        self._write_lock = write_lock
        # why the last write was refused, and until when that is reported
        self._refused, self._refused_until = "", 0.0

    @property
    def refusal(self) -> str:
        """Why the database refused this process's last write; empty if it did not."""
        return self._refused if monotonic() < self._refused_until else ""

    def connection_uses(self) -> dict[str, ConnectionUse]:
        """Returns the use of each pool by its name; PostgreSQL has one for reads and writes."""
        engines = {"write": self._write_engine}
        if self._write_lock:
            engines["read"] = self._snapshot_engine
        return {name: _use(engine.pool) for name, engine in engines.items()}

    @property
    def sql_dialect(self) -> Dialect:
        """SQLAlchemy's dialect, to compile statements ahead of time."""
        return self._snapshot_engine.dialect

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """Opens one consistent snapshot. Must not be held across a `yield` or an RPC."""
        with self._translated_errors():
            async with _connected(self._snapshot_engine) as connection:
                yield connection

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncConnection]:
        """Opens a connection for one statement, which is a snapshot by itself.

        Without a transaction around it, the statement takes one round trip instead of three, and
        each round trip waits for a busy event loop.
        """
        with self._translated_errors():
            async with _connected(self._autocommit_engine) as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self, step: str = "") -> AsyncIterator[AsyncConnection]:
        """Opens a transaction, which is committed on leaving and rolled back on an exception.

        On SQLite it holds the only write lock from the beginning, so it can't fail half-way for
        lack of it. `step` names it among the `crash_points`.
        """
        with self._translated_errors():
            async with self._begin() as connection:
                hit(step, Point.BEGUN)
                yield connection
                hit(step, Point.BEFORE_COMMIT)
                # an exception closes the connection, which rolls back
                await connection.commit()
                hit(step, Point.AFTER_COMMIT)
        self._refused_until = 0.0

    async def transaction_in_thread(
        self, step: str, work: Callable[[sqlite3.Connection], None]
    ) -> None:
        """Does as `transaction`, but from BEGIN to COMMIT in the connection's thread. SQLite only.

        The write lock is never held while a busy event loop is awaited.
        """
        if self._write_lock is None:
            raise TypeError("only SQLite has connections with threads of their own")

        def whole(connection: sqlite3.Connection) -> None:
            hit(step, Point.BEGUN)
            work(connection)
            hit(step, Point.BEFORE_COMMIT)

        with self._translated_errors():
            async with AsyncExitStack() as stack:
                await self._with_write_lock(
                    self._write_lock, stack, partial(run_transaction, whole)
                )
        self._refused_until = 0.0
        hit(step, Point.AFTER_COMMIT)

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        async with AsyncExitStack() as stack:
            if self._write_lock is None:
                yield await stack.enter_async_context(_connected(self._write_engine))
            else:
                yield await self._with_write_lock(self._write_lock, stack, begin_immediate)

    async def _with_write_lock(
        self, write_lock: FairWriteLock, stack: AsyncExitStack, work: _LockedWork
    ) -> AsyncConnection:
        """Returns a connection that has run `work` with the write lock; the stack closes it."""
        # one deadline for all waiting, or each wait in the queue would have its own
        until = monotonic() + WAIT_SECONDS
        try:
            async with asyncio.timeout(WAIT_SECONDS) as waiting, write_lock.process_lock:
                # tasks that wait for the process lock hold no connection
                connection = await stack.enter_async_context(_connected(self._write_engine))
                # no timeout any more: `work` may be a whole transaction, and is not cut off
                waiting.reschedule(None)
                await write_lock.acquire(partial(work, connection), until)
        except TimeoutError as error:
            raise StoreUnavailableError("the database is locked") from error
        return connection

    async def is_available(self) -> bool:
        """Returns whether a write can begin within 3 s and the last one was not just refused.

        Writes nothing itself, so only real writes notice a full disk.
        """
        may_write = _SQLITE_MAY_WRITE if self._write_lock else _POSTGRES_MAY_WRITE
        try:
            async with asyncio.timeout(_AVAILABILITY_SECONDS):
                with self._translated_errors():
                    async with self._begin() as connection:
                        await connection.execute(may_write)
        except (StoreUnavailableError, TimeoutError):
            return False
        return not self.refusal

    async def close(self) -> None:
        """Closes the connections within 3 s. Those that take longer end with the process."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._snapshot_engine.dispose()
                await self._write_engine.dispose()
        if self._write_lock:
            self._write_lock.close()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Translates the driver's errors into the store's. Lets defects pass unchanged."""
        try:
            yield
        except ChatStoreError:
            raise
        except Exception as error:
            judgement = judgement_on(error)
            if judgement.refuses:
                self._refused = judgement.caller_text
                self._refused_until = monotonic() + _REFUSED_SECONDS
            match judgement.fault:
                case Fault.TRANSIENT:
                    raise StoreUnavailableError(judgement.caller_text) from error
                case Fault.CALLER:
                    raise RequestTooLargeError(judgement.caller_text) from error
                case Fault.DEFECT:
                    raise


def open_database(
    url: str, *, pool_size: int = 8, background: bool = False, create: bool = True
) -> Database:
    """Prepares the database; connections are made when needed.

    Creates an SQLite file and its folder unless `create` is false. `background` is for processes
    that write without a pause: on SQLite, all others go first.

    Raises `UnusableDatabaseError` for a file that can't be created or does not exist, an unknown
    kind of database and a missing driver; `InvalidDatabaseUrlError` for an invalid URL of
    PostgreSQL.
    """
    try:
        if url.startswith("postgres"):
            return _open_postgres(url, pool_size)
        return _open_sqlite(url, pool_size, background=background, create=create)
    except ModuleNotFoundError as error:
        raise UnusableDatabaseError(
            f"PostgreSQL needs the Python package {error.name}, which is not installed: "
            "install Herald with its extra, '.[postgres]' in a checkout"
        ) from error
    except (OSError, ValueError, ArgumentError) as error:
        raise UnusableDatabaseError(str(error)) from None


def _use(pool: Pool) -> ConnectionUse:
    if not isinstance(pool, QueuePool):
        raise TypeError(type(pool))
    return ConnectionUse(pool.checkedout(), pool.checkedin(), pool.size())


def _json_options() -> dict[str, Any]:
    return {
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
    }


def _open_sqlite(url: str, pool_size: int, *, background: bool, create: bool) -> Database:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        raise ValueError("must be sqlite:///path or postgresql://user:password@host/database")
    file = sqlite_file(parsed)
    if create:
        create_file(file)
    elif not file.exists():
        raise FileNotFoundError(f"there is no file {file}")
    snapshot_engine = create_snapshot_engine(parsed, pool_size, **_json_options())
    write_engine = create_write_engine(parsed, **_json_options())
    return Database(
        with_autocommit(snapshot_engine),
        snapshot_engine,
        write_engine,
        FairWriteLock(file, background=background),
        file,
    )


def _open_postgres(url: str, pool_size: int) -> Database:
    # the driver need not be installed for SQLite
    from chat_store.database.postgres.connections import connect  # noqa: PLC0415

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=partial(connect, read_url(url)),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=_POOL_WAIT_SECONDS,
        # reuses the same few connections, which have the statements prepared
        pool_use_lifo=True,
        **_json_options(),
    )
    read_exactly(engine)
    event.listen(engine.sync_engine, "handle_error", _renew_outdated)
    autocommit_engine = engine.execution_options(isolation_level="AUTOCOMMIT")
    snapshot_engine = engine.execution_options(isolation_level="REPEATABLE READ")
    return Database(autocommit_engine, snapshot_engine, engine, None)


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    async with engine.connect() as connection:
        try:
            yield connection
        except Exception as error:
            # on SQLite, some statements bypass SQLAlchemy and its events
            if judgement_on(error).outdates and not connection.invalidated:
                await connection.invalidate()
            raise


def _renew_outdated(context: ExceptionContext) -> None:
    """Makes the pool replace all older connections when they are next needed."""
    if judgement_on(context.original_exception).outdates:
        context.is_disconnect = True
