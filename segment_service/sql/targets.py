"""Who is in segments, in SQL."""

import asyncio
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.database import Database
from chat_store.filters import matching
from chat_store.filters.matching import Record, channel_record, user_record
from chat_store.filters.predicates import Predicate
from chat_store.paging import Page, PageRequest
from chat_store.sql import channels as sql_channels
from chat_store.sql import users as sql_users
from chat_store.sql.filters import Binding, where
from chat_store.sql.paging import fetch_page
from chat_store.statements.prepared import Prepared, prepared
from chat_store.tables import channels, members, users
from segment_service.segments import Definition, Segment, SegmentType, Shard, Target, audience
from segment_service.sql.branches import branches, union_of
from segment_service.sql.given_targets import GivenTargets, SqlGivenTargets
from segment_service.sql.segments import load_segments
from segment_service.sql.target_pages import PageOfTargets, SqlTargetPages
from segment_service.store import Explanation, FoundTargets


class SqlTargetStore:
    """See `segment_service.store.TargetStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pages = SqlTargetPages(database)
        self._given = SqlGivenTargets(database)

    async def exists(self, segment_id: str, target_id: str, sender_id: str) -> bool:
        async with self._database.read() as connection:
            (segment,) = await self._audience(connection, [segment_id], sender_id)
            return await self._has(connection, segment, target_id, sender_id)

    async def explain(self, segment_id: str, target_id: str, sender_id: str) -> Explanation:
        async with self._database.read() as connection:
            (segment,) = await self._audience(connection, [segment_id], sender_id)
            exists = await self._has(connection, segment, target_id, sender_id)
            if segment.definition is not Definition.FILTER:
                return Explanation(exists, ())
            record = await _record(connection, segment.content.type, target_id)
        if record is None:
            return Explanation(exists, ())
        return Explanation(exists, matching.explain(segment.content.predicate(), record))

    async def query(
        self, segment_id: str, sender_id: str, predicate: Predicate, page: PageRequest
    ) -> Page[Target]:
        dialect = self._database.dialect
        async with self._database.read() as connection:
            asked = await self._audience(connection, [segment_id], sender_id)
            (branch,) = branches(asked, sender_id, dialect)
            binding = Binding(columns={"target_id": branch.column}, key="target_id")
            statement = branch.rows.add_columns(branch.added_at).where(
                where(predicate, binding, dialect)
            )
            return await fetch_page(
                connection, statement, page, binding, dialect, lambda row: Target(*row)
            )

    async def count(self, segment_ids: Sequence[str], sender_id: str) -> int:
        async with self._database.look() as connection:
            asked = await self._audience(connection, segment_ids, sender_id)
        statement = await asyncio.to_thread(_prepared_count, asked, sender_id, self._database)
        async with self._database.look() as connection:
            (counted,) = await statement.row(connection)
        return int(counted)

    async def among(
        self, segment_ids: Sequence[str], sender_id: str, target_ids: Sequence[str]
    ) -> Sequence[str]:
        asked = GivenTargets(tuple(dict.fromkeys(segment_ids)), sender_id)
        return await self._given.among(asked, target_ids)

    async def ids_after(
        self, segment_ids: Sequence[str], sender_id: str, shard: Shard, after: str, most: int
    ) -> FoundTargets:
        asked = PageOfTargets(tuple(dict.fromkeys(segment_ids)), sender_id, shard, most)
        return await self._pages.ids_after(asked, after)

    async def _audience(
        self, connection: AsyncConnection, ids: Sequence[str], sender_id: str
    ) -> tuple[Segment, ...]:
        found = await load_segments(connection, self._database.dialect, ids)
        return audience(ids, found, sender_id)

    async def _has(
        self, connection: AsyncConnection, segment: Segment, target_id: str, sender_id: str
    ) -> bool:
        (branch,) = branches([segment], sender_id, self._database.dialect)
        found = select(branch.rows.where(branch.column == target_id).exists())
        return bool((await connection.scalars(found)).one())


def _prepared_count(asked: Sequence[Segment], sender_id: str, database: Database) -> Prepared:
    rows = [branch.rows for branch in branches(asked, sender_id, database.dialect)]
    targets = rows[0] if len(rows) == 1 else union_of(rows)
    counted = select(func.count()).select_from(targets.subquery())
    return prepared(counted, database.sql_dialect)


async def _record(connection: AsyncConnection, type_: SegmentType, target_id: str) -> Record | None:
    if type_ is SegmentType.USER:
        user = select(*sql_users.COLUMNS).where(users.c.id == target_id)
        row = (await connection.execute(user)).one_or_none()
        return user_record(sql_users.user_from_row(row)) if row else None
    channel = select(*sql_channels.COLUMNS).where(channels.c.cid == target_id)
    row = (await connection.execute(channel)).one_or_none()
    if row is None:
        return None
    its_members = (
        select(members.c.user_id, users.c.name)
        .outerjoin(users, users.c.id == members.c.user_id)
        .where(members.c.cid == target_id)
    )
    found = (await connection.execute(its_members)).all()
    names = {name for _, name in found if name is not None}
    return channel_record(sql_channels.channel_from_row(row), [id_ for id_, _ in found], names)
