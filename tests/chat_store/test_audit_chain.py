"""The audit log is a chain: whatever is altered, removed or exchanged in it is found."""

import asyncio
import hashlib
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.audit.callers import Caller, calling
from chat_store.audit.chain import SqlAuditChain
from chat_store.audit.entries import FIELDS, GENESIS, Head, Refusal, chained
from chat_store.audit.tables import audit_chain, audit_log
from chat_store.audit.verifying import CutOffError, Fault, verify, verify_in
from chat_store.database.columns import to_microseconds
from chat_store.database.crash_points import VARIABLE, CrashPoint, Point
from chat_store.database.engine import Database, open_database
from chat_store.filters.fields import Field, Kind
from chat_store.filters.predicates import EVERYTHING
from chat_store.models import User
from chat_store.paging import PageRequest, Sort
from chat_store.sql.audit_log import SqlAuditLog
from chat_store.sql.stores import sql_chat_store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CALLER = Caller(principal_id="0f3c", principal_name="CRM", method="tests", request_id="r", peer="p")
LOG = audit_log.c
LATEST_FIRST = (Sort(Field("position", Kind.NUMBER), descending=True),)


async def chained_rows(database: Database, count: int) -> SqlAuditChain:
    """Writes as many rows, and chains them."""
    chain = SqlAuditChain(database)
    refusals = [Refusal(CALLER, f"reason {i}", NOW + timedelta(days=i)) for i in range(count)]
    await chain.add_refusals(refusals)
    await chain.grow()
    return chain


async def rows_of(database: Database) -> list[dict[str, object]]:
    async with database.snapshot() as connection:
        rows = await connection.execute(select(audit_log).order_by(LOG.position))
        return [dict(row._mapping) for row in rows]


def test_the_hash_of_a_row_is_of_the_row_and_of_the_hash_before() -> None:
    """Chains that are stored somewhere stay verifiable."""
    values = [
        1,
        1772366400000000,
        "0f3c",
        "CRM",
        "tests",
        "users/ann",
        None,
        7,
        "",
        "r",
        "ipv4:127.0.0.1:1",
    ]

    found = chained(GENESIS, values)

    row = b'[1,1772366400000000,"0f3c","CRM","tests","users/ann",null,7,"","r","ipv4:127.0.0.1:1"]'
    assert found == hashlib.sha256(bytes(32) + row).digest()
    assert chained(found, values) != found
    for index in range(1 + len(FIELDS)):
        others = [*values]
        others[index] = "other"
        assert chained(GENESIS, others) != found, index


async def test_rows_are_chained_from_1_on_and_those_that_are_not_yet_are_counted(
    database: Database,
) -> None:
    assert await verify(database) == await verify(database, Head())

    chain = await chained_rows(database, 3)
    await chain.add_refusals([Refusal(CALLER, "late", NOW)])
    found = await verify(database)

    assert [row["position"] for row in await rows_of(database)] == [1, 2, 3]
    assert (found.rows, found.head.position, found.pending, found.fault) == (3, 3, 1, None)
    await chain.grow()
    assert (await verify(database)).pending == 0


Tampering = Callable[[AsyncConnection], Awaitable[object]]


def _altered(**values: object) -> Tampering:
    return lambda connection: connection.execute(
        update(audit_log).where(LOG.position == 40).values(values)
    )


async def _exchanged(connection: AsyncConnection) -> None:
    for old, new in ((40, 0), (50, 40), (0, 50)):
        await connection.execute(update(audit_log).where(LOG.position == old).values(position=new))


async def _moved_up(connection: AsyncConnection) -> None:
    await connection.execute(delete(audit_log).where(LOG.position == 40))
    for position in range(41, 101):
        await connection.execute(
            update(audit_log).where(LOG.position == position).values(position=position - 1)
        )


def hash_of(previous: bytes, position: int, values: list[Any]) -> bytes:
    moment, *others = values
    return chained(previous, [position, to_microseconds(moment), *others])


async def _written_anew(connection: AsyncConnection) -> None:
    """With a hash that is right, but not the one that the next row was chained to."""
    rows = await connection.execute(select(audit_log).where(LOG.position.in_([39, 40])))
    before, row = sorted(rows, key=lambda row: row.position)
    values = {**{name: getattr(row, name) for name in FIELDS}, "principal_id": "somebody"}
    await connection.execute(
        update(audit_log)
        .where(LOG.position == 40)
        .values(**values, hash=hash_of(bytes(before.hash), 40, list(values.values())))
    )


