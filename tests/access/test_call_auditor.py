"""The worker that chains audit rows: what it notes of refused calls, and what it cuts off."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from chat_store.audit.callers import Caller
from chat_store.audit.chain import SqlAuditChain
from chat_store.audit.entries import Refusal
from chat_store.audit.tables import audit_log
from chat_store.audit.verifying import verify
from chat_store.database.engine import Database
from herald_rpc.access.auditing import CallAuditor
from herald_rpc.server.principals import NOBODY, Principal

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Audited:
    """An auditor whose clock the test moves."""

    def __init__(self, database: Database) -> None:
        self.clock = Clock()
        self._database = database
        self.auditor = CallAuditor(SqlAuditChain(database), lambda: NOON, clock=self.clock)

    def refuse(self, times: int, principal: Principal, peer: str = "ipv4:10.0.0.7:5") -> None:
        for _ in range(times):
            self.auditor.refused(principal, "/a.B/C", "request", peer, "REASON")

    async def written(self) -> Counter[str]:
        """How many rows there are, by principal or else by peer."""
        await self.auditor.run_once()
        async with self._database.snapshot() as connection:
            rows = await connection.execute(select(audit_log.c.principal_id, audit_log.c.peer))
            return Counter(row.principal_id or row.peer for row in rows)


@pytest.mark.nightly_on("postgresql")
async def test_ten_refused_calls_a_second_of_each_principal_are_written(
    database: Database,
) -> None:
    audited = Audited(database)
    one, other = Principal("one", "One"), Principal("other", "Other")
    audited.refuse(50, one)
    audited.refuse(3, other)
    assert await audited.written() == {"one": 10, "other": 3}

    audited.clock.seconds += 0.99
    audited.refuse(50, one)
    assert await audited.written() == {"one": 10, "other": 3}

    audited.clock.seconds += 0.01
    audited.refuse(50, one)
    assert await audited.written() == {"one": 20, "other": 3}


@pytest.mark.nightly_on("postgresql")
async def test_callers_without_a_token_have_a_limit_for_each_host_and_many_hosts_share_one(
    database: Database,
) -> None:
    audited = Audited(database)
    for port in range(30):
        audited.refuse(1, NOBODY, f"ipv4:10.0.0.7:{port}")
        audited.refuse(1, NOBODY, f"ipv6:%5B::1%5D:{port}")
    written = await audited.written()

    assert sum(count for peer, count in written.items() if peer.startswith("ipv4:10.0.0.7:")) == 10
    assert sum(count for peer, count in written.items() if peer.startswith("ipv6:[::1]:")) == 10

    audited.clock.seconds += 1
    for host in range(2_000):
        audited.refuse(2, NOBODY, f"ipv4:10.1.{host // 250}.{host % 250}:1")
    more = (await audited.written()).total() - written.total()
    assert more == 100 * 2 + 10

    audited.clock.seconds += 1
    # an abstract socket, whose name begins with NUL
    audited.refuse(1, NOBODY, "unix:%00herald")
    assert (await audited.written())["unix:@herald"] == 1


async def test_an_auditor_that_stops_writes_what_it_has_noted(database: Database) -> None:
    audited = Audited(database)
    stop = asyncio.Event()
    stop.set()
    audited.refuse(1, Principal("one", "One"))

    await audited.auditor.run(stop)

    assert (await verify(database)).rows == 1


@pytest.mark.nightly_on("postgresql")
async def test_refused_calls_during_an_outage_are_bounded_and_written_after_it(
    database: Database,
) -> None:
    audited = Audited(database)
    for number in range(1_500):
        audited.refuse(10, Principal(f"token-{number}", "x"))
        audited.clock.seconds += 1

    assert (await audited.written()).total() == 10_000


async def test_rows_older_than_the_retention_are_cut_off_in_as_many_steps_as_it_takes(
    database: Database,
) -> None:
    caller = Caller(method="tests")
    chain = SqlAuditChain(database)
    old, young = (Refusal(caller, "x", NOON - timedelta(days=days)) for days in (31, 29))
    await chain.add_refusals([*[old] * 2_300, *[young] * 5, replace(old, reason="late")])
    forever = CallAuditor(chain, lambda: NOON)
    auditor = CallAuditor(chain, lambda: NOON, timedelta(days=30))

    await forever.run_once()
    assert (await verify(database)).rows == 2_306
    cut = []
    for _ in range(4):
        await auditor.run_once()
        cut.append((await verify(database)).cut.position)

    # only a whole beginning is cut off: the clocks of servers differ a little
    assert cut == [1_000, 2_000, 2_300, 2_300]
    assert (await verify(database)).fault is None
