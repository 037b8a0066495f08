"""A cache of statements over segments, whose definitions seldom change."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select

from chat_store.database.bulk.prepared import Prepared, prepared
from chat_store.database.engine import Database
from chat_store.worker_thread import aside
from segment_service.segments import Segment, audience, has_large_filter
from segment_service.sql.segments import load_segments
from segment_service.sql.tables import segments

_MOST_STATEMENTS = 128
# bytes of all their parameters; one filter has up to 1 MB
_LARGEST = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """The key of a cached statement."""

    segment_ids: tuple[str, ...]
    sender_id: str


@dataclass(frozen=True, slots=True)
class Membership(Asked):
    """A query for whether one target is in the segments."""


Build = Callable[[Sequence[Segment]], ColumnElement[Any]]


class KeptStatements:
    """Statements that each select one value and whether their segments are still unchanged.

    Keeps the most recently used ones. Filters are parsed and compiled in threads: a large one of
    1 MB takes a second, and queries with a small one do not wait for it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statements: dict[Asked, Prepared] = {}
        self._one_large = asyncio.Lock()

    async def value(self, query: Asked, build: Build, **values: Any) -> Any:
        """Returns the value of `build`'s expression, which depends on `query` and segments only.

        Raises as `segments.audience`, and `SegmentFilterRefusedError`.
        """
        while True:
            statement = self._statements.get(query) or await self._make(query, build)
            async with self._database.autocommit() as connection:
                value, unchanged = await statement.row(connection, **values)
            self._statements.pop(query, None)
            if unchanged == len(query.segment_ids):
                self._keep(query, statement)
                return value

    async def _make(self, query: Asked, build: Build) -> Prepared:
        async with self._database.autocommit() as connection:
            found = await load_segments(connection, self._database.dialect, query.segment_ids)
        of = audience(query.segment_ids, found, query.sender_id)

        def make() -> Prepared:
            return prepared(select(build(of), _unchanged(of)), self._database.sql_dialect)

        if not has_large_filter(of):
            return await asyncio.to_thread(make)
        async with self._one_large:
            # another waiting call may have made the same one meanwhile
            return self._statements.get(query) or self._keep(query, await aside(make))

    def _keep(self, query: Asked, statement: Prepared) -> Prepared:
        self._statements[query] = statement
        total = sum(kept.size for kept in self._statements.values())
        while len(self._statements) > _MOST_STATEMENTS or (
            total > _LARGEST and len(self._statements) > 1
        ):
            # the least recently used one
            total -= self._statements.pop(next(iter(self._statements))).size
        return statement


def _unchanged(of: Sequence[Segment]) -> ColumnElement[Any]:
    """Counts the segments that have not changed: every change moves `updated_at`."""
    versions = (
        and_(segments.c.id == segment.id, segments.c.updated_at == segment.updated_at)
        for segment in of
    )
    return select(func.count()).select_from(segments).where(or_(*versions)).scalar_subquery()
