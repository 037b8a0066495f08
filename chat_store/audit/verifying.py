"""Verifies the chain of audit rows, row by row."""

from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from sqlalchemy import Select, bindparam, extract, func, select, type_coerce
from sqlalchemy import cast as sql_cast
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.audit.chain import Ends, ends_of
from chat_store.audit.entries import FIELDS, Head, chained
from chat_store.audit.tables import audit_log, audit_pending
from chat_store.database.bulk.prepared import prepared_once
from chat_store.database.columns import Count
from chat_store.database.engine import Database, DialectName

_ROWS_AT_ONCE = 5_000
_MICROSECONDS = 1_000_000
_OTHER_HEAD = "the row is not that of the known head"


@dataclass(frozen=True, slots=True)
class Fault:
    """The first position at which the chain is broken."""

    position: int
    problem: str


class CutOffError(Exception):
    """The row of a given head was older than the retention, and is deleted."""

    def __init__(self, given: Head, cut: Head) -> None:
        super().__init__(
            f"rows up to position {cut.position} were older than the retention: "
            f"the head at position {given.position} can't be compared any more"
        )


@dataclass(frozen=True, slots=True)
class Verified:
    """The chain between the last row that was cut and the head. Without a fault it is whole.

    `pending` rows are not chained yet, and are not verified.
    """

    cut: Head
    head: Head
    pending: int
    fault: Fault | None = None

    @property
    def rows(self) -> int:
        """How many rows the chain has."""
        return self.head.position - self.cut.position


async def verify(database: Database, known: Head | None = None) -> Verified:
    """Reads the chain in one snapshot, and compares it with its stored ends.

    `known` is an earlier head, which was kept elsewhere: the chain must still have it. Raises
    `CutOffError` if the retention has cut it off.
    """
    async with database.snapshot() as connection:
        return await verify_in(connection, known)


async def verify_in(connection: AsyncConnection, known: Head | None = None) -> Verified:
    """Does as `verify`, in the connection's transaction."""
    ends = await ends_of(connection)
    if known and known.position < ends.cut.position:
        raise CutOffError(known, ends.cut)
    pending = int(await connection.scalar(select(func.count(audit_pending.c.id))) or 0)
    fault = await _first_fault(connection, ends, known)
    return Verified(ends.cut, ends.head, pending, fault)


async def _first_fault(connection: AsyncConnection, ends: Ends, known: Head | None) -> Fault | None:
    position, digest = ends.cut.position, ends.cut.hash
    wanted = known.position if known else None
    if known and wanted == position and known.hash != digest:
        return Fault(position, _OTHER_HEAD)
    dialect = cast("DialectName", connection.dialect.name)
    statement = prepared_once(_rows_after(dialect), connection.dialect)
    while rows := await statement.driver_rows(
        connection, {"after": position, "most": _ROWS_AT_ONCE}
    ):
        # a million rows: each object less saves a second
        for *row, stored in rows:
            position += 1
            if row[0] != position:
                return Fault(position, "the row is missing")
            digest = chained(digest, row)
            if stored != digest:
                return Fault(position, "the row was altered or exchanged")
            if known and wanted == position and known.hash != digest:
                return Fault(position, _OTHER_HEAD)
    return _fault_at_end(Head(position, digest), ends.head, known)


def _fault_at_end(last: Head, head: Head, known: Head | None) -> Fault | None:
    if last.position < head.position:
        return Fault(last.position + 1, "the row is missing")
    if last.position > head.position:
        return Fault(head.position + 1, "the row is behind the head of the chain")
    if last != head:
        return Fault(last.position, "the row is not the head of the chain")
    if known and known.position > last.position:
        return Fault(last.position + 1, "the row is missing, which the known head is behind")
    return None


@cache
def _rows_after(dialect: DialectName) -> Select[Any]:
    log = audit_log.c
    # as a number, as it is hashed
    micros = (
        type_coerce(log.created_at, Count)
        if dialect == "sqlite"
        else sql_cast(extract("epoch", log.created_at) * _MICROSECONDS, Count)
    )
    return (
        select(log.position, micros, *(log[name] for name in FIELDS[1:]), log.hash)
        .where(log.position > bindparam("after", type_=Count))
        .order_by(log.position)
        .limit(bindparam("most", type_=Count))
    )
