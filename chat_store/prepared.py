"""Statements that are compiled ahead: once for many executions, and in a thread where it is long.

SQLAlchemy compiles and compares statements on the event loop; a union of large filters takes it
longer than the database takes to answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Dialect, Select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import BindParameter


@dataclass(frozen=True, slots=True)
class PreparedSelect:
    """A statement as the driver takes it, with the driver's own values in its answer."""

    text: str
    names: tuple[str, ...]
    parameters: tuple[Any, ...]

    def bound(self, **values: Any) -> tuple[Any, ...]:
        """The parameters, with the values in the places of their names."""
        given = zip(self.names, self.parameters, strict=True)
        return tuple(values.get(name, parameter) for name, parameter in given)

    async def row(self, connection: AsyncConnection, **values: Any) -> Sequence[Any]:
        """The only row of its answer. `values` go to the parameters of these names."""
        parameters = self.bound(**values)
        if connection.dialect.name == "sqlite":
            # past SQLAlchemy, which takes a good part of the time that a small page is read in
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            (row,) = await driver.execute_fetchall(self.text, parameters)
        else:
            row = (await connection.exec_driver_sql(self.text, parameters)).one()
        return tuple(row)


def prepared(statement: Select[Any], dialect: Dialect) -> PreparedSelect:
    """For a statement without expanding parameters; in a dialect of positional ones."""
    compiled = statement.compile(dialect=dialect)
    names = tuple(compiled.positiontup or ())
    values = (_driver_value(compiled.binds[name], dialect) for name in names)
    return PreparedSelect(str(compiled), names, tuple(values))


def _driver_value(bind: BindParameter[Any], dialect: Dialect) -> Any:
    process = bind.type.dialect_impl(dialect).bind_processor(dialect)
    value = bind.effective_value
    return process(value) if process else value
