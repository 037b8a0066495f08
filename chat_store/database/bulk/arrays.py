"""Answers of one row, which has an array a column.

Row by row, a thousand cost more than their reading: for each SQLite's driver gives the interpreter
away and takes it back, and on PostgreSQL SQLAlchemy makes it an object.
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
    """A statement that is compiled ahead, for a thousand rows and not for one."""

    _arrays: Prepared
    _readers: tuple[Process | None, ...]

    async def columns(
        self, connection: AsyncConnection, values: Mapping[str, Any]
    ) -> list[Sequence[Any]]:
        """Its answer: of each column all values, in the same order."""
        (arrays,) = await self._arrays.rows(connection, values)
        return [
            list(map(reader, array)) if reader else array
            for reader, array in zip(self._readers, map(array_from, arrays), strict=True)
        ]


@lru_cache(maxsize=256)
def prepared_columns(statement: Select[Any], dialect: Dialect) -> PreparedColumns:
    """For a statement that is kept: the same object each time."""
    name = cast("DialectName", dialect.name)
    arrays = (array_of(column, name) for column in statement.subquery().c)
    return PreparedColumns(prepared(select(*arrays), dialect), readers(statement, dialect))


def array_of(column: ColumnElement[Any], dialect: DialectName) -> ColumnElement[Any]:
    """All values of a column as one, for `array_from`."""
    in_one = func.json_group_array if dialect == "sqlite" else func.array_agg
    return in_one(column, type_=NullType())


def array_from(found: Any) -> Sequence[Any]:
    """What the driver answers, read; PostgreSQL has no array of no rows."""
    return orjson.loads(found) if isinstance(found, str) else found or ()


def tuples_of(
    kind: type[_T], *columns: Sequence[Any], values: Sequence[Sequence[Any]]
) -> Iterator[_T]:
    """A named tuple of each row; its last field is a tuple of all `values`."""
    of_rows = zip(*values, strict=True) if values else repeat((), len(columns[0]))
    # past its own constructor, which takes longer than everything else that is done for a row
    return map(partial(tuple.__new__, kind), zip(*columns, of_rows, strict=True))
