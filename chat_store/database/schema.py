"""The schema's revision: bringing a database to it, and refusing one that is elsewhere.

A database whose text is not UTF-8 is refused, too: its order of strings, its patterns and what it
takes for a letter are others.
"""

from functools import cache
from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from chat_store.database.engine import Database
from chat_store.errors import DatabaseEncodingError, SchemaMismatchError

# any number of servers may start on an empty database at the same moment
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


# to read all the migrations takes 10 ms, and a start asks more than once
@cache
def expected_revision() -> str:
    (head,) = ScriptDirectory.from_config(_config()).get_heads()
    return head


async def migrate(database: Database) -> None:
    """Brings the schema to this code's revision, all of it or none. Harmless when it is there.

    Raises `SchemaMismatchError` for a database that a later version has migrated, and
    `DatabaseEncodingError`.
    """
    async with database.transaction("schema.migrate") as connection:
        if database.dialect == "postgresql":
            await connection.execute(_MIGRATION_LOCK)
        await connection.run_sync(_require_utf8)
        await connection.run_sync(_upgrade)


async def require_current_schema(database: Database) -> None:
    """Raises `SchemaMismatchError` unless the database is at exactly this code's revision.

    Raises `DatabaseEncodingError`, too.
    """
    async with database.snapshot() as connection:
        await connection.run_sync(_require_utf8)
        found = await connection.run_sync(_current_revision)
    if found != expected_revision():
        raise SchemaMismatchError(found=found, expected=expected_revision())


async def prepare(database: Database) -> None:
    """What a server does at start: the embedded SQLite migrates itself, PostgreSQL is checked."""
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
    if found is not None and found not in _known_revisions(config):
        raise SchemaMismatchError(found=found, expected=expected_revision())
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _known_revisions(config: Config) -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}


def _current_revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
