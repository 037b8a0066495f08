"""Tells a database from a copy of it that was restored, here or elsewhere.

SQLite: a generation is raised in the database first, and then in a file beside it. So the file is
never ahead of its own database, whenever a crash happens.

| row in the database | file beside it | what happened | restored |
|---|---|---|---|
| none | none, or generation 0 | first start, or a crash in the middle of it | no |
| none | generation 1 or more | a backup of an earlier version was restored | yes |
| any | the same generation | a plain restart | no |
| ahead | behind | a crash between the two writes, or an old file | no |
| behind | ahead | the database file was restored | yes |
| any | none, or unreadable | the database was copied into another folder | yes |
| any | of another origin | the database has replaced another one | yes |

If the file disappears while a server runs, it is just written again.

PostgreSQL: a restored dump is in another cluster (another system identifier), another database
(another oid), or other tables (other oids). A promoted replica has all three of its primary. For a
role that may not read the system identifier, the oids alone decide.

| row in the database | what PostgreSQL says | what happened | restored |
|---|---|---|---|
| none | anything | first start | no |
| any | the same | a restart, or a failover to a replica | no |
| any | other oids | restored into another database, or over its old tables | yes |
| any | another system identifier | restored into another cluster, or `pg_upgrade` | yes |
| any, or none known | no system identifier | the role may not read it: the oids decide | by oids |

On both, a database without campaigns is never held, because it has nothing to send.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.database.engine import Database
from chat_store.database.sqlite.generation import Generation, GenerationFile

# by default every role may call it, but operators can revoke that; null if it does not exist
_MAY_READ_IDENTIFIER = text(
    "SELECT has_function_privilege(to_regprocedure('pg_control_system()'), 'execute')"
)
_IDENTIFIER = text("SELECT system_identifier::text FROM pg_control_system()")
_POSTGRES_IDENTITY = text(
    "SELECT oid::text || '/' || to_regclass('restore_guard')::oid::text"
    " FROM pg_database WHERE datname = current_database()"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """See `campaign_service.storage.tables.restore_guard`."""

    name: str
    place: str = ""
    generation: int = 0


class Origins(Protocol):
    async def found(self, connection: AsyncConnection) -> Origin | None:
        """Returns the actual origin of the database, not the one written in it."""

    def is_restored(self, known: Origin | None, found: Origin | None) -> bool:
        """Returns whether the database was restored. `known` is the origin written in it."""

    def next(self, known: Origin | None, found: Origin | None) -> Origin:
        """Returns the origin to write, which accepts the database's current place."""

    async def note(self, origin: Origin) -> None:
        """Writes the origin outside the database."""


class SqliteOrigins:
    def __init__(self, file: Path) -> None:
        self._file = GenerationFile(file)

    async def found(self, connection: AsyncConnection) -> Origin | None:  # noqa: ARG002 - PostgreSQL's
        generation = await asyncio.to_thread(self._file.read)
        if generation is None:
            return None
        return Origin(generation.origin, generation=generation.number)

    def is_restored(self, known: Origin | None, found: Origin | None) -> bool:
        if known is None:
            return found is not None and found.generation > 0
        if found is None or found.name != known.name:
            return True
        return found.generation > known.generation

    def next(self, known: Origin | None, found: Origin | None) -> Origin:
        name = (known and known.name) or uuid4().hex
        reached = [origin.generation for origin in (known, found) if origin and origin.name == name]
        return Origin(name, generation=max(reached, default=0) + 1)

    async def note(self, origin: Origin) -> None:
        await asyncio.to_thread(self._file.write, Generation(origin.name, origin.generation))

    def traces(self) -> tuple[int, ...]:
        return self._file.traces()


class PostgresOrigins:
    async def found(self, connection: AsyncConnection) -> Origin | None:
        name = ""
        if await connection.scalar(_MAY_READ_IDENTIFIER):
            name = str(await connection.scalar(_IDENTIFIER))
        return Origin(name, str(await connection.scalar(_POSTGRES_IDENTITY)))

    def is_restored(self, known: Origin | None, found: Origin | None) -> bool:
        if known is None or found is None:
            return False
        names = {known.name, found.name} - {""}
        return known.place != found.place or len(names) > 1

    def next(self, known: Origin | None, found: Origin | None) -> Origin:
        if found is None:
            raise TypeError("PostgreSQL always reports where it is")
        if known and known.place == found.place and not found.name:
            return known
        return found

    async def note(self, origin: Origin) -> None:
        """Does nothing: PostgreSQL has no place outside the database."""


def origins_of(database: Database) -> SqliteOrigins | PostgresOrigins:
    return SqliteOrigins(database.file) if database.file else PostgresOrigins()
