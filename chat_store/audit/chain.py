"""The chain of audit rows: it grows by rows that are committed, and is cut by age."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, cast

from sqlalchemy import Delete, Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.audit.entries import FIELDS, GENESIS, Head, Refusal, chained
from chat_store.audit.recording import record_refusals
from chat_store.audit.tables import audit_chain, audit_log, audit_pending
from chat_store.database.bulk.inserts import insert_rows
from chat_store.database.columns import to_microseconds
from chat_store.database.engine import Database, DialectName

# Rows of one transaction, which on SQLite holds the write lock: 6 ms of a core, measured on two busy
# ones.
_MOST_AT_ONCE = 100
_CUT_AT_ONCE = 1_000
_EMPTY_CHAIN = {"position": 0, "hash": GENESIS, "cut_position": 0, "cut_hash": GENESIS}


@dataclass(frozen=True, slots=True)
class Ends:
    """The last row of the chain, and the last one that was cut off its beginning."""

    head: Head
    cut: Head


class SqlAuditChain:
    """Chains the rows that changes have left. Several of these may work on one database.

    A row gets its position and its hash after its transaction, so transactions do not wait for each
    other. Until then it can be altered and removed without a trace.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_refusals(self, refusals: Sequence[Refusal]) -> None:
        """Writes the rows of refused calls. There is at least one."""
        async with self._database.transaction("audit.refusals") as connection:
            await record_refusals(connection, refusals)

    async def grow(self) -> None:
        """Chains all rows that were committed before this call."""
        async with self._database.autocommit() as connection:
            newest = await connection.scalar(select(func.max(audit_pending.c.id)))
        # up to the newest, because others may write as fast as rows are chained
        reached: int | None = 0 if newest else None
        while reached is not None and reached < newest:
            reached = await self._grow_once()

    async def _grow_once(self) -> int | None:
        """Chains up to 100 rows. Returns the id of the last one; None if there was none."""
        async with self._database.transaction("audit.grow") as connection:
            head = (await _locked_ends(connection)).head
            taken = sorted((await connection.execute(_taken())).all(), key=lambda row: row.id)
            if not taken:
                return None
            rows = []
            for row in taken:
                moment, *others = (getattr(row, name) for name in FIELDS)
                position = head.position + 1
                digest = chained(head.hash, [position, to_microseconds(moment), *others])
                head = Head(position, digest)
                named = zip(FIELDS, (moment, *others), strict=True)
                rows.append({"position": position, "hash": digest, **dict(named)})
            await connection.execute(insert(audit_log), rows)
            await connection.execute(
                update(audit_chain).values(position=head.position, hash=head.hash)
            )
            return int(taken[-1].id)

    async def cut(self, before: datetime) -> bool:
        """Deletes a bounded number of the oldest rows, until the first that is not older.

        The chain keeps the hash of the last row that it has lost, so the others can still be
        verified. Returns whether there may be more to delete.
        """
        async with self._database.autocommit() as connection:
            oldest = (await connection.execute(_oldest(1))).first()
        if oldest is None or oldest.created_at >= before:
            return False
        async with self._database.transaction("audit.cut") as connection:
            await _locked_ends(connection)
            last: Row[Any] | None = None
            count = 0
            for row in await connection.execute(_oldest(_CUT_AT_ONCE)):
                if row.created_at >= before:
                    break
                last, count = row, count + 1
            if last is not None:
                await connection.execute(
                    delete(audit_log).where(audit_log.c.position <= last.position)
                )
                await connection.execute(
                    update(audit_chain).values(cut_position=last.position, cut_hash=last.hash)
                )
        return count == _CUT_AT_ONCE


async def ends_of(connection: AsyncConnection) -> Ends:
    """Returns the stored ends of the chain. Without a row, nothing was ever chained."""
    return _ends((await connection.execute(select(audit_chain))).one_or_none())


async def _locked_ends(connection: AsyncConnection) -> Ends:
    # on SQLite a transaction has the only write lock anyway
    locked = select(audit_chain).with_for_update()
    found = (await connection.execute(locked)).one_or_none()
    if found is None:
        dialect = cast("DialectName", connection.dialect.name)
        await connection.execute(
            *insert_rows(dialect, audit_chain, {"id": [1]}, constants=_EMPTY_CHAIN)
        )
        found = (await connection.execute(locked)).one()
    return _ends(found)


def _ends(row: Row[Any] | None) -> Ends:
    if row is None:
        return Ends(Head(), Head())
    return Ends(
        Head(row.position, bytes(row.hash)),
        Head(row.cut_position, bytes(row.cut_hash)),
    )


@cache
def _taken() -> Delete:
    """Deletes the oldest rows without a position, and returns them."""
    pending = audit_pending.c
    oldest = select(pending.id).order_by(pending.id).limit(_MOST_AT_ONCE)
    return delete(audit_pending).where(pending.id.in_(oldest)).returning(*pending)  # type: ignore[return-value]


@cache
def _oldest(most: int) -> Any:
    log = audit_log.c
    return select(log.position, log.created_at, log.hash).order_by(log.position).limit(most)