async def _one_more(connection: AsyncConnection) -> None:
    row = (await connection.execute(select(audit_log).where(LOG.position == 100))).one()
    values = [getattr(row, name) for name in FIELDS]
    await connection.execute(
        insert(audit_log).values(
            position=101,
            hash=hash_of(bytes(row.hash), 101, values),
            **dict(zip(FIELDS, values, strict=True)),
        )
    )


TAMPERINGS: dict[str, tuple[Tampering, int]] = {
    **{
        f"altered {name}": (_altered(**{name: "other"}), 40)
        for name in FIELDS
        if name not in ("created_at", "revision_before", "revision_after")
    },
    "altered created_at": (_altered(created_at=NOW), 40),
    "altered revision_before": (_altered(revision_before=1), 40),
    "altered revision_after": (_altered(revision_after=1), 40),
    "altered hash": (_altered(hash=GENESIS), 40),
    "removed": (lambda c: c.execute(delete(audit_log).where(LOG.position == 40)), 40),
    "removed, and the others moved up": (_moved_up, 40),
    "exchanged with a later one": (_exchanged, 40),
    "written anew with its hash": (_written_anew, 41),
    "removed at the beginning": (lambda c: c.execute(delete(audit_log).where(LOG.position < 3)), 1),
    "removed at the end": (lambda c: c.execute(delete(audit_log).where(LOG.position > 97)), 98),
    "removed altogether": (lambda c: c.execute(delete(audit_log)), 1),
    "added at the end": (_one_more, 101),
    "the stored head altered": (lambda c: c.execute(update(audit_chain).values(hash=GENESIS)), 100),
    "the stored ends removed": (lambda c: c.execute(delete(audit_chain)), 1),
    "the cut altered": (
        lambda c: c.execute(update(audit_chain).values(cut_position=2, cut_hash=GENESIS)),
        3,
    ),
}


class _UndoneError(Exception):
    """Rolls the tampering back, so that one chain serves all cases."""


async def test_the_first_row_that_was_tampered_with_is_named(database: Database) -> None:
    await chained_rows(database, 100)
    for name, (tamper, position) in TAMPERINGS.items():
        with suppress(_UndoneError):
            async with database.transaction() as connection:
                await tamper(connection)
                found = await verify_in(connection)
                assert found.fault, name
                assert found.fault.position == position, name
                raise _UndoneError

    assert (await verify(database)).fault is None


async def test_a_head_that_is_kept_elsewhere_shows_a_chain_whose_end_is_gone_or_written_anew(
    database: Database,
) -> None:
    await chained_rows(database, 3)
    kept = (await verify(database)).head
    async with database.transaction() as connection:
        await connection.execute(delete(audit_log).where(LOG.position == 3))
        before = await connection.execute(select(LOG.hash).where(LOG.position == 2))
        await connection.execute(update(audit_chain).values(position=2, hash=before.scalar_one()))

    assert (await verify(database)).fault is None
    cut_short = await verify(database, kept)
    await chained_rows(database, 1)
    other = await verify(database, kept)

    assert Head.read(str(kept)) == kept
    assert cut_short.fault == Fault(3, "the row is missing, which the known head is behind")
    assert other.fault == Fault(3, "the row is not that of the known head")
    assert (await verify(database, Head(2, before_hash(await rows_of(database))))).fault is None


def before_hash(rows: list[dict[str, object]]) -> bytes:
    (found,) = (row["hash"] for row in rows if row["position"] == 2)
    assert isinstance(found, bytes)
    return found


@pytest.mark.parametrize(
    "text_", ["", "1", "1:", "1:zz", f"x:{'0' * 64}", f"-1:{'0' * 64}", "1:00"]
)
def test_a_text_that_is_no_head_is_refused(text_: str) -> None:
    with pytest.raises(ValueError, match="must be POSITION:HASH"):
        Head.read(text_)


async def test_rows_older_than_the_retention_are_cut_off_and_the_rest_stays_verifiable(
    database: Database,
) -> None:
    chain = await chained_rows(database, 2_500)
    first, last = await verify(database), (await verify(database)).head

    more = await chain.cut(NOW + timedelta(days=1_500))
    after_one = await verify(database)
    rest = await chain.cut(NOW + timedelta(days=1_500))
    after_all = await verify(database, last)

    assert (more, after_one.cut.position, after_one.fault) == (True, 1_000, None)
    assert (rest, after_all.cut.position, after_all.fault) == (False, 1_500, None)
    assert (after_all.rows, after_all.head) == (1_000, first.head)
    assert [row["position"] for row in await rows_of(database)] == list(range(1_501, 2_501))
    with pytest.raises(CutOffError, match="up to position 1500"):
        await verify(database, after_one.cut)
    # all may go, and the chain goes on behind them
    while await chain.cut(NOW + timedelta(days=9_999)):
        pass
    await chained_rows(database, 1)
    assert [row["position"] for row in await rows_of(database)] == [2_501]
    assert (await verify(database, last)).fault is None


