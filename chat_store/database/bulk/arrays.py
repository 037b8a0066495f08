"""Results as one row with an array per column.

Row by row, fetching a thousand costs more than reading them: SQLite's driver releases and takes
the interpreter lock for each, and on PostgreSQL SQLAlchemy makes an object of each.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import repeat
from typing import Any, TypeVar, cast

import orjson
from sqlalchemy import ColumnElement, Dialect, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import NullType

from chat_store.database.bulk.prepared import Prepared, Process, prepared, readers
from chat_store.database.engine import DialectName

_T = TypeVar("_T", bound=tuple[Any, ...])


@dataclass(frozen=True, slots=True)
class PreparedColumns:
    """A statement compiled ahead of time, for results of thousands of rows."""

    _arrays: Prepared
    _readers: tuple[Process | None, ...]

    async def columns(
        self, connection: AsyncConnection, values: Mapping[str, Any]
    ) -> list[Sequence[Any]]:
        """Returns all values of each column, in the same order."""
        (arrays,) = await self._arrays.rows(connection, values)
        return [
            list(map(reader, array)) if reader else array
            for reader, array in zip(self._readers, map(array_from, arrays), strict=True)
        ]


@lru_cache(maxsize=256)
def prepared_columns(statement: Select[Any], dialect: Dialect) -> PreparedColumns:
    """Compiles a statement once; the caller must pass the same object each time."""
    name = cast("DialectName", dialect.name)
    arrays = (array_of(column, name) for column in statement.subquery().c)
    return PreparedColumns(prepared(select(*arrays), dialect), readers(statement, dialect))


def array_of(column: ColumnElement[Any], dialect: DialectName) -> ColumnElement[Any]:
    """Aggregates all values of a column into one, for `array_from`."""
    in_one = func.json_group_array if dialect == "sqlite" else func.array_agg
    return in_one(column, type_=NullType())


def array_from(found: Any) -> Sequence[Any]:
    """Reads the driver's value of `array_of`. PostgreSQL returns NULL if there are no rows."""
    return orjson.loads(found) if isinstance(found, str) else found or ()


def tuples_of(
    kind: type[_T], *columns: Sequence[Any], values: Sequence[Sequence[Any]]
) -> Iterator[_T]:
    """Makes a named tuple of each row, whose last field is a tuple of all `values`."""
    of_rows = zip(*values, strict=True) if values else repeat((), len(columns[0]))
    # bypasses the class's constructor, which takes longer than all other work on a row
    return map(partial(tuple.__new__, kind), zip(*columns, of_rows, strict=True))
