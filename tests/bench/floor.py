"""The floor: a bare driver that writes the very rows of a campaign, and does nothing else.

Same tables and indexes, same durability, one transaction a page of the sender's size. The rows
are ready-made before the clock starts.
"""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy.engine import make_url

from tests.harness.apart import await_apart

# per target of a campaign that creates its channels
_ROWS_PER_TARGET = {"channels": 1, "members": 2, "messages": 1}
_ROWS = """
    SELECT t.* FROM messages AS m JOIN {table} AS t ON t.cid = m.cid ORDER BY m.target_id, t.cid
"""
_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-65536",
)


@dataclass(frozen=True, slots=True)
class _Rows:
    table: str
    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]


def floor_seconds(written_url: str, fresh_url: str, page_size: int) -> float:
    """Writes what a campaign has written to one database into another; how long that takes."""
    if make_url(fresh_url).get_backend_name() == "sqlite":
        return _sqlite_seconds(written_url, fresh_url, page_size)
    return await_apart(_postgres_seconds(_dsn(written_url), _dsn(fresh_url), page_size))


def _pages(tables: Sequence[_Rows], page_size: int) -> list[list[_Rows]]:
    targets = len(tables[0].rows) // _ROWS_PER_TARGET[tables[0].table]
    pages = []
    for first in range(0, targets, page_size):
        page = []
        for part in tables:
            each = _ROWS_PER_TARGET[part.table]
            rows = part.rows[first * each : (first + page_size) * each]
            page.append(_Rows(part.table, part.columns, rows))
        pages.append(page)
    return pages


def _sqlite_seconds(written_url: str, fresh_url: str, page_size: int) -> float:
    with closing(sqlite3.connect(make_url(written_url).database or "")) as written:
        tables = []
        for table in _ROWS_PER_TARGET:
            found = written.execute(_ROWS.format(table=table))
            names = [name for name, *_ in found.description]
            tables.append(_Rows(table, names, found.fetchall()))
    pages = _pages(tables, page_size)
    file = make_url(fresh_url).database or ""
    with closing(sqlite3.connect(file, isolation_level=None)) as fresh:
        for pragma in _SQLITE_PRAGMAS:
            fresh.execute(pragma)
        begin = time.perf_counter()
        for page in pages:
            fresh.execute("BEGIN IMMEDIATE")
            for part in page:
                columns = ", ".join(f'"{name}"' for name in part.columns)
                places = ", ".join("?" * len(part.columns))
                fresh.executemany(
                    f"INSERT INTO {part.table} ({columns}) VALUES ({places})", part.rows
                )
            fresh.execute("COMMIT")
        return time.perf_counter() - begin


async def _postgres_seconds(written_dsn: str, fresh_dsn: str, page_size: int) -> float:
    written = await asyncpg.connect(written_dsn)
    try:
        tables = []
        for table in _ROWS_PER_TARGET:
            found = await written.fetch(_ROWS.format(table=table))
            tables.append(_Rows(table, list(found[0].keys()), [tuple(row) for row in found]))
    finally:
        await written.close()
    pages = _pages(tables, page_size)
    fresh = await asyncpg.connect(fresh_dsn)
    try:
        begin = time.perf_counter()
        for page in pages:
            async with fresh.transaction():
                for part in page:
                    # measured: COPY is ahead of unnest, and far ahead of executemany
                    await fresh.copy_records_to_table(
                        part.table, records=part.rows, columns=part.columns
                    )
        return time.perf_counter() - begin
    finally:
        await fresh.close()


def _dsn(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
