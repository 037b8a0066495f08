"""The targets of segments, in SQL."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.database.bulk.arrays import prepared_columns
from chat_store.database.bulk.prepared import Prepared, prepared
from chat_store.database.columns import Key
from chat_store.database.engine import Database
from chat_store.filters import matching
from chat_store.filters.matching import Clause, Record, channel_record, user_record
from chat_store.filters.predicates import Predicate, conditions
from chat_store.paging import Page, PageRequest
from chat_store.sql import channels as sql_channels
from chat_store.sql import users as sql_users
from chat_store.sql.filters import Binding
from chat_store.sql.paging import fetch_page
from chat_store.sql.tables import channels, members, users
from chat_store.worker_thread import aside
from segment_service.segments import (
    Definition,
    Segment,
    SegmentType,
    Shard,
    Target,
    audience,
    has_large_filter,
)
from segment_service.sql.given_targets import GivenTargets, SqlGivenTargets
from segment_service.sql.kept_statements import KeptStatements, Membership
from segment_service.sql.segments import load_segments
from segment_service.sql.target_pages import SqlTargetPages, TargetPageQuery
from segment_service.sql.target_sources import target_sources, union_of
from segment_service.store import Explanation, TargetPage

T = TypeVar("T")

_TARGET_ID = bindparam("target_id", type_=Key)
# built once
_MEMBER_IDS = select(members.c.user_id).where(members.c.cid == bindparam("cid", type_=Key))
_MEMBER_NAMES = (
    select(users.c.name)
    .distinct()
    .join_from(members, users, users.c.id == members.c.user_id)
    .where(members.c.cid == bindparam("cid", type_=Key), users.c.name.is_not(None))
)


class SqlTargetStore:
    """See `segment_service.store.TargetStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statements = KeptStatements(database)
        self._pages = SqlTargetPages(database, self._statements)
        self._given = SqlGivenTargets(database, self._statements)

    async def exists(self, segment_id: str, target_id: str, sender_id: str) -> bool:
        def among(of: Sequence[Segment]) -> ColumnElement[bool]:
            (source,) = target_sources(of, sender_id, self._database.dialect)
            return source.rows.where(source.column == _TARGET_ID).exists()

        query = Membership((segment_id,), sender_id)
        return bool(await self._statements.value(query, among, target_id=target_id))

    async def explain(self, segment_id: str, target_id: str, sender_id: str) -> Explanation:
        exists = await self.exists(segment_id, target_id, sender_id)
        async with self._database.autocommit() as connection:
            (segment,) = await self._audience(connection, [segment_id], sender_id)
        if segment.definition is not Definition.FILTER:
            return Explanation(exists, ())
        predicate = await _in_a_thread([segment], segment.predicate)
        async with self._database.snapshot() as connection:
            load = await _record(connection, segment.spec.type, target_id, predicate)
        if load is None:
            return Explanation(exists, ())
        record = load

        def explained() -> Sequence[Clause]:
            return matching.explain(predicate, record())

        return Explanation(exists, await _in_a_thread([segment], explained))

    async def query(
        self, segment_id: str, sender_id: str, predicate: Predicate, page: PageRequest
    ) -> Page[Target]:
        dialect = self._database.dialect
        async with self._database.autocommit() as connection:
            query = await self._audience(connection, [segment_id], sender_id)
        (source,) = await _in_a_thread(query, lambda: target_sources(query, sender_id, dialect))
        binding = Binding(columns={"target_id": source.column}, key="target_id")
        async with self._database.autocommit() as connection:
            return await fetch_page(
                connection,
                source.rows.add_columns(source.added_at),
                page,
                binding,
                dialect,
                lambda row: Target(*row),
                matching=predicate,
                large=query[0].definition is Definition.FILTER,
            )

    async def count(self, segment_ids: Sequence[str], sender_id: str) -> int:
        async with self._database.autocommit() as connection:
            query = await self._audience(connection, segment_ids, sender_id)
        statement = await _in_a_thread(
            query, lambda: _prepared_count(query, sender_id, self._database)
        )
        async with self._database.autocommit() as connection:
            (counted,) = await statement.row(connection)
        return int(counted)

    async def among(
        self, segment_ids: Sequence[str], sender_id: str, target_ids: Sequence[str]
    ) -> Sequence[str]:
        query = GivenTargets(tuple(dict.fromkeys(segment_ids)), sender_id)
        return await self._given.among(query, target_ids)

    async def ids_after(
        self, segment_ids: Sequence[str], sender_id: str, shard: Shard, after: str, limit: int
    ) -> TargetPage:
        query = TargetPageQuery(tuple(dict.fromkeys(segment_ids)), sender_id, shard, limit)
        return await self._pages.ids_after(query, after)

    async def _audience(
        self, connection: AsyncConnection, ids: Sequence[str], sender_id: str
    ) -> tuple[Segment, ...]:
        found = await load_segments(connection, self._database.dialect, ids)
        return audience(ids, found, sender_id)


def _prepared_count(query: Sequence[Segment], sender_id: str, database: Database) -> Prepared:
    rows = [source.rows for source in target_sources(query, sender_id, database.dialect)]
    targets = rows[0] if len(rows) == 1 else union_of(rows)
    counted = select(func.count()).select_from(targets.subquery())
    return prepared(counted, database.sql_dialect)


async def _in_a_thread(query: Sequence[Segment], work: Callable[[], T]) -> T:
    """Runs work on large filters one at a time; work on small ones does not wait for them."""
    return await aside(work) if has_large_filter(query) else await asyncio.to_thread(work)


async def _record(
    connection: AsyncConnection, type_: SegmentType, target_id: str, predicate: Predicate
) -> Callable[[], Record] | None:
    """Loads the parts of the target that the predicate reads. Returns the record's constructor."""
    if type_ is SegmentType.USER:
        user = select(*sql_users.COLUMNS).where(users.c.id == target_id)
        row = (await connection.execute(user)).one_or_none()
        return partial(user_record, sql_users.user_from_row(row)) if row else None
    found = select(*sql_channels.COLUMNS).where(channels.c.cid == target_id)
    row = (await connection.execute(found)).one_or_none()
    if row is None:
        return None
    channel = sql_channels.channel_from_row(row)
    fields = {condition.field.name for condition in conditions(predicate)}
    member_ids = await _all(connection, _MEMBER_IDS, target_id) if "members" in fields else ()
    with_names = "member.user.name" in fields
    names = await _all(connection, _MEMBER_NAMES, target_id) if with_names else ()
    return partial(channel_record, channel, member_ids, names)


async def _all(connection: AsyncConnection, of: Select[Any], cid: str) -> Sequence[str]:
    statement = prepared_columns(of, connection.dialect)
    (found,) = await statement.columns(connection, {"cid": cid})
    return found
