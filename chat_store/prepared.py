"""Statements that are compiled ahead: once for many executions, and in a thread where it is long.

SQLAlchemy compiles and compares statements on the event loop; a union of large filters takes it
longer than the database takes to answer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class _Parameter:
    """`value` is what the driver gets where none is given."""

    name: str
    process: Callable[[Any], Any] | None
    value: Any

    def of(self, values: Mapping[str, Any]) -> Any:
        if self.name not in values:
            return self.value
        value = values[self.name]
        return self.process(value) if self.process else value


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement as the driver takes it, with the driver's own values in its answer."""

    text: str
    _parameters: tuple[_Parameter, ...]

    def bound(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The driver's parameters, with the values in the places of their names."""
        return tuple(parameter.of(values) for parameter in self._parameters)

    async def row(self, connection: AsyncConnection, **values: Any) -> Sequence[Any]:
        """The only row of its answer. `values` go to the parameters of these names."""
        parameters = self.bound(values)
        if connection.dialect.name == "sqlite":
            # past SQLAlchemy, which takes a good part of the time that a small page is read in
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            (row,) = await driver.execute_fetchall(self.text, parameters)
        else:
            row = (await connection.exec_driver_sql(self.text, parameters)).one()
        return tuple(row)


def prepared(statement: ClauseElement, dialect: Dialect) -> Prepared:
    """For a statement without expanding parameters; in a dialect of positional ones."""
    compiled = statement.compile(dialect=dialect)
    names: Sequence[str] = compiled.positiontup or ()  # type: ignore[attr-defined]
    binds = compiled.binds  # type: ignore[attr-defined]
    return Prepared(str(compiled), tuple(_parameter(name, binds[name], dialect) for name in names))


def _parameter(name: str, bind: Any, dialect: Dialect) -> _Parameter:
    process = bind.type.dialect_impl(dialect).bind_processor(dialect)
    value = bind.effective_value
    return _Parameter(name, process, process(value) if process else value)
