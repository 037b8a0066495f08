"""Statements that are compiled once for all databases of a run.

SQLAlchemy compiles a statement once an engine. The tests open thousands of engines, which are all
alike, and compiling took a fifth of their processor time.
"""

from typing import Any

from sqlalchemy import Connection, Dialect, Engine, event
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.util import LRUCache

_MOST_STATEMENTS = 5_000


def share() -> None:
    """From now on, in this process."""
    # a dialect is part of the key of what is compiled for it
    for dialect in (SQLiteDialect_aiosqlite, PGDialect_asyncpg):
        dialect.__eq__ = _is_alike  # type: ignore[assignment,method-assign]
        dialect.__hash__ = _hash_of_kind  # type: ignore[assignment,method-assign]
    compiled: LRUCache[Any, Any] = LRUCache(_MOST_STATEMENTS)

    def use(connection: Connection) -> None:
        connection.execution_options(compiled_cache=compiled)

    event.listen(Engine, "engine_connect", use)


def _is_alike(one: Dialect, other: object) -> bool:
    return type(one) is type(other)


def _hash_of_kind(dialect: Dialect) -> int:
    return hash(type(dialect))
