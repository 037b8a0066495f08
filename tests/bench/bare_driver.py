"""A database's bare driver: the servers' durability, and nothing else of theirs."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import asyncpg
from sqlalchemy.engine import make_url

_T = TypeVar("_T")

_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-65536",
)


@dataclass(frozen=True, slots=True)
class Rows:
    table: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A message more in each of these channels; `moment` is as the driver has it."""

    cids: Sequence[str]
    moment: Any


class BareDriver(Protocol):
    """One connection."""

    def fetch(self, query: str) -> Sequence[Sequence[Any]]:
        """The whole result at once, as the driver has it."""

    def read(self, table: str, query: str, at_once: int) -> Iterator[Rows]:
        """So many rows at a time, ready to be inserted into `table`."""

    def insert(self, *parts: Rows, arrivals: Arrivals | None = None) -> None:
        """In one transaction, durable on return. `arrivals` move the channels' counts."""

    def fill(self, *statements: str) -> None:
        """What writes much and is not measured; durable once it is settled."""

    def settle(self) -> None:
        """Does at once what the database would do by and by about what was written."""


@contextmanager
def open_bare_driver(url: str) -> Iterator[BareDriver]:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(parsed.database or "", isolation_level=None)) as connection:
            for pragma in _SQLITE_PRAGMAS:
                connection.execute(pragma)
            yield _Sqlite(connection)
        return
    dsn = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
    with asyncio.Runner() as runner:
        postgres = _Postgres(runner, runner.run(asyncpg.connect(dsn)))
        try:
            yield postgres
        finally:
            postgres.close()


class _Sqlite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def fetch(self, query: str) -> Sequence[Sequence[Any]]:
        return self._connection.execute(query).fetchall()

    def read(self, table: str, query: str, at_once: int) -> Iterator[Rows]:
        found = self._connection.execute(query)
        columns = [name for name, *_ in found.description]
        while rows := found.fetchmany(at_once):
            yield Rows(table, columns, rows)

    def insert(self, *parts: Rows, arrivals: Arrivals | None = None) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for part in parts:
            columns = ", ".join(f'"{name}"' for name in part.columns)
            places = ", ".join("?" * len(part.columns))
            self._connection.executemany(
                f"INSERT INTO {part.table} ({columns}) VALUES ({places})", part.rows
            )
        if arrivals:
            self._connection.executemany(
                "UPDATE channels SET message_count = message_count + 1, last_message_at = ?"
                " WHERE cid = ?",
                [(arrivals.moment, cid) for cid in arrivals.cids],
            )
        self._connection.execute("COMMIT")

    def fill(self, *statements: str) -> None:
        # without a log that would become as large as the database
        self._connection.execute("PRAGMA journal_mode=DELETE")
        for statement in statements:
            self._connection.execute(statement)
        self._connection.execute("PRAGMA journal_mode=WAL")

    def settle(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class _Postgres:
    def __init__(self, runner: asyncio.Runner, connection: Any) -> None:
        self._runner = runner
        self._connection = connection

    def fetch(self, query: str) -> Sequence[Sequence[Any]]:
        return self._await(self._connection.fetch(query))

    def read(self, table: str, query: str, at_once: int) -> Iterator[Rows]:
        transaction = self._connection.transaction()
        self._await(transaction.start())
        cursor = self._await(self._connection.cursor(query))
        while rows := self._await(cursor.fetch(at_once)):
            yield Rows(table, list(rows[0].keys()), [tuple(row) for row in rows])
        self._await(transaction.rollback())

    def insert(self, *parts: Rows, arrivals: Arrivals | None = None) -> None:
        self._await(self._insert(parts, arrivals))

    def fill(self, *statements: str) -> None:
        for statement in statements:
            self._await(self._connection.execute(statement))

    def settle(self) -> None:
        self._await(self._connection.execute("VACUUM ANALYZE"))
        self._await(self._connection.execute("CHECKPOINT"))

    def close(self) -> None:
        self._await(self._connection.close())

    async def _insert(self, parts: Sequence[Rows], arrivals: Arrivals | None) -> None:
        async with self._connection.transaction():
            for part in parts:
                # measured: COPY is ahead of unnest, and far ahead of executemany
                await self._connection.copy_records_to_table(
                    part.table, records=part.rows, columns=part.columns
                )
            if arrivals:
                await self._connection.execute(
                    "UPDATE channels SET message_count = message_count + 1, last_message_at = $2"
                    " WHERE cid = ANY($1::varchar[])",
                    arrivals.cids,
                    arrivals.moment,
                )

    def _await(self, work: Awaitable[_T]) -> _T:
        async def awaited() -> _T:
            return await work

        return self._runner.run(awaited())
