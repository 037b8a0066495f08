"""Finds out which rows a transaction has locked before another. PostgreSQL only."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from sqlalchemy import ColumnElement, select, text

from chat_store.database.engine import Database

# The keys of the rows to lock, the last one first: stored in this order, the table's is not that of
# the keys.
STORED = [f"k{number}" for number in reversed(range(9))]
MIDDLE = "k4"
UP_TO_THE_MIDDLE = {"k0", "k1", "k2", "k3", MIDDLE}

_WAITING = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


async def locked_before(
    database: Database,
    held: ColumnElement[bool],
    key: ColumnElement[str],
    write: Coroutine[Any, Any, object],
) -> set[str]:
    """Returns the keys of the rows that are locked when `write` waits for the row `held`.

    If that is a row of the same table, its key is among them.
    """
    async with database.autocommit() as connection:
        # the planner then knows that the table is small, and reads it in its own order if it may
        await connection.execute(text(f"ANALYZE {key.table.name}"))
    async with database.transaction() as holder:
        assert await holder.scalar(select(text("1")).where(held).with_for_update())
        writing = asyncio.create_task(write)
        await waits(database, writing)
        async with database.transaction() as connection:
            every_key = set(await connection.scalars(select(key)))
            free = select(key).with_for_update(skip_locked=True)
            locked = every_key - set(await connection.scalars(free))
    await writing
    return locked


async def waits(database: Database, writing: "asyncio.Task[object]", others: int = 0) -> None:
    """Returns when this many others and `writing` wait for locks. The test's time-out bounds it."""
    while not writing.done():
        async with database.autocommit() as connection:
            if await connection.scalar(_WAITING) > others:
                return
        await asyncio.sleep(0.01)
    await writing
    raise AssertionError("it waited for nothing")
