"""What tells a database from a copy of it that was put back, or put elsewhere.

SQLite: a generation is counted on in the database first, and then in a file beside it. So the file
is never ahead of its own database, wherever a crash falls.

| row in the database | file beside it | what happened | restored |
|---|---|---|---|
| none | none, or generation 0 | first start, or a crash in the middle of it | no |
| none | generation 1 or more | a backup of an earlier version was put back | yes |
| any | the same generation | a plain restart | no |
| ahead | behind | a crash between the two writes, or an old file | no |
| behind | ahead | the database file was put back | yes |
| any | none, or unreadable | the database was put into another folder | yes |
| any | of another origin | the database was put in the place of another one | yes |

While a server runs, a file that disappears is only written again.

PostgreSQL: a dump that is restored comes to another cluster (another system identifier), another
database (another oid), or other tables (other oids). A replica that takes over has all three of
its primary. A role that may not read the system identifier does without.

| row in the database | what PostgreSQL says | what happened | restored |
|---|---|---|---|
| none | anything | first start | no |
| any | the same | a restart, or a failover to a replica | no |
| any | other oids | restored into another database, or over its old tables | yes |
| any | another system identifier | restored into another cluster, or `pg_upgrade` | yes |
| any, or none known | no system identifier | the role may not read it: the oids decide | by oids |

On both, a database without any campaign is never held: it has nothing to send.
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

# everybody may call it by default, but an operator can take that away; null where it is missing
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
        """Where the database is, whatever is written in it."""

    def is_restored(self, known: Origin | None, found: Origin | None) -> bool:
        """`known` is what is written in the database. See the tables above."""

    def next(self, known: Origin | None, found: Origin | None) -> Origin:
        """What is to be written in the database, where it is at home now."""

    async def note(self, origin: Origin) -> None:
        """Writes it down outside of the database."""


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
            raise TypeError("PostgreSQL always says where it is")
        if known and known.place == found.place and not found.name:
            return known
        return found

    async def note(self, origin: Origin) -> None:
        """There is nowhere to."""


def origins_of(database: Database) -> SqliteOrigins | PostgresOrigins:
    return SqliteOrigins(database.file) if database.file else PostgresOrigins()