async def test_a_row_is_in_the_transaction_of_its_change(database: Database) -> None:
    users = sql_chat_store(database).users
    with calling(CALLER):
        await users.upsert([User(id="ann")], NOW)
        await users.delete(["ann"], NOW)
        with pytest.raises(Exception, match="was deleted"):
            await users.upsert([User(id="ann")], NOW)
    # a server's own work has no caller
    await users.upsert([User(id="bob")], NOW)

    page = await SqlAuditLog(database).query(EVERYTHING, PageRequest(10, LATEST_FIRST))

    assert [entry.resource for entry in page.items] == ["users/ann", "users/ann"]


async def test_calls_that_share_a_transaction_leave_a_row_each_with_their_own_caller(
    database: Database,
) -> None:
    users = sql_chat_store(database).users

    async def upsert(number: int) -> None:
        with calling(replace(CALLER, principal_id=f"token-{number}")):
            await users.upsert([User(id=f"u{number}")], NOW)

    await asyncio.gather(*map(upsert, range(50)))
    page = await SqlAuditLog(database).query(EVERYTHING, PageRequest(100, LATEST_FIRST))

    assert sorted((entry.principal_id, entry.resource) for entry in page.items) == sorted(
        (f"token-{number}", f"users/u{number}") for number in range(50)
    )


@pytest.mark.nightly_on("sqlite")
async def test_writers_and_chains_at_the_same_time_make_one_whole_chain(
    database_url: str,
) -> None:
    """Of several processes, each with connections of its own."""
    databases = [open_database(database_url) for _ in range(3)]

    async def write(number: int, database: Database) -> None:
        users = sql_chat_store(database).users
        for turn in range(20):
            with calling(replace(CALLER, request_id=f"{number}-{turn}")):
                await users.upsert([User(id=f"u{number}-{turn}")], NOW)
            await SqlAuditChain(database).grow()

    async with asyncio.TaskGroup() as group:
        for number in range(9):
            group.create_task(write(number, databases[number % 3]))
    found = await verify(databases[0])
    rows = await rows_of(databases[0])

    assert (found.rows, found.pending, found.fault) == (180, 0, None)
    assert {row["request_id"] for row in rows} == {
        f"{number}-{turn}" for number in range(9) for turn in range(20)
    }
    for number in range(9):
        # the order of a caller's calls, each of which had been answered before the next
        own = [row["request_id"] for row in rows if str(row["request_id"]).startswith(f"{number}-")]
        assert own == [f"{number}-{turn}" for turn in range(20)]
    for database in databases:
        await database.close()


_CHAINING = """
import asyncio, sys
from chat_store.audit.chain import SqlAuditChain
from chat_store.database.crash_points import VARIABLE, CrashPoint, Point
from chat_store.database.engine import open_database

async def main() -> None:
    database = open_database(sys.argv[1])
    await SqlAuditChain(database).grow()
    await database.close()

asyncio.run(main())
"""


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("point", "at_once"),
    [(Point.BEGUN, 0), (Point.BEFORE_COMMIT, 0), (Point.AFTER_COMMIT, 100)],
)
async def test_a_process_that_is_killed_while_it_chains_neither_loses_nor_doubles_a_row(
    point: Point, at_once: int, database_url: str
) -> None:
    database = open_database(database_url)
    chain = SqlAuditChain(database)
    await chain.add_refusals([Refusal(CALLER, f"reason {i}", NOW) for i in range(300)])

    killed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CHAINING, database_url),
        env={VARIABLE: str(CrashPoint("audit.grow", point))},
    )
    assert await killed.wait() == -signal.SIGKILL
    left = await verify(database)
    await chain.grow()

    assert (left.rows, left.pending, left.fault) == (at_once, 300 - at_once, None)
    assert [row["refusal"] for row in await rows_of(database)] == [
        f"reason {i}" for i in range(300)
    ]
    assert (await verify(database, left.head)).fault is None
    await database.close()
