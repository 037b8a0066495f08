"""Migrates a database to this code's schema revision, and refuses one at another revision.

Databases whose encoding is not UTF-8 are refused too, because they order strings, match patterns
and classify letters differently.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from chat_store.database.engine import Database
from chat_store.errors import DatabaseEncodingError, SchemaMismatchError, UnusableDatabaseError

_NO_DATABASE = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}

# several servers may start on an empty database at the same moment
_MIGRATION_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('herald-migrations'))")


_ENCODINGS = {
    "postgresql": (
        text("SHOW server_encoding"),
        "UTF8",
        "create it with ENCODING 'UTF8' TEMPLATE template0",
    ),
    "sqlite": (text("PRAGMA encoding"), "UTF-8", "import its content into a new file"),
}


def _config() -> Config:
    config = Config()
    config.set_main_option(
        "script_location", str(resources.files("chat_store.database") / "migrations")
    )
    return config


# cached: reading all migrations takes 10 ms, and a start needs the result several times
@cache
def expected_revision() -> str:
    (head,) = ScriptDirectory.from_config(_config()).get_heads()
    return head


async def migrate(database: Database) -> None:
    """Migrates the schema to this code's revision, all or nothing. No effect if it is current.

    Raises `SchemaMismatchError` if a later version has migrated the database, and
    `DatabaseEncodingError`.
    """
    with _no_database_told():
        await _migrate(database)


async def _migrate(database: Database) -> None:
    async with database.transaction("schema.migrate") as connection:
        if database.dialect == "postgresql":
            await connection.execute(_MIGRATION_LOCK)
        await connection.run_sync(_require_utf8)
        await connection.run_sync(_upgrade)


async def require_current_schema(database: Database) -> None:
    """Raises `SchemaMismatchError` unless the database is at exactly this code's revision.

    Also raises `DatabaseEncodingError`.
    """
    if mismatch := await find_mismatch(database):
        raise mismatch


async def find_mismatch(database: Database) -> SchemaMismatchError | None:
    """Returns how the database's revision differs from this code's; None: it does not.

    Raises `DatabaseEncodingError`.
    """
    with _no_database_told():
        found = await _checked_revision(database)
    return None if found == expected_revision() else _mismatch(found)


async def _checked_revision(database: Database) -> str | None:
    async with database.snapshot() as connection:
        await connection.run_sync(_require_utf8)
        return await connection.run_sync(_current_revision)


@contextmanager
def _no_database_told() -> Iterator[None]:
    """Raises `UnusableDatabaseError` for a file that is no database, or a damaged one."""
    try:
        yield
    except (sqlite3.DatabaseError, DBAPIError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if getattr(cause, "sqlite_errorcode", 0) & 0xFF not in _NO_DATABASE:
            raise
        raise UnusableDatabaseError("the file is no usable SQLite database") from cause


async def prepare(database: Database) -> None:
    """Prepares the database at a server's start: migrates SQLite, only checks PostgreSQL."""
    if database.dialect == "sqlite":
        await migrate(database)
    else:
        await require_current_schema(database)


def _require_utf8(connection: Connection) -> None:
    question, needed, advice = _ENCODINGS[connection.dialect.name]
    found = connection.scalar(question)
    if found != needed:
        raise DatabaseEncodingError(str(found), advice)


def _upgrade(connection: Connection) -> None:
    found = _current_revision(connection)
    if found == expected_revision():
        return
    config = _config()
    if _is_newer(found):
        raise _mismatch(found)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _mismatch(found: str | None) -> SchemaMismatchError:
    return SchemaMismatchError(found=found, expected=expected_revision(), is_newer=_is_newer(found))


def _is_newer(found: str | None) -> bool:
    return found is not None and found not in _known_revisions(_config())


def _known_revisions(config: Config) -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}


def _current_revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
