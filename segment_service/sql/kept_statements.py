"""Statements over segments that are kept, because what they are made of seldom changes."""

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
# of their parameters, in bytes: a filter has up to 1 MB
_LARGEST = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """What a kept statement is about."""

    segment_ids: tuple[str, ...]
    sender_id: str


@dataclass(frozen=True, slots=True)
class Membership(Asked):
    """Whether somebody is in them."""


Build = Callable[[Sequence[Segment]], ColumnElement[Any]]


class KeptStatements:
    """Each answers one value, and whether its segments are as they were when it was made.

    Those that were used last are kept. Filters are read and compiled in threads: a large one of
    1 MB takes a second, and nobody with a small one waits for that.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statements: dict[Asked, Prepared] = {}
        self._one_large = asyncio.Lock()

    async def value(self, query: Asked, build: Build, **values: Any) -> Any:
        """`build` makes the value's expression, which depends on `query` and the segments only.

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
            # who waited for the same one takes it
            return self._statements.get(query) or self._keep(query, await aside(make))

    def _keep(self, query: Asked, statement: Prepared) -> Prepared:
        self._statements[query] = statement
        total = sum(kept.size for kept in self._statements.values())
        while len(self._statements) > _MOST_STATEMENTS or (
            total > _LARGEST and len(self._statements) > 1
        ):
            # the one that was not used for the longest time
            total -= self._statements.pop(next(iter(self._statements))).size
        return statement


def _unchanged(of: Sequence[Segment]) -> ColumnElement[Any]:
    """How many of the segments are as they were: every change of one moves its `updated_at`."""
    versions = (
        and_(segments.c.id == segment.id, segments.c.updated_at == segment.updated_at)
        for segment in of
    )
    return select(func.count()).select_from(segments).where(or_(*versions)).scalar_subquery()
