"""Messages and read positions in SQL."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Row,
    Select,
    Update,
    and_,
    bindparam,
    func,
    not_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.audit.entries import AuditedChange
from chat_store.audit.recording import record
from chat_store.database.bulk.inserts import insert_records
from chat_store.database.bulk.prepared import prepared_once
from chat_store.database.bulk.row_sources import (
    Types,
    in_keys,
    inline_rows,
    key_parameters,
    row_parameters,
    row_source,
)
from chat_store.database.columns import Count, Key
from chat_store.database.engine import Database, DialectName
from chat_store.errors import MemberNotFoundError
from chat_store.filters.fields import Field, Kind
from chat_store.models import Message, Values, WriteMode
from chat_store.paging import NEWEST_FIRST, Cursor, Page, PageRequest, Sort, page_of
from chat_store.sql.channels import lock_channels, require_channel
from chat_store.sql.filters import MESSAGE_BINDING
from chat_store.sql.members import later, write_reads
from chat_store.sql.paging import fetch_page
from chat_store.sql.tables import channels, members, messages, reads
from chat_store.store import ReaderCount

_NAMES = tuple(field.name for field in fields(Message))
_COLUMNS = tuple(messages.c[name] for name in _NAMES)
_CAMPAIGNS: Types = {"id": Key}
_ID_OF_TARGET: Types = {"id": Key, "target_id": Key}
_ARRIVALS: Types = {"cid": Key, "arrived": Count, "latest": channels.c.last_message_at.type}
# the campaign and the target of a message are never overwritten
_REPLACED = [name for name in _NAMES if name not in ("id", "campaign_id", "target_id")]
# the id descends too, so that the index is read backwards
_LATEST = (*NEWEST_FIRST, Sort(Field("id", Kind.STRING), descending=True))


class SqlMessageStore:
    """See `chat_store.store.MessageStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def upsert(
        self, given: Sequence[Message], now: datetime, mode: WriteMode = WriteMode.REPLACE
    ) -> None:
        dialect = self._database.dialect
        async with self._database.transaction("messages.upsert") as connection:
            left = await channels_left(connection, dialect, given, mode)
            await lock_channels(connection, dialect, {message.cid for message in given} | left)
            await write_messages(connection, dialect, given, now, mode)

    async def in_channel(self, cid: str, page: PageRequest) -> Page[Message]:
        async with self._database.snapshot() as connection:
            await require_channel(connection, cid, even_deleted=True)
            return await fetch_page(
                connection,
                select(*_COLUMNS).where(messages.c.cid == cid),
                replace(page, sort=_LATEST),
                MESSAGE_BINDING,
                self._database.dialect,
                message_from_row,
            )

    async def of_campaign(self, campaign_id: str, page: PageRequest) -> Page[Message]:
        cursor = page.cursor or Cursor(())
        target = messages.c.target_id
        statement = select(*_COLUMNS).where(messages.c.campaign_id == campaign_id)
        if cursor.key:
            (reached,) = cursor.key
            statement = statement.where(target < reached if cursor.backward else target > reached)
        statement = statement.order_by(target.desc() if cursor.backward else target)
        async with self._database.autocommit() as connection:
            rows = await connection.execute(statement.limit(page.size + 1))
        return page_of([((row.target_id,), message_from_row(row)) for row in rows], page)

    async def of_targets(
        self, campaign_id: str, target_ids: Collection[str]
    ) -> Mapping[str, Message]:
        dialect = self._database.dialect
        given = {**key_parameters(dialect, target_ids), "campaign_id": campaign_id}
        async with self._database.autocommit() as connection:
            statement = prepared_once(_of_targets(dialect), connection.dialect)
            rows = await statement.records(connection, given)
        return {row.target_id: message_from_row(row) for row in rows}

    async def taken(self, campaign_id: str, ids: Mapping[str, str]) -> Collection[str]:
        given = inline_rows(
            self._database.dialect,
            _ID_OF_TARGET,
            {"id": list(ids.values()), "target_id": list(ids)},
        )
        target_id = given.c["target_id"]
        is_own = and_(
            messages.c.campaign_id.is_not_distinct_from(campaign_id),
            messages.c.target_id.is_not_distinct_from(target_id),
        )
        statement = (
            select(target_id)
            .select_from(given.source.join(messages, messages.c.id == given.c["id"]))
            .where(not_(is_own))
        )
        async with self._database.autocommit() as connection:
            return set(await connection.scalars(statement))

    async def count_readers(self, campaign_ids: Collection[str]) -> Mapping[str, int]:
        dialect = self._database.dialect
        async with self._database.autocommit() as connection:
            given = row_parameters(dialect, _CAMPAIGNS, {"id": list(campaign_ids)})
            rows = await connection.execute(_readers(dialect), given)
            return {row.campaign_id: row.readers for row in rows}

    async def count_readers_after(
        self, campaign_id: str, target_id: str, most_messages: int
    ) -> ReaderCount:
        given = {"campaign_id": campaign_id, "after": target_id, "most": most_messages}
        async with self._database.autocommit() as connection:
            statement = prepared_once(_next_readers(), connection.dialect)
            looked_at, readers, reached = await statement.row(connection, **given)
        return ReaderCount(readers, reached if looked_at == most_messages else None)

    async def mark_read(self, cid: str, user_id: str, read_at: datetime) -> datetime:
        of_user = (members.c.cid == cid) & (members.c.user_id == user_id)
        position = select(reads.c.read_at).where(reads.c.cid == cid, reads.c.user_id == user_id)
        async with self._database.transaction("messages.mark-read") as connection:
            await require_channel(connection, cid)
            if await connection.scalar(select(members.c.user_id).where(of_user)) is None:
                raise MemberNotFoundError(cid, user_id)
            await write_reads(
                connection, self._database.dialect, {(cid, user_id): read_at}, read_at
            )
            moved_to: datetime = (await connection.scalars(position)).one()
            await record(connection, AuditedChange(f"channels/{cid}"))
        return moved_to


@dataclass(slots=True)
class _NewMessages:
    """The changes of a channel by its messages. `count` is negative if they leave it."""

    count: int = 0
    latest: datetime | None = None

    def add(self, moment: datetime | None, count: int) -> None:
        self.count += count
        if moment is not None and (self.latest is None or moment > self.latest):
            self.latest = moment


async def write_messages(
    connection: AsyncConnection,
    dialect: DialectName,
    given: Iterable[Message],
    now: datetime,
    mode: WriteMode,
) -> None:
    """Writes messages and updates the counts of their channels."""
    unique = {message.id: message for message in given}
    rows = list(unique.values())
    insert = insert_records(dialect, messages, _NAMES, rows, now, returning=["id"])
    arrived = set(await connection.scalars(*insert))
    arrivals: dict[str, _NewMessages] = {}
    for id_ in arrived:
        message = unique[id_]
        arrivals.setdefault(message.cid, _NewMessages()).add(message.created_at or now, 1)
    known = [message for message in rows if message.id not in arrived]
    if known and mode is WriteMode.REPLACE:
        before = await _cids(connection, dialect, [message.id for message in known])
        await connection.execute(
            *insert_records(dialect, messages, _NAMES, known, now, replace=_REPLACED)
        )
        for message in known:
            arrivals.setdefault(message.cid, _NewMessages()).add(message.created_at, 1)
            arrivals.setdefault(before[message.id], _NewMessages()).add(None, -1)
    cids = list(arrivals)
    await count_arrivals(
        connection,
        dialect,
        {
            "cid": cids,
            "arrived": [arrivals[cid].count for cid in cids],
            "latest": [arrivals[cid].latest for cid in cids],
        },
    )


async def channels_left(
    connection: AsyncConnection, dialect: DialectName, given: Collection[Message], mode: WriteMode
) -> set[str]:
    """Returns the CIDs of channels whose counts change because messages may move out of them.

    Empty on SQLite, where nobody has to lock them.
    """
    if dialect == "sqlite" or mode is not WriteMode.REPLACE or not given:
        return set()
    ids = inline_rows(dialect, {"id": Key}, {"id": [message.id for message in given]})
    statement = select(messages.c.cid).join_from(ids.source, messages, messages.c.id == ids.c["id"])
    return set(await connection.scalars(statement))


async def _cids(
    connection: AsyncConnection, dialect: DialectName, ids: Sequence[str]
) -> dict[str, str]:
    given = inline_rows(dialect, {"id": Key}, {"id": ids})
    statement = (
        select(messages.c.id, messages.c.cid)
        .join_from(given.source, messages, messages.c.id == given.c["id"])
        .order_by(messages.c.id)
        .with_for_update(of=messages)
    )
    return {row.id: row.cid for row in await connection.execute(statement)}


async def sent_targets(
    connection: AsyncConnection, dialect: DialectName, campaign_id: str, target_ids: Sequence[str]
) -> set[str]:
    """Returns the targets that have a message of the campaign."""
    given = inline_rows(dialect, {"target_id": Key}, {"target_id": target_ids})
    # not a join, for which SQLite would scan the list for each message of the campaign
    statement = select(messages.c.target_id).where(
        messages.c.campaign_id == campaign_id,
        messages.c.target_id.in_(select(given.c["target_id"]).select_from(given.source)),
    )
    return {target_id for target_id in await connection.scalars(statement) if target_id}


def sent_messages(campaign_id: str | ColumnElement[str]) -> Select[Any]:
    """Selects the campaign's messages by target, which an index has in order."""
    return select(
        messages.c.target_id,
        messages.c.id.label("message_id"),
        messages.c.cid,
        messages.c.created_at,
    ).where(messages.c.campaign_id == campaign_id)


async def count_sent_since(connection: AsyncConnection, campaign_id: str, moment: datetime) -> int:
    """Counts the campaign's messages created at `moment` or later."""
    statement = (
        select(func.count())
        .select_from(messages)
        .where(messages.c.campaign_id == campaign_id, messages.c.created_at >= moment)
    )
    return (await connection.scalars(statement)).one()


async def count_arrivals(
    connection: AsyncConnection, dialect: DialectName, arrivals: Values
) -> None:
    """Updates the channels' `message_count` and `last_message_at`, which never moves back.

    `arrivals` has one row per channel: `cid`, `arrived` (number of new messages) and `latest`
    (the time of the last one, or None).
    """
    await connection.execute(_arrival(dialect), row_parameters(dialect, _ARRIVALS, arrivals))


@cache
def _arrival(dialect: DialectName) -> Update:
    given = row_source(dialect, _ARRIVALS)
    return (
        update(channels)
        .where(channels.c.cid == given.c["cid"])
        .values(
            message_count=channels.c.message_count + given.c["arrived"],
            last_message_at=later(channels.c.last_message_at, given.c["latest"]),
        )
    )


def message_from_row(row: Row[Any]) -> Message:
    values = row._asdict()
    return Message(**{**values, "attachments": tuple(values["attachments"])})


@cache
def _of_targets(dialect: DialectName) -> Select[Any]:
    return select(*_COLUMNS).where(
        messages.c.campaign_id == bindparam("campaign_id", type_=Key),
        in_keys(dialect, messages.c.target_id),
    )


def _has_read(message: FromClause) -> ColumnElement[bool]:
    """Tests whether the row of `reads` shows that the message's receiver has read it."""
    return (
        (reads.c.cid == message.c.cid)
        & (reads.c.user_id == message.c.target_id)
        & (reads.c.read_at >= message.c.created_at)
    )


@cache
def _readers(dialect: DialectName) -> Select[Any]:
    """Counts, by given campaign, the receivers who have read up to their message."""
    given = row_source(dialect, _CAMPAIGNS)
    return (
        select(messages.c.campaign_id, func.count().label("readers"))
        .select_from(given.source)
        .join(messages, messages.c.campaign_id == given.c["id"])
        .join(reads, _has_read(messages))
        .group_by(messages.c.campaign_id)
    )


@cache
def _next_readers() -> Select[int, int, Any]:
    """Selects of the next `most` messages: their number, the number read, and the last target."""
    some = (
        select(messages.c.target_id, messages.c.cid, messages.c.created_at)
        .where(
            messages.c.campaign_id == bindparam("campaign_id", type_=Key),
            messages.c.target_id > bindparam("after", type_=Key),
        )
        .order_by(messages.c.target_id)
        .limit(bindparam("most", type_=Count))
        .subquery()
    )
    return select(
        func.count(), func.count(reads.c.user_id), func.max(some.c.target_id)
    ).select_from(some.outerjoin(reads, _has_read(some)))
