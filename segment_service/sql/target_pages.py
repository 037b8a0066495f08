"""The pages of target streams in SQL."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    bindparam,
    false,
    func,
    literal_column,
    select,
)

from chat_store.database.bulk.arrays import array_from, array_of
from chat_store.database.columns import Key
from chat_store.database.engine import Database, DialectName
from segment_service.segments import Segment, Shard
from segment_service.sql.kept_statements import Asked, KeptStatements
from segment_service.sql.target_sources import target_sources, union_of
from segment_service.store import TargetPage

_AFTER = bindparam("after", type_=Key)
# targets of all shards in one read, where shards are separated outside the database
_MAX_SCANNED = 10_000


@dataclass(frozen=True, slots=True)
class TargetPageQuery(Asked):
    """The targets that a page is taken from, wherever it begins."""

    shard: Shard
    limit: int


class SqlTargetPages:
    """The pages of a stream share one statement: only their beginning differs, a parameter."""

    def __init__(self, database: Database, statements: KeptStatements) -> None:
        self._database = database
        self._statements = statements

    async def ids_after(self, query: TargetPageQuery, after: str) -> TargetPage:
        """See `segment_service.store.TargetStore.ids_after`."""
        if self._database.dialect == "sqlite" and query.shard.count > 1:
            return await self._share_after(query, after)
        ids = await self._ids(query, after)
        return TargetPage(ids, ids[-1] if ids else after, at_the_end=len(ids) < query.limit)

    async def _share_after(self, query: TargetPageQuery, after: str) -> TargetPage:
        """Reads the targets of all shards and keeps those of one.

        A hash function inside SQLite would take the interpreter lock for every row: two streams
        at a time spent most of their time on that.
        """
        shard = query.shard
        limit = max(query.limit, min(query.limit * shard.count, _MAX_SCANNED))
        scanned = await self._ids(replace(query, shard=Shard(), limit=limit), after)
        its_own = [id_ for id_ in scanned if zlib.crc32(id_.encode()) % shard.count == shard.index]
        ids = its_own[: query.limit]
        at_the_end = len(scanned) < limit and len(ids) == len(its_own)
        return TargetPage(ids, (ids or scanned or [after])[-1], at_the_end=at_the_end)

    async def _ids(self, query: TargetPageQuery, after: str) -> Sequence[str]:
        build = partial(page_of_targets, query, self._database.dialect)
        return array_from(await self._statements.value(query, build, after=after))


def page_of_targets(
    query: TargetPageQuery, dialect: DialectName, of: Sequence[Segment]
) -> ColumnElement[Any]:
    """Builds the page that follows the parameter `after`."""
    ids = _page_of_ids(query, of, dialect).subquery()
    return select(array_of(ids.c[0], dialect)).scalar_subquery()


def _page_of_ids(
    query: TargetPageQuery, of: Sequence[Segment], dialect: DialectName
) -> Select[Any]:
    """Selects the next ids after `_AFTER` in each source, so none is read beyond one page."""
    pages = [
        source.rows.where(source.column > _AFTER, *_in_shard(source.column, query.shard))
        .order_by(source.column)
        .limit(query.limit)
        for source in target_sources(of, query.sender_id, dialect)
    ]
    if len(pages) == 1:
        return pages[0]
    together = union_of(pages).subquery()
    return select(together.c[0]).order_by(literal_column("1")).limit(query.limit)


def _in_shard(column: ColumnElement[str], shard: Shard) -> Iterator[ColumnElement[bool]]:
    if shard.count > 1:
        # the remainder first: the hash may be the one number that has no absolute value
        spread = func.abs(func.hashtextextended(column, 0, type_=BigInteger()) % shard.count)
        # PostgreSQL expects few rows of an equation, and would start parallel workers for a page
        yield func.coalesce(spread == shard.index, false())
