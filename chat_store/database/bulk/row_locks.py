"""The order in which transactions lock rows, so that no two wait for each other.

PostgreSQL ends one of two that do, after a second. A transaction that changes several rows of a
table locks them in the order of their key. It locks tables in this order: users, devices,
channels, members, read positions, messages; webhooks, the end of the log of events, lanes,
attempts. SQLite has one writer.
"""

from sqlalchemy import ColumnElement, Select, Table, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection


async def lock_rows(connection: AsyncConnection, table: Table, which: ColumnElement[bool]) -> None:
    """Locks the rows that an UPDATE or DELETE of the same transaction is about to change."""
    if connection.dialect.name == "postgresql":
        await connection.execute(locking(table, which))


def locking(table: Table, which: ColumnElement[bool]) -> Select[int]:
    """Selects the number of rows that it locks, for PostgreSQL."""
    key = table.primary_key.columns
    locked = select(literal(1)).select_from(table).where(which).order_by(*key).with_for_update()
    return select(func.count()).select_from(locked.subquery())
