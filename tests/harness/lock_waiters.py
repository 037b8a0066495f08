"""Calls that wait for a lock of PostgreSQL's, which a test holds."""

import asyncio
from typing import Any

from sqlalchemy import text

from chat_store.database.engine import Database

_WAITING = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


async def wait_for_waiters(database: Database, *calls: "asyncio.Future[Any]") -> None:
    """Returns when as many transactions wait for a lock as there are calls, or one has ended."""
    while not any(call.done() for call in calls):
        async with database.snapshot() as connection:
            if await connection.scalar(_WAITING) == len(calls):
                return
