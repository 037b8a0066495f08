"""Runs the statements of one transaction together.

On SQLite the transaction holds the only write lock. Awaiting each statement would return to the
event loop in between, and all writers would wait while it is busy.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import ClauseElement
from sqlalchemy.exc import DBAPIError, IntegrityError

from chat_store.database.bulk.prepared import prepared_once
from chat_store.database.bulk.row_sources import Parameters
from chat_store.database.engine import Database

_SQLITE_KEY_CONFLICTS = {sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE}
_POSTGRES_KEY_CONFLICT = "23505"


@dataclass(frozen=True, slots=True)
class Write:
    """A statement that is built once, and the parameters of one execution.

    `on_mismatch` is raised if the number of written rows is not `rows`, or if a key is taken.
    """

    statement: ClauseElement
    parameters: Parameters
    rows: int = 0
    on_mismatch: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Execution:
    text: str
    parameters: tuple[Any, ...]
    write: Write

    def check(self, rows: int) -> None:
        if self.write.on_mismatch is not None and rows != self.write.rows:
            raise self.write.on_mismatch

    @contextmanager
    def translated_conflicts(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.IntegrityError, IntegrityError) as error:
            if self.write.on_mismatch is not None and _is_key_conflict(error):
                raise self.write.on_mismatch from error
            raise


async def execute_in_transaction(database: Database, step: str, writes: Iterable[Write]) -> None:
    """Executes the writes in order, in one transaction, which is durable on return."""
    dialect = database.sql_dialect
    executions = []
    for write in writes:
        statement = prepared_once(write.statement, dialect)
        executions.append(_Execution(statement.text, statement.bound(write.parameters), write))
    if database.dialect == "sqlite":
        await database.transaction_in_thread(step, partial(_execute, executions))
        return
    async with database.transaction(step) as connection:
        for execution in executions:
            with execution.translated_conflicts():
                done = await connection.exec_driver_sql(execution.text, execution.parameters)
            execution.check(done.rowcount)


def _execute(executions: Sequence[_Execution], connection: sqlite3.Connection) -> None:
    for execution in executions:
        with (
            execution.translated_conflicts(),
            closing(connection.execute(execution.text, execution.parameters)) as cursor,
        ):
            execution.check(cursor.rowcount)


def _is_key_conflict(error: Exception) -> bool:
    """Returns whether a row was refused because its key is taken, and for no other reason."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.IntegrityError):
        return cause.sqlite_errorcode in _SQLITE_KEY_CONFLICTS
    return getattr(cause, "sqlstate", None) == _POSTGRES_KEY_CONFLICT
