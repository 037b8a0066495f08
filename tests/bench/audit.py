"""What the audit row of a small write costs, and how long a million rows take to verify."""

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import islice
from statistics import median
from time import perf_counter, process_time
from typing import Any

from sqlalchemy import insert, update

from chat_store.audit.callers import Caller, calling
from chat_store.audit.entries import FIELDS, Head, chained
from chat_store.audit.tables import audit_chain, audit_log
from chat_store.audit.verifying import verify
from chat_store.database.columns import to_microseconds
from chat_store.database.engine import Database, open_database
from chat_store.models import User
from chat_store.sql.stores import sql_chat_store
from tests.bench.databases import BenchDatabase, Line

_WRITES = 2_000
_ROWS = 1_000_000
_ROWS_AT_ONCE = 20_000
_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_CALLER = Caller(
    principal_id="0f3c9a1be27d4856",
    principal_name="CRM",
    method="herald.chat.v1.ChatService/UpsertUsers",
    request_id="0198c7e2b4c57d1f",
    peer="ipv4:127.0.0.1:51234",
)


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    """In this process, without a server around it."""
    yield from asyncio.run(_measured(bench_database.empty()))


async def _measured(url: str) -> list[Line]:
    database = open_database(url)
    lines = [await _cost(database), *await _verification(database)]
    await database.close()
    return lines


async def _cost(database: Database) -> Line:
    """Of writes with a caller and without one, in turn; those without leave no row."""
    users = sql_chat_store(database).users
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number in range(_WRITES):
        for audited in (True, False):
            began = perf_counter()
            with calling(_CALLER) if audited else nullcontext():
                await users.upsert([User(id=f"u{number % 50}")], _NOON)
            seconds[audited].append(perf_counter() - began)
    with_row, without = (1_000 * median(seconds[audited]) for audited in (True, False))
    cost = with_row - without
    return Line(
        "audit row of an upserted user",
        f"{cost:.3f} ms",
        f"{cost / without:.1%} of {without:.2f} ms (median of the store's call); goal: 0.2 ms",
    )


async def _verification(database: Database) -> Iterator[Line]:
    await _fill(database)
    began, core_began = perf_counter(), process_time()
    whole = await verify(database)
    seconds, of_a_core = perf_counter() - began, process_time() - core_began
    last = _ROWS - 1
    async with database.transaction() as connection:
        await connection.execute(
            update(audit_log).where(audit_log.c.position == last).values(resource="users/other")
        )
    broken = await verify(database)
    assert whole.fault is None
    assert broken.fault
    assert broken.fault.position == last
    remark = f"{of_a_core:.1f} s of a core; goal: 10 s"
    return iter([Line(f"{whole.rows:,} audit rows verified", f"{seconds:.1f} s", remark)])


async def _fill(database: Database) -> None:
    rows = _rows()
    head = Head()
    async with database.transaction() as connection:
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            await connection.execute(insert(audit_log), some)
            head = Head(some[-1]["position"], some[-1]["hash"])
        await connection.execute(
            insert(audit_chain).values(
                id=1, position=head.position, hash=head.hash, cut_position=0, cut_hash=Head().hash
            )
        )


def _rows() -> Iterator[dict[str, Any]]:
    at = Head()
    for position in range(1, _ROWS + 1):
        moment = _NOON + timedelta(milliseconds=position)
        values: dict[str, Any] = {
            "created_at": moment,
            "principal_id": _CALLER.principal_id,
            "principal_name": _CALLER.principal_name,
            "method": _CALLER.method,
            "resource": f"users/u{position}",
            "revision_before": None,
            "revision_after": None,
            "refusal": "",
            "request_id": f"{position:016x}",
            "peer": _CALLER.peer,
        }
        others = [values[name] for name in FIELDS[1:]]
        at = Head(position, chained(at.hash, [position, to_microseconds(moment), *others]))
        yield {"position": position, "hash": at.hash, **values}
