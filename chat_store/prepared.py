"""Statements that are compiled ahead: once for many executions, and in a thread where it is long.

SQLAlchemy compiles and compares statements on the event loop; a union of large filters takes it
longer than the database takes to answer.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, Dialect, Select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import BindParameter


@dataclass(frozen=True, slots=True)
class PreparedSelect:
    """A statement as the driver takes it. Its rows hold the driver's own values."""

    text: str
    names: tuple[str, ...]
    parameters: tuple[Any, ...]

    async def execute(self, connection: AsyncConnection, **values: Any) -> CursorResult[Any]:
        """`values` go to the parameters of these names, as the driver takes them."""
        given = zip(self.names, self.parameters, strict=True)
        parameters = tuple(values.get(name, parameter) for name, parameter in given)
        return await connection.exec_driver_sql(self.text, parameters)


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
