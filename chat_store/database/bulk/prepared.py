"""Statements compiled ahead of time: once for many executions, or in a thread if it takes long.

SQLAlchemy compiles and compares statements on the event loop. For a union of large filters, that
takes longer than the database's response.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from sys import getsizeof
from typing import Any, cast

from sqlalchemy import (
    BindParameter,
    ClauseElement,
    ColumnElement,
    Dialect,
    Row,
    Select,
)
from sqlalchemy import text as sql_text
from sqlalchemy.engine import result_tuple
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler

Process = Callable[[Any], Any]

_NOTHING = sql_text("SELECT 1")


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter; the driver gets `value` if none is given."""

    name: str
    process: Process | None
    value: Any

    def of(self, values: Mapping[str, Any]) -> Any:
        if self.name not in values:
            return self.value
        value = values[self.name]
        return self.process(value) if self.process else value


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement as the driver takes it, and the readers of its result's columns."""

    text: str
    _parameters: tuple[_Parameter, ...]
    _readers: tuple[Process | None, ...]
    _record: Callable[[Iterable[Any]], Row[*tuple[Any, ...]]]
    size: int
    """The approximate bytes it takes in memory, its parameters included."""

    def bound(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Returns the driver's positional parameters; `values` are by name."""
        return tuple(parameter.of(values) for parameter in self._parameters)

    async def rows(self, connection: AsyncConnection, values: Mapping[str, Any]) -> Sequence[Any]:
        """Returns the rows, as plain tuples on SQLite.

        There it bypasses SQLAlchemy, which takes a third of the time of reading 1,000 rows.
        """
        parameters = self.bound(values)
        found: Sequence[Any]
        if connection.dialect.name == "sqlite":
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            found = await driver.execute_fetchall(self.text, parameters)
        else:
            found = (await connection.exec_driver_sql(self.text, parameters)).all()
        return found if not any(self._readers) else [self._read(row) for row in found]

    async def write(self, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Executes a statement without a result for each of the rows, of which there is one or more.

        It bypasses SQLAlchemy, which on PostgreSQL takes half of the time of writing one row.
        """
        first, *others = bound = [self.bound(row) for row in rows]
        driver = await _driver_in_transaction(connection)
        if others:
            await driver.executemany(self.text, bound)
        elif connection.dialect.name == "sqlite":
            await driver.execute_fetchall(self.text, first)
        else:
            await driver.execute(self.text, *first)

    async def driver_rows(
        self, connection: AsyncConnection, values: Mapping[str, Any]
    ) -> Sequence[Any]:
        """Returns the rows with the driver's own values, in the connection's transaction.

        It bypasses SQLAlchemy, which on PostgreSQL takes two thirds of the time of 5,000 rows.
        """
        driver = await _driver_in_transaction(connection)
        found: Sequence[Any]
        if connection.dialect.name == "sqlite":
            found = await driver.execute_fetchall(self.text, self.bound(values))
        else:
            found = await driver.fetch(self.text, *self.bound(values))
        return found

    async def records(
        self, connection: AsyncConnection, values: Mapping[str, Any]
    ) -> list[Row[*tuple[Any, ...]]]:
        """Returns the rows, with the columns by name."""
        return [self._record(row) for row in await self.rows(connection, values)]

    async def row(self, connection: AsyncConnection, **values: Any) -> Any:
        """Returns the only row. `values` are the parameters by name."""
        (row,) = await self.rows(connection, values)
        return row

    def _read(self, row: Sequence[Any]) -> Sequence[Any]:
        read = zip(self._readers, row, strict=True)
        return tuple(reader(value) if reader else value for reader, value in read)


async def _driver_in_transaction(connection: AsyncConnection) -> Any:
    driver: Any = (await connection.get_raw_connection()).driver_connection
    if connection.dialect.name == "postgresql" and not driver.is_in_transaction():
        # SQLAlchemy begins a transaction with its own first statement
        await connection.execute(_NOTHING)
    return driver


def prepared(statement: ClauseElement, dialect: Dialect) -> Prepared:
    """Compiles a statement without expanding parameters; the dialect's must be positional."""
    compiled = cast("SQLCompiler", statement.compile(dialect=dialect))
    text = str(compiled)
    parameters = tuple(
        _parameter(name, compiled.binds[name], dialect) for name in compiled.positiontup or ()
    )
    return Prepared(
        text,
        parameters,
        readers(statement, dialect),
        result_tuple([str(column.key) for column in _columns(statement)]),
        len(text) + sum(_size(parameter.value) for parameter in parameters),
    )


def _size(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_size, value))
    return getsizeof(value)


@lru_cache(maxsize=256)
def prepared_once(statement: ClauseElement, dialect: Dialect) -> Prepared:
    """Compiles a statement once; the caller must pass the same object each time."""
    return prepared(statement, dialect)


def readers(statement: ClauseElement, dialect: Dialect) -> tuple[Process | None, ...]:
    """Returns the converters from the driver's values to the columns'; None if they are equal."""
    return tuple(
        column.type.dialect_impl(dialect).result_processor(dialect, None)
        for column in _columns(statement)
    )


def _columns(statement: ClauseElement) -> Iterable[ColumnElement[Any]]:
    return statement.selected_columns if isinstance(statement, Select) else ()


def _parameter(name: str, bind: BindParameter[Any], dialect: Dialect) -> _Parameter:
    process = bind.type.dialect_impl(dialect).bind_processor(dialect)
    value = bind.effective_value
    return _Parameter(name, process, process(value) if process else value)
