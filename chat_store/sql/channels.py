"""Channels and their members in SQL."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Executable,
    FromClause,
    Row,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    delete,
    exists,
    func,
    select,
    type_coerce,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import NullType

from chat_store.audit.entries import AuditedChange, resource_of
from chat_store.audit.recording import record
from chat_store.database.bulk.arrays import prepared_columns, tuples_of
from chat_store.database.bulk.inserts import insert_rows
from chat_store.database.bulk.prepared import prepared_once
from chat_store.database.bulk.row_locks import lock_rows
from chat_store.database.bulk.row_sources import Parameters, in_keys, inline_rows, key_parameters
from chat_store.database.coalescing import MAX_SMALL, Coalescer
from chat_store.database.columns import Key
from chat_store.database.engine import Database, DialectName
from chat_store.errors import ChannelNotFoundError
from chat_store.filters.predicates import Predicate
from chat_store.models import Channel, ChannelState, Member, PickedChannel, WriteMode
from chat_store.paging import Page, PageRequest
from chat_store.sql.filters import CHANNEL_BINDING, MEMBER_BINDING
from chat_store.sql.members import MEMBER_COLUMNS, count_members, member_from_row, write_members
from chat_store.sql.paging import fetch_page
from chat_store.sql.tables import channels, members
from chat_store.sql.users import require_users
from chat_store.store import ChannelDraft

_NAMES = tuple(field.name for field in fields(Channel))
COLUMNS = tuple(channels.c[name] for name in _NAMES)
_PAIR = 2
# updated by the store as messages and members come and go
_DERIVED = ("member_count", "message_count", "last_message_at", "updated_at", "deleted_at")
_GIVEN = tuple(name for name in _NAMES if name not in _DERIVED)

_STATE = case(
    (channels.c.deleted_at.is_not(None), ChannelState.DELETED.value),
    (channels.c.frozen | channels.c.disabled, ChannelState.FROZEN.value),
    (channels.c.distinct, ChannelState.DISTINCT.value),
    else_=ChannelState.OPEN.value,
)
_STATES = tuple(ChannelState)


@dataclass(frozen=True, slots=True)
class _Upsert:
    drafts: Sequence[ChannelDraft]
    now: datetime
    mode: WriteMode
    change: AuditedChange


class SqlChannelStore:
    """See `chat_store.store.ChannelStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reads = Coalescer(self._found)
        self._writes = Coalescer(
            self._upserted,
            scope_of=lambda upsert: upsert.mode,
            keys_of=lambda upsert: [draft.channel.cid for draft in upsert.drafts],
        )

    async def upsert(
        self, given: Sequence[ChannelDraft], now: datetime, mode: WriteMode = WriteMode.REPLACE
    ) -> list[Channel]:
        # made here, because a group is written for several callers
        change = AuditedChange(resource_of("channels", [draft.channel.cid for draft in given]))
        upsert = _Upsert(given, now, mode, change)
        if len(given) > MAX_SMALL:
            (stored,) = await self._upserted([upsert])
            return stored
        return await self._writes.submit(upsert)

    async def _upserted(self, upserts: Sequence[_Upsert]) -> list[list[Channel]]:
        dialect = self._database.dialect
        drafts = {draft.channel.cid: draft for upsert in upserts for draft in upsert.drafts}
        now, mode = max(upsert.now for upsert in upserts), upserts[0].mode
        nameless = [
            cid
            for cid, draft in drafts.items()
            if draft.channel.distinct and not draft.named_by_members
        ]
        async with self._database.transaction("channels.upsert") as connection:
            if len(drafts) > 1:
                # the existing ones are written after the new ones
                await lock_channels(connection, dialect, drafts)
            await _require_known(connection, dialect, nameless)
            created = await write_channels(
                connection, dialect, [draft.channel for draft in drafts.values()], now, mode
            )
            entering = [
                Member(cid=cid, user_id=user_id)
                for cid, draft in drafts.items()
                if cid in created
                for user_id in draft.first_member_ids
            ]
            await require_users(connection, dialect, [member.user_id for member in entering])
            await write_members(connection, dialect, entering, now, WriteMode.INSERT)
            stored = await _by_cid(connection, dialect, drafts)
            await record(connection, *(upsert.change for upsert in upserts))
        return [[stored[draft.channel.cid] for draft in upsert.drafts] for upsert in upserts]

    async def get(self, cid: str) -> Channel:
        found = await self._reads.submit(cid)
        if found is None:
            raise ChannelNotFoundError(cid)
        return found

    async def _found(self, cids: Sequence[str]) -> list[Channel | None]:
        found = await self.by_cid(cids)
        return [found.get(cid) for cid in cids]

    async def by_cid(self, cids: Iterable[str]) -> Mapping[str, Channel]:
        async with self._database.autocommit() as connection:
            return await _by_cid(connection, self._database.dialect, cids)

    async def pick(self, cids: Iterable[str], names: Sequence[str]) -> Mapping[str, PickedChannel]:
        dialect = self._database.dialect
        async with self._database.autocommit() as connection:
            statement = prepared_columns(_picking(dialect, tuple(names)), connection.dialect)
            found, states, *values = await statement.columns(
                connection, key_parameters(dialect, cids)
            )
        return dict(zip(found, _picked(found, states, values), strict=True))

    async def between(
        self, user_id: str, others: Sequence[str], names: Sequence[str]
    ) -> Mapping[str, PickedChannel]:
        dialect = self._database.dialect
        given = {**key_parameters(dialect, others), "user_id": user_id}
        async with self._database.autocommit() as connection:
            statement = prepared_columns(_between(dialect, tuple(names)), connection.dialect)
            found, active_at, cids, states, *values = await statement.columns(connection, given)
        pairs = zip(found, _picked(cids, states, values), strict=True)
        if len(set(found)) == len(found):
            return dict(pairs)
        # dict keeps the last pair of a user: the latest active, or the first of these by CID
        by_cid = sorted(zip(active_at, cids, pairs, strict=True), key=itemgetter(1), reverse=True)
        return dict(pair for _, _, pair in sorted(by_cid, key=itemgetter(0)))

    async def members_among(
        self, cids: Sequence[str], user_ids: Sequence[str]
    ) -> Collection[tuple[str, str]]:
        types = {"cid": Key, "user_id": Key}
        given = inline_rows(
            self._database.dialect, types, {"cid": list(cids), "user_id": list(user_ids)}
        )
        cid, user_id = given.c["cid"], given.c["user_id"]
        # not a join: SQLite would begin with all members
        is_member = exists().where(members.c.cid == cid, members.c.user_id == user_id)
        statement = select(cid, user_id).select_from(given.source).where(is_member)
        async with self._database.autocommit() as connection:
            return {(row[0], row[1]) for row in await connection.execute(statement)}

    async def query(self, predicate: Predicate, page: PageRequest) -> Page[Channel]:
        statement = select(*COLUMNS).where(channels.c.deleted_at.is_(None))
        async with self._database.autocommit() as connection:
            return await fetch_page(
                connection,
                statement,
                page,
                CHANNEL_BINDING,
                self._database.dialect,
                channel_from_row,
                matching=predicate,
            )

    async def delete(self, cids: Sequence[str], now: datetime) -> int:
        given = inline_rows(self._database.dialect, {"cid": Key}, {"cid": list(cids)})
        chosen = and_(
            channels.c.cid.in_(select(given.c["cid"]).select_from(given.source)),
            channels.c.deleted_at.is_(None),
        )
        statement = update(channels).where(chosen).values(deleted_at=now, updated_at=now)
        async with self._database.transaction("channels.delete") as connection:
            await lock_rows(connection, channels, chosen)
            deleted = (await connection.execute(statement)).rowcount
            if deleted:
                await record(connection, AuditedChange(resource_of("channels", cids)))
            return deleted

    async def add_members(self, cid: str, given: Sequence[Member], now: datetime) -> int:
        dialect = self._database.dialect
        async with self._database.transaction("members.add") as connection:
            await require_channel(connection, cid, lock=True)
            await require_users(connection, dialect, [member.user_id for member in given])
            added = await write_members(connection, dialect, given, now, WriteMode.INSERT)
            if added:
                await record(connection, AuditedChange(f"channels/{cid}"))
            return added

    async def remove_members(self, cid: str, user_ids: Sequence[str]) -> int:
        dialect = self._database.dialect
        given = inline_rows(dialect, {"user_id": Key}, {"user_id": list(user_ids)})
        statement = delete(members).where(
            members.c.cid == cid,
            members.c.user_id.in_(select(given.c["user_id"]).select_from(given.source)),
        )
        async with self._database.transaction("members.remove") as connection:
            await require_channel(connection, cid, lock=True)
            removed = (await connection.execute(statement)).rowcount
            await count_members(connection, dialect, {cid: -removed})
            if removed:
                await record(connection, AuditedChange(f"channels/{cid}"))
        return removed

    async def query_members(self, cid: str, page: PageRequest) -> Page[Member]:
        statement = select(*MEMBER_COLUMNS).where(members.c.cid == cid)
        async with self._database.snapshot() as connection:
            await require_channel(connection, cid, even_deleted=True)
            return await fetch_page(
                connection,
                statement,
                page,
                MEMBER_BINDING,
                self._database.dialect,
                member_from_row,
            )


async def write_channels(
    connection: AsyncConnection,
    dialect: DialectName,
    given: Iterable[Channel],
    now: datetime,
    mode: WriteMode,
) -> set[str]:
    """Returns the CIDs of new channels. Existing ones stay as they are, or are replaced."""
    rows = list({channel.cid: channel for channel in given}.values())
    created = set(await connection.scalars(*_insert(dialect, rows, now, returning=["cid"])))
    known = [channel for channel in rows if channel.cid not in created]
    if known and mode is WriteMode.REPLACE:
        await connection.execute(*_insert(dialect, known, now, replace=(*_GIVEN, "updated_at")))
    return created


def _insert(
    dialect: DialectName,
    rows: list[Channel],
    now: datetime,
    *,
    replace: Iterable[str] = (),
    returning: Sequence[str] = (),
) -> tuple[Executable, Parameters]:
    values = {name: [getattr(channel, name) for channel in rows] for name in _GIVEN}
    return insert_rows(
        dialect,
        channels,
        {"cid": [channel.cid for channel in rows], **values},
        constants={"created_at": now, "updated_at": now, "member_count": 0, "message_count": 0},
        keep_if_none=["created_at"],
        replace=replace,
        returning=returning,
    )


async def known_channels(
    connection: AsyncConnection, dialect: DialectName, cids: Iterable[str]
) -> set[str]:
    """Returns the CIDs that are stored, those of deleted channels included."""
    given = inline_rows(dialect, {"cid": Key}, {"cid": list(cids)})
    statement = select(channels.c.cid).join_from(
        given.source, channels, channels.c.cid == given.c["cid"]
    )
    return set(await connection.scalars(statement))


async def lock_channels(
    connection: AsyncConnection, dialect: DialectName, cids: Iterable[str]
) -> None:
    """Locks them for a transaction whose members or messages change the channels' counts."""
    given = inline_rows(dialect, {"cid": Key}, {"cid": list(cids)})
    chosen = channels.c.cid.in_(select(given.c["cid"]).select_from(given.source))
    await lock_rows(connection, channels, chosen)


async def require_channel(
    connection: AsyncConnection, cid: str, *, even_deleted: bool = False, lock: bool = False
) -> None:
    """Raises `ChannelNotFoundError` if it is missing or, unless `even_deleted`, deleted.

    `lock` is for a transaction that changes its members, and so its count of them.
    """
    statement = select(channels.c.cid).where(channels.c.cid == cid)
    if lock:
        statement = statement.with_for_update()
    if not even_deleted:
        statement = statement.where(channels.c.deleted_at.is_(None))
    if await connection.scalar(statement) is None:
        raise ChannelNotFoundError(cid)


async def _require_known(
    connection: AsyncConnection, dialect: DialectName, cids: Sequence[str]
) -> None:
    known = await known_channels(connection, dialect, cids) if cids else set()
    for cid in cids:
        if cid not in known:
            raise ChannelNotFoundError(cid)


async def _by_cid(
    connection: AsyncConnection, dialect: DialectName, cids: Iterable[str]
) -> dict[str, Channel]:
    statement = prepared_once(_whole(dialect), connection.dialect)
    rows = await statement.records(connection, key_parameters(dialect, cids))
    return {channel.cid: channel for channel in map(channel_from_row, rows)}


@cache
def _whole(dialect: DialectName) -> Select[Any]:
    return select(*COLUMNS).where(in_keys(dialect, channels.c.cid))


@lru_cache(maxsize=256)
def _picking(dialect: DialectName, names: Sequence[str]) -> Select[Any]:
    picked = (channels.c[name] for name in names)
    return select(channels.c.cid, _STATE, *picked).where(in_keys(dialect, channels.c.cid))


@lru_cache(maxsize=256)
def _between(dialect: DialectName, names: Sequence[str]) -> Select[Any]:
    """Selects two-member channels of `user_id` and each of the `key_parameters`, with activity."""
    user_id = bindparam("user_id", type_=Key)
    others = members.alias("others")
    their = select(others.c.user_id, others.c.cid).where(
        in_keys(dialect, others.c.user_id), others.c.user_id != user_id
    )
    theirs = their.subquery("theirs") if dialect == "sqlite" else their.cte("theirs")
    active_at: ColumnElement[Any] = func.coalesce(channels.c.last_message_at, channels.c.created_at)
    # only compared, so selected as a number: a thousand datetimes would be objects
    as_number = active_at if dialect == "sqlite" else func.date_part("epoch", active_at)
    picked = (channels.c[name] for name in names)
    return (
        select(theirs.c.user_id, type_coerce(as_number, NullType()), theirs.c.cid, _STATE, *picked)
        .join_from(theirs, channels, channels.c.cid == theirs.c.cid)
        .where(channels.c.member_count == _PAIR, channels.c.deleted_at.is_(None))
        .where(_has_member(dialect, theirs, user_id))
    )


def _has_member(
    dialect: DialectName, theirs: FromClause, user_id: ColumnElement[str]
) -> ColumnElement[bool]:
    own = members.alias("own")
    own_cids = select(own.c.cid).where(own.c.user_id == user_id)
    if dialect == "sqlite":
        # not a join, which would look up all channels of `user_id` in the list
        return own_cids.where(own.c.cid == theirs.c.cid).exists()
    # an array walks through the index once, in order; single look-ups take three times as long
    of_both = own_cids.where(own.c.cid == any_(_array(select(theirs.c.cid))))
    return channels.c.cid == any_(_array(of_both))


def _array(keys_: Select[Any]) -> ColumnElement[Any]:
    return func.array(keys_.scalar_subquery(), type_=ARRAY(Text))


def _picked(
    cids: Sequence[str], states: Sequence[int], values: Sequence[Sequence[Any]]
) -> Iterator[PickedChannel]:
    return tuples_of(PickedChannel, cids, [_STATES[state] for state in states], values=values)


def channel_from_row(row: Row[Any]) -> Channel:
    values = row._asdict()
    return Channel(**{**values, "filter_tags": tuple(values["filter_tags"])})
