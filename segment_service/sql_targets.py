"""Who is in segments, in SQL: each place where targets are is a branch, read by an index range."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Integer,
    Select,
    bindparam,
    case,
    false,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    union,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store import matching, sql_channels, sql_users
from chat_store.columns import Key
from chat_store.database import Database, DialectName
from chat_store.matching import Record, channel_record, user_record
from chat_store.paging import Page, PageRequest
from chat_store.predicates import Predicate
from chat_store.sql_filters import CHANNEL_BINDING, USER_BINDING, Binding, where
from chat_store.sql_paging import fetch_page
from chat_store.tables import channels, members, users
from segment_service.segments import Definition, Segment, SegmentType, Shard, Target, audience
from segment_service.sql_segments import load_segments
from segment_service.store import Explanation
from segment_service.tables import segment_targets

_EVALUATED = {Definition.FILTER, Definition.ALL_USERS}
_AFTER = bindparam("after", type_=Key)


@dataclass(frozen=True, slots=True)
class _Branch:
    """`rows` selects ids from `column`, the key of an index that `rows` may be ranged over by."""

    column: ColumnElement[str]
    rows: Select[Any]
    added_at: ColumnElement[Any]


class SqlTargetStore:
    """See `segment_service.store.TargetStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # the pages of a stream differ in their beginning only, and a large filter takes
        # longer to put into SQL than to evaluate
        self._page_of_ids = lru_cache(maxsize=32)(_page_of_ids)

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
            (branch,) = _branches(asked, sender_id, dialect)
            binding = Binding(columns={"target_id": branch.column}, key="target_id")
            statement = branch.rows.add_columns(branch.added_at).where(
                where(predicate, binding, dialect)
            )
            return await fetch_page(
                connection, statement, page, binding, dialect, lambda row: Target(*row)
            )

    async def count(self, segment_ids: Sequence[str], sender_id: str) -> int:
        async with self._database.read() as connection:
            asked = await self._audience(connection, segment_ids, sender_id)
            branches = _branches(asked, sender_id, self._database.dialect)
            rows = [branch.rows for branch in branches]
            targets = rows[0] if len(rows) == 1 else _union(rows)
            counted = select(func.count()).select_from(targets.subquery())
            return (await connection.scalars(counted)).one()

    async def ids_after(
        self, segment_ids: Sequence[str], sender_id: str, shard: Shard, after: str, most: int
    ) -> Sequence[str]:
        async with self._database.read() as connection:
            segments = await self._audience(connection, segment_ids, sender_id)
            versions = tuple((segment.id, segment.updated_at) for segment in segments)
            asked = _Asked(versions, segments, sender_id, self._database.dialect)
            page = self._page_of_ids(asked, shard, most)
            return (await connection.scalars(page, {_AFTER.key: after})).all()

    async def _audience(
        self, connection: AsyncConnection, ids: Sequence[str], sender_id: str
    ) -> tuple[Segment, ...]:
        found = await load_segments(connection, self._database.dialect, ids)
        return audience(ids, found, sender_id)

    async def _has(
        self, connection: AsyncConnection, segment: Segment, target_id: str, sender_id: str
    ) -> bool:
        (branch,) = _branches([segment], sender_id, self._database.dialect)
        found = select(branch.rows.where(branch.column == target_id).exists())
        return bool((await connection.scalars(found)).one())


def _branches(asked: Sequence[Segment], sender_id: str, dialect: DialectName) -> list[_Branch]:
    """Every segment is in one branch, and all that are evaluated on the same table share one."""
    branches = [_list(segment) for segment in asked if segment.definition is Definition.LIST]
    evaluated = [segment for segment in asked if segment.definition in _EVALUATED]
    if evaluated:
        of_users = evaluated[0].content.type is SegmentType.USER
        branches.append((_users if of_users else _channels)(evaluated, dialect))
    if any(segment.definition is Definition.ALL_SENDER_CHANNELS for segment in asked):
        branches.append(_channels_of(sender_id))
    return branches


def _list(segment: Segment) -> _Branch:
    column = segment_targets.c.target_id
    rows = select(column).where(segment_targets.c.segment_id == segment.id)
    return _Branch(column, rows, segment_targets.c.created_at)


def _users(evaluated: Sequence[Segment], dialect: DialectName) -> _Branch:
    matching = _matching_any(evaluated, USER_BINDING, dialect)
    rows = select(users.c.id).where(sql_users.reachable(), matching)
    return _Branch(users.c.id, rows, null())


def _channels(evaluated: Sequence[Segment], dialect: DialectName) -> _Branch:
    matching = _matching_any(evaluated, CHANNEL_BINDING, dialect)
    rows = select(channels.c.cid).where(channels.c.deleted_at.is_(None), matching)
    return _Branch(channels.c.cid, rows, null())


def _channels_of(sender_id: str) -> _Branch:
    # looked up channel by channel: PostgreSQL may read a join's other side from its very beginning
    is_there = select(channels.c.deleted_at.is_(None)).where(channels.c.cid == members.c.cid)
    rows = select(members.c.cid).where(members.c.user_id == sender_id, is_there.scalar_subquery())
    return _Branch(members.c.cid, rows, null())


def _matching_any(
    evaluated: Sequence[Segment], binding: Binding, dialect: DialectName
) -> ColumnElement[bool]:
    if any(segment.definition is Definition.ALL_USERS for segment in evaluated):
        return true()
    holds = [where(segment.content.predicate(), binding, dialect) for segment in evaluated]
    if dialect == "sqlite" and len(holds) > 1:
        # large filters in one chain of ORs would be deeper than SQLite reads
        return case(*((holding, true()) for holding in holds), else_=false())
    return or_(*holds)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Segments as they are: every change of a definition moves `updated_at`."""

    versions: tuple[tuple[str, datetime], ...]
    segments: tuple[Segment, ...] = field(compare=False)
    sender_id: str
    dialect: DialectName


def _page_of_ids(asked: _Asked, shard: Shard, most: int) -> Select[Any] | CompoundSelect[Any]:
    """Each branch gives its own next ids after `_AFTER`, so that none is read beyond one page."""
    pages = [
        branch.rows.where(branch.column > _AFTER, _in_shard(branch.column, shard, asked.dialect))
        .order_by(branch.column)
        .limit(most)
        for branch in _branches(asked.segments, asked.sender_id, asked.dialect)
    ]
    if len(pages) == 1:
        return pages[0]
    return _union(pages).order_by(literal_column("1")).limit(most)


def _union(branches: Sequence[Select[Any]]) -> CompoundSelect[Any]:
    """Each target once."""
    return union(*(select(branch.subquery().c[0]) for branch in branches))


def _in_shard(
    column: ColumnElement[str], shard: Shard, dialect: DialectName
) -> ColumnElement[bool]:
    if shard.count <= 1:
        return true()
    if dialect == "sqlite":
        return func.herald_shard(column, shard.count, type_=Integer()) == shard.index
    # the remainder first: the hash may be the one number that has no absolute value
    spread = func.abs(func.hashtextextended(column, 0, type_=BigInteger()) % shard.count)
    # PostgreSQL takes an equation for rare, and would start parallel workers to fill a page
    return func.coalesce(spread == shard.index, false())


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
