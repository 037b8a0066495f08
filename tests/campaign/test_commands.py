"""`python -m campaign_service watch` and `… verify`, as processes."""

import asyncio
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from campaign_service.__main__ import app
from chat_store.database.engine import Database, open_database
from chat_store.sql.stores import sql_chat_store
from tests.campaign.builders import SENDER_ID, a_campaign_message, a_user
from tests.campaign.server_pair import ServerPair, start_pair

pytestmark = pytest.mark.nightly_on("postgresql")

PEOPLE = [f"u{number:02}" for number in range(30)]


async def launched(
    *arguments: str, stdout: int = asyncio.subprocess.PIPE
) -> asyncio.subprocess.Process:
    program = [sys.executable, "-m", "campaign_service", *arguments]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HERALD_")}
    return await asyncio.create_subprocess_exec(
        *program, env=environment, stdout=stdout, stderr=asyncio.subprocess.PIPE
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, list[str], str]:
    """Its exit code, and what it has written to its two outputs."""
    out, err = await process.communicate()
    return process.returncode, (out or b"").decode().splitlines(), err.decode()


@pytest.fixture
async def sqlite_database(sqlite_url: str) -> AsyncIterator[Database]:
    opened = open_database(sqlite_url)
    yield opened
    await opened.close()


def invoked(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


async def verified(database_url: str) -> Result:
    # apart: the command brings an event loop of its own
    return await asyncio.to_thread(invoked, "verify", "spring", "--database-url", database_url)


def watching(services: ServerPair) -> list[str]:
    return ["watch", "spring", "--target", services.campaign.address]


async def with_draft(database: Database, services: ServerPair, speed: int = 0) -> None:
    users = [a_user(id_) for id_ in [SENDER_ID, *PEOPLE]]
    await sql_chat_store(database).users.upsert(users, datetime.now(UTC))
    changes = {"user_ids": PEOPLE, "max_messages_per_second": speed}
    await services.create(a_campaign_message(changes))


@pytest.mark.nightly
@pytest.mark.parametrize("target", ["127.0.0.1:{port}", "localhost:1,localhost:{port}"])
async def test_a_campaign_is_watched_over_a_restart_of_the_server(
    target: str, sqlite_database: Database, sqlite_url: str
) -> None:
    async with start_pair(sqlite_url, page_size=5) as services:
        await with_draft(sqlite_database, services)
        servers = target.format(port=services.campaign.address.rpartition(":")[2])
        process = await launched("watch", "spring", "--target", servers)
        unknown = await launched("watch", "autumn", "--target", servers)
        assert process.stdout
        assert await process.stdout.readline() == b"draft, 0 of 0 (0%)\n"
        assert await ended(unknown) == (
            1,
            [],
            "ERROR_REASON_CAMPAIGN_NOT_FOUND: no campaign 'autumn'\n",
        )
        address = services.campaign.address
        await services.campaign.stop()
        await services.restart_campaign(campaign_listen=address)
        await services.start()
        code, lines, complaints = await ended(process)

    assert (code, complaints) == (0, "")
    assert lines[0].startswith("in progress, ")
    assert lines[-1].startswith("completed, 30 of 30 (100%), ")
    assert lines[-1].endswith("/s")


@pytest.mark.nightly
async def test_a_terminal_gets_a_bar_and_a_stop_a_code_of_its_own(
    sqlite_database: Database, sqlite_url: str
) -> None:
    ours, theirs = pty.openpty()
    async with start_pair(sqlite_url, page_size=1) as services:
        await with_draft(sqlite_database, services, speed=5)
        await services.start()
        process = await launched(*watching(services), stdout=theirs)
        await services.until(lambda campaign: campaign.stats.messages_sent > 0)
        await services.stop()
        code, _, complaints = await ended(process)
    os.close(theirs)
    shown = b""
    with suppress(OSError):
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)

    assert (code, complaints) == (3, "")
    assert "━" in shown.decode()
    assert "stopped, " in shown.decode()
    assert "stopped by a caller" in shown.decode()


async def test_a_campaign_is_verified(database: Database, database_url: str) -> None:
    async with start_pair(database_url, page_size=5) as services:
        await with_draft(database, services)
        await services.start()
        await services.until_completed()
    found = await verified(database_url)
    assert (found.exit_code, found.stderr) == (0, "")
    lines = found.stdout.splitlines()
    assert "messages                                                30" in lines
    assert "ok      targets total = messages + skipped + failed" in lines

    async with database.transaction() as connection:
        await connection.execute(text("UPDATE campaigns SET targets_total = 31"))
    found = await verified(database_url)
    assert found.exit_code == 1
    assert [line for line in found.stdout.splitlines() if line.startswith("BROKEN")] == [
        "BROKEN  targets total = messages + skipped + failed"
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("verify", "spring", "--database-url", "{url}"), 2, "no campaign 'spring'\n"),
        (("verify", "spring", "--database-url", "{url}-none"), 2, "the database: "),
        (("verify", "spring", "--database-url", "mysql://localhost/herald"), 2, "Usage: "),
        (("restored", "--stop", "--database-url", "{url}"), 1, "nothing is held: "),
        (("restored", "--resume", "--database-url", "{url}-none"), 2, "the database: "),
        (("restored", "--database-url", "{url}"), 2, "Usage: "),
        (("restored", "--resume", "--stop", "--database-url", "{url}"), 2, "Usage: "),
        (("watch", "spring", "--target", "127.0.0.1:1"), 1, "UNAVAILABLE: "),
        (("watch", "spring", "--target", "127.0.0.1:1,localhost:1"), 1, "UNAVAILABLE: "),
        (("watch", "spring", "--target", "nowhere"), 1, "'nowhere' is not host:port"),
    ],
)
def test_what_is_not_there_is_told(
    sqlite_url: str, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    finished = invoked(*(argument.format(url=sqlite_url) for argument in arguments))

    assert (finished.exit_code, finished.stdout) == (code, "")
    assert finished.stderr.startswith(complaint)


ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
NOWHERE = ("--target", "127.0.0.1:1")


@pytest.mark.nightly
@pytest.mark.parametrize("command", ["verify", "watch"])
@pytest.mark.parametrize("id_", ["grüße-🎉", "日本"])
def test_an_id_of_any_characters_is_read_in_an_ascii_locale(
    command: str, id_: str, sqlite_url: str
) -> None:
    options = ["--database-url", sqlite_url] if command == "verify" else NOWHERE

    code, complaint = in_ascii(command, id_.encode(), *options)

    assert "Traceback" not in complaint
    if command == "verify":
        assert (code, complaint) == (2, f"no campaign {id_!r}\n")
    else:
        assert code == 1
        assert complaint.startswith("UNAVAILABLE: ")


@pytest.mark.nightly_on("verify")
@pytest.mark.parametrize("command", ["verify", "watch"])
def test_an_id_that_is_no_utf_8_is_refused_in_an_ascii_locale(command: str) -> None:
    code, complaint = in_ascii(command, b"\xff\xfe")

    assert code == 2
    assert "is not UTF-8" in complaint


def in_ascii(*arguments: str | bytes) -> tuple[int, str]:
    """The exit code and the complaints of a command in a locale of 128 characters."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HERALD_", "LC_"))}
    done = subprocess.run(
        [sys.executable, "-m", "campaign_service", *arguments],
        env=environment | ASCII,
        capture_output=True,
        check=False,
        timeout=100,
    )
    return done.returncode, done.stderr.decode()
