"""The members of channels and their read positions, in SQL."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, bindparam, case, func, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.audit.entries import AuditedChange
from chat_store.audit.recording import record
from chat_store.database.bulk.inserts import insert_records
from chat_store.database.bulk.prepared import prepared_once
from chat_store.database.bulk.row_sources import Types, inline_rows, row_parameters, row_source
from chat_store.database.columns import Count, Key
from chat_store.database.engine import Database, DialectName
from chat_store.errors import ChannelNotFoundError, MemberNotFoundError
from chat_store.models import Member, WriteMode
from chat_store.sql.tables import channels, members, reads

_NAMES = tuple(field.name for field in fields(Member))
MEMBER_COLUMNS = tuple(members.c[name] for name in _NAMES)
_CIDS: Types = {"cid": Key}


class SqlMemberStore:
    """See `chat_store.store.MemberStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_membership(
        self,
        cid: str,
        user_id: str,
        *,
        hidden: bool | None,
        archived: bool | None,
        now: datetime,
    ) -> Member:
        kept = members.c.archived_at
        archived_at = func.coalesce(kept, bindparam(None, now, kept.type), type_=kept.type)
        live = select(channels.c.cid).where(channels.c.cid == cid, channels.c.deleted_at.is_(None))
        statement = (
            update(members)
            .where(members.c.cid == cid, members.c.user_id == user_id, live.exists())
            .values(
                hidden=members.c.hidden if hidden is None else hidden,
                archived_at={None: kept, True: archived_at, False: None}[archived],
            )
            .returning(*MEMBER_COLUMNS)
        )
        async with self._database.transaction("members.set") as connection:
            row = (await connection.execute(statement)).one_or_none()
            if row is None and await connection.scalar(live) is None:
                raise ChannelNotFoundError(cid)
            if row is None:
                raise MemberNotFoundError(cid, user_id)
            await record(connection, AuditedChange(f"channels/{cid}"))
        return member_from_row(row)

    async def first_of(self, cids: Collection[str], most: int) -> Mapping[str, Sequence[Member]]:
        dialect = self._database.dialect
        async with self._database.autocommit() as connection:
            statement = prepared_once(_first_of(dialect), connection.dialect)
            rows = await statement.records(
                connection, {**row_parameters(dialect, _CIDS, {"cid": list(cids)}), "most": most}
            )
        found: dict[str, list[Member]] = {}
        for row in rows:
            found.setdefault(row.cid, []).append(member_from_row(row))
        return found


async def write_members(
    connection: AsyncConnection,
    dialect: DialectName,
    given: Iterable[Member],
    now: datetime,
    mode: WriteMode,
) -> int:
    """Returns how many members are new. Existing ones stay as they are, or are replaced."""
    unique = {(member.cid, member.user_id): member for member in given}
    if not unique:
        return 0
    rows = list(unique.values())
    insert = insert_records(dialect, members, _NAMES, rows, now, returning=("cid", "user_id"))
    added = {(row.cid, row.user_id) for row in await connection.execute(*insert)}
    known = [member for member in rows if (member.cid, member.user_id) not in added]
    if known and mode is WriteMode.REPLACE:
        replaced = [name for name in _NAMES if name not in ("cid", "user_id")]
        await connection.execute(
            *insert_records(dialect, members, _NAMES, known, now, replace=replaced)
        )
    await count_members(connection, dialect, Counter(cid for cid, _ in added))
    return len(added)


async def count_members(
    connection: AsyncConnection, dialect: DialectName, differences: Mapping[str, int]
) -> None:
    """Adds differences to the channels' `member_count`, so that concurrent writers' add up."""
    if not differences:
        return
    given = inline_rows(
        dialect,
        {"cid": Key, "difference": Count},
        {"cid": list(differences), "difference": list(differences.values())},
    )
    await connection.execute(
        update(channels)
        .where(channels.c.cid == given.c["cid"])
        .values(member_count=channels.c.member_count + given.c["difference"])
    )


async def write_reads(
    connection: AsyncConnection,
    dialect: DialectName,
    positions: Mapping[tuple[str, str], datetime | None],
    now: datetime,
) -> None:
    """Moves read positions by (CID, user id), never back. None means `now` if there is none yet."""
    if not positions:
        return
    keys = list(positions)
    given = inline_rows(
        dialect,
        {name: reads.c[name].type for name in ("cid", "user_id", "read_at")},
        {
            "cid": [cid for cid, _ in keys],
            "user_id": [user_id for _, user_id in keys],
            "read_at": [positions[key] for key in keys],
        },
    )
    stored = reads.alias("stored")
    beginning = func.coalesce(
        stored.c.read_at, bindparam(None, now, reads.c.read_at.type), type_=reads.c.read_at.type
    )
    rows = (
        select(
            given.c["cid"],
            given.c["user_id"],
            func.coalesce(given.c["read_at"], beginning, type_=reads.c.read_at.type),
        )
        .select_from(
            given.source.outerjoin(
                stored,
                (stored.c.cid == given.c["cid"]) & (stored.c.user_id == given.c["user_id"]),
            )
        )
        .where(text("true"))
        .order_by(given.c["cid"], given.c["user_id"])
    )
    insert = sqlite.insert(reads) if dialect == "sqlite" else postgresql.insert(reads)
    insert = insert.from_select(["cid", "user_id", "read_at"], rows)
    await connection.execute(
        insert.on_conflict_do_update(
            index_elements=["cid", "user_id"],
            set_={"read_at": later(reads.c.read_at, insert.excluded.read_at)},
        )
    )


@cache
def _first_of(dialect: DialectName) -> Select[Any]:
    """Selects members by channel and user id, at most `most` even of a channel of millions."""
    given = row_source(dialect, _CIDS)
    inner = members.alias("inner_members")
    first = (
        select(inner.c.user_id)
        .where(inner.c.cid == given.c["cid"])
        .order_by(inner.c.user_id)
        .limit(bindparam("most", type_=Count))
        .correlate(given.source)
    )
    return (
        select(*MEMBER_COLUMNS)
        .select_from(given.source.join(members, members.c.cid == given.c["cid"]))
        .where(members.c.user_id.in_(first))
        .order_by(members.c.cid, members.c.user_id)
    )


def later(stored: ColumnElement[Any], given: ColumnElement[Any]) -> ColumnElement[Any]:
    # a NULL compares as unknown, and so loses
    return case((stored > given, stored), else_=func.coalesce(given, stored, type_=stored.type))


def member_from_row(row: Row[Any]) -> Member:
    return Member(**row._asdict())
