"""Runs commands on the database, whether servers run or not."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from chat_store.database import schema
from chat_store.database.engine import Database, open_database
from chat_store.errors import ChatStoreError, for_operators

T = TypeVar("T")

# among them: a missing driver, an unreachable server, a schema of another version
_DATABASE_ERRORS = (ChatStoreError, SQLAlchemyError, OSError, ImportError)


class UnusableDatabaseError(Exception):
    """The database is unreachable, or is not a database of this version."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"the database: {for_operators(cause)}")


def at_database(database_url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    """Does the work and returns its result. Raises `UnusableDatabaseError`."""
    try:
        return asyncio.run(_with_database(database_url, work))
    except _DATABASE_ERRORS as error:
        raise UnusableDatabaseError(error) from error
    except Exception as error:
        # while a connection is being made, the driver's errors arrive unwrapped
        if getattr(error, "sqlstate", None) is None:
            raise
        raise UnusableDatabaseError(error) from error


async def _with_database(database_url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    database = open_database(database_url, create=False)
    try:
        await schema.require_current_schema(database)
        return await work(database)
    finally:
        await database.close()
