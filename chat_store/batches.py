"""Statements of one transaction that go to the database together.

On SQLite the transaction holds the only write lock. One statement after the other would give the
event loop back in between, and everyone would wait for it as long as it is busy.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.prepared import Prepared, prepared
from chat_store.recordsets import Parameters


@dataclass(frozen=True, slots=True)
class Write:
    """A statement that is built once, and the parameters of one execution.

    `otherwise` is raised if it writes another number of rows than `rows`.
    """

    statement: ClauseElement
    parameters: Parameters
    rows: int = 0
    otherwise: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Execution:
    text: str
    parameters: tuple[Any, ...]
    write: Write

    def check(self, rows: int) -> None:
        if self.write.otherwise is not None and rows != self.write.rows:
            raise self.write.otherwise


async def execute_all(connection: AsyncConnection, writes: Iterable[Write]) -> None:
    """In their order. Once one has raised an error, the transaction has to be given up."""
    dialect = connection.dialect
    executions = []
    for write in writes:
        statement = _prepared_once(write.statement, dialect)
        executions.append(_Execution(statement.text, statement.bound(write.parameters), write))
    if dialect.name == "sqlite":
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        await driver.in_thread(lambda connection: _execute(connection, executions))
        return
    for execution in executions:
        done = await connection.exec_driver_sql(execution.text, execution.parameters)
        execution.check(done.rowcount)


def _execute(connection: sqlite3.Connection, executions: Sequence[_Execution]) -> None:
    for execution in executions:
        with closing(connection.execute(execution.text, execution.parameters)) as cursor:
            execution.check(cursor.rowcount)


@lru_cache(maxsize=256)
def _prepared_once(statement: ClauseElement, dialect: Dialect) -> Prepared:
    return prepared(statement, dialect)
