"""The command line: it verifies the audit log, and leaves rows of its own changes."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import select, update
from typer import Typer
from typer.testing import CliRunner, Result

from campaign_service.__main__ import app
from campaign_service.campaigns.model import Times
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.holds import SqlHoldStore
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.__main__ import app as chat_app
from chat_store.audit.callers import Caller
from chat_store.audit.chain import SqlAuditChain
from chat_store.audit.entries import Refusal
from chat_store.audit.tables import audit_log
from chat_store.database.engine import Database, open_database
from tests.campaign.builders import a_spec

pytestmark = pytest.mark.nightly_on("postgresql")

T = TypeVar("T")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def run(url: str, *arguments: str, of: Typer = app) -> Result:
    return CliRunner().invoke(of, [*arguments, "--database-url", url])


def at(url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    async def with_database() -> T:
        database = open_database(url)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(with_database())


async def a_row(database: Database) -> None:
    chain = SqlAuditChain(database)
    await chain.add_refusals([Refusal(Caller(method="tests"), "x", NOW)])
    await chain.grow()


def test_a_whole_log_is_told_with_its_head_and_a_broken_one_with_its_first_position(
    database_url: str,
) -> None:
    def verify(*more: str) -> Result:
        return run(database_url, "audit", "verify", *more)

    async def tamper(database: Database) -> None:
        async with database.transaction() as connection:
            await connection.execute(
                update(audit_log).where(audit_log.c.position == 2).values(resource="other")
            )

    empty = verify()
    at(database_url, a_row)
    whole = verify()
    status, head = whole.stdout.splitlines()
    at(database_url, a_row)
    later = verify("--head", head.removeprefix("head "))
    at(database_url, tamper)
    broken = verify()

    assert (empty.exit_code, empty.stdout.splitlines()[0]) == (0, "ok: no rows")
    assert (whole.exit_code, status) == (0, "ok: positions 1 to 1")
    assert head.startswith("head 1:")
    assert later.exit_code == 0
    assert broken.exit_code == 1
    assert broken.stdout == "BROKEN at position 2: the row was altered or exchanged\n"
    other = verify("--head", f"9:{'0' * 64}")
    assert (other.exit_code, other.stdout) == (1, broken.stdout)


@pytest.mark.parametrize("arguments", [["--head", "nonsense"], ["--head", "1:00"]])
def test_a_head_that_is_none_is_refused(arguments: list[str], sqlite_url: str) -> None:
    assert run(sqlite_url, "audit", "verify", *arguments).exit_code == 2


def test_without_a_database_the_log_is_neither_whole_nor_broken(tmp_path: Path) -> None:
    result = run(f"sqlite:///{tmp_path}/missing.db", "audit", "verify")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "there is no file" in result.stderr


def test_commands_leave_rows_of_the_local_principal(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "users.jsonl"
    file.write_text('{"type": "user", "data": {"id": "ann"}}\n')

    async def held_campaign(database: Database) -> None:
        await SqlCampaignStore(database).create("spring", a_spec(), NOW, to_channels=False)
        times = Times(scheduled_for=datetime.now(UTC) + timedelta(days=1))
        await SqlTransitionStore(database, shards=1).schedule("spring", times, NOW)
        await SqlHoldStore(database).begin(start_held=True)

    async def rows(database: Database) -> list[tuple[str, ...]]:
        await SqlAuditChain(database).grow()
        columns = audit_log.c
        named = select(columns.method, columns.resource, columns.principal_id, columns.peer)
        async with database.snapshot() as connection:
            found = await connection.execute(named.order_by(columns.position))
            return [tuple(row) for row in found]

    made = run(database_url, "token", "create", "CRM", "--scope", "chat:read")
    token_id = made.stdout.split("_")[1]
    run(database_url, "token", "list")
    run(database_url, "token", "revoke", token_id)
    run(database_url, "import", str(file), of=chat_app)
    at(database_url, held_campaign)
    run(database_url, "restored", "--stop")

    assert at(database_url, rows) == [
        ("token create", f"tokens/{token_id}", "local", ""),
        ("token revoke", f"tokens/{token_id}", "local", ""),
        ("import", "1 record", "local", ""),
        ("restored", "campaigns/spring", "local", ""),
    ]
