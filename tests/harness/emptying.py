"""Makes a database that several tests use empty again."""

from sqlalchemy import Connection, inspect, text

from chat_store.database.engine import Database

# by dialect: the schema is the same for all tests of a process, and reading it takes 20 ms
_tables: dict[str, tuple[str, ...]] = {}


async def empty(database: Database) -> None:
    """Deletes all rows but the schema's revision."""
    async with database.transaction() as connection:
        await connection.run_sync(_delete_rows)


def _delete_rows(connection: Connection) -> None:
    dialect = connection.dialect.name
    if dialect not in _tables:
        names = inspect(connection).get_table_names()
        _tables[dialect] = tuple(name for name in names if name != "alembic_version")
    for table in _tables[dialect]:
        connection.execute(text(f"DELETE FROM {table}"))
