"""Statements that ask several segments together, kept as long as the segments are as they were.

Loading the segments and compiling their filters would take longer than most answers.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import ColumnElement, Dialect, Select, and_, func, or_, select

from chat_store.database import Database, DialectName
from chat_store.statements.arrays import array_from, array_of
from chat_store.statements.prepared import Prepared, prepared
from segment_service.segments import Segment, audience
from segment_service.sql.segments import load_segments
from segment_service.sql.tables import segments

_MOST_STATEMENTS = 32


class Asked(Protocol):
    """What a statement is kept by. Two that are equal are answered by the same statement."""

    @property
    def segment_ids(self) -> tuple[str, ...]: ...

    @property
    def sender_id(self) -> str: ...


_Asked = TypeVar("_Asked", bound=Asked)
Build = Callable[[_Asked, Sequence[Segment], DialectName], Select[Any]]


class KeptStatements(Generic[_Asked]):
    """`build` makes a statement of one column, the ids, for segments that can be asked."""

    def __init__(self, database: Database, build: Build[_Asked]) -> None:
        self._database = database
        self._build = build
        self._statements: dict[_Asked, Prepared] = {}

    async def ids(self, asked: _Asked, values: Mapping[str, Any]) -> Sequence[str]:
        """The statement's answer, its parameters being `values`. Raises as `segments.audience`."""
        while True:
            statement = self._statements.get(asked) or await self._prepare(asked)
            async with self._database.look() as connection:
                found, unchanged = await statement.row(connection, **values)
            if unchanged == len(asked.segment_ids):
                return array_from(found)
            self._statements.pop(asked, None)

    async def _prepare(self, asked: _Asked) -> Prepared:
        async with self._database.look() as connection:
            found = await load_segments(connection, self._database.dialect, asked.segment_ids)
        of = audience(asked.segment_ids, found, asked.sender_id)
        statement = await asyncio.to_thread(
            prepared_ids, self._build, asked, of, self._database.dialect, self._database.sql_dialect
        )
        while len(self._statements) >= _MOST_STATEMENTS:
            del self._statements[next(iter(self._statements))]
        self._statements[asked] = statement
        return statement


def prepared_ids(
    build: Build[_Asked],
    asked: _Asked,
    of: Sequence[Segment],
    dialect: DialectName,
    sql_dialect: Dialect,
) -> Prepared:
    """Answers the ids as one array, and how many segments are as they were."""
    ids = build(asked, of, dialect).subquery()
    array = select(array_of(ids.c[0], dialect)).scalar_subquery()
    return prepared(select(array, _unchanged(of)), sql_dialect)


def _unchanged(of: Sequence[Segment]) -> ColumnElement[Any]:
    """How many of the segments are as they were: every change of one moves its `updated_at`."""
    versions = (
        and_(segments.c.id == segment.id, segments.c.updated_at == segment.updated_at)
        for segment in of
    )
    return select(func.count()).select_from(segments).where(or_(*versions)).scalar_subquery()
