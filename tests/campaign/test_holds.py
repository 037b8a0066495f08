"""When a database counts as restored, and what a hold keeps from happening."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from campaign_service.campaigns.errors import DatabaseHeldError, RunEndedError
from campaign_service.campaigns.holds import Because, Hold, HoldStore
from campaign_service.campaigns.model import Times
from campaign_service.lifecycle.hold_watch import HoldWatch
from campaign_service.planning.page import PlannedPage
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.holds import SqlHoldStore
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.crash_points import VARIABLE, CrashPoint, Point
from chat_store.database.engine import Database, open_database
from chat_store.database.sqlite.generation import Generation, GenerationFile
from chat_store.page_rows import PageRows
from tests.campaign.builders import a_spec
from tests.harness import forkserver
from tests.harness.lock_waiters import wait_for_waiters
from tests.harness.postgres import Postgres
from tests.harness.processes import free_address

pytestmark = pytest.mark.nightly_on("postgresql")

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RESTORED = Hold(Because.RESTORED)
STARTED_HELD = Hold(Because.STARTED_HELD)


async def begun(database: Database, *, start_held: bool = False) -> Hold | None:
    """What a server that starts finds."""
    return await SqlHoldStore(database).begin(start_held=start_held)


async def with_campaign(database: Database, id_: str = "spring") -> None:
    await SqlCampaignStore(database).create(id_, a_spec(), NOON, to_channels=False)


async def executed(database: Database, statement: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(statement))


async def asked(database: Database, question: str) -> object:
    async with database.snapshot() as connection:
        return await connection.scalar(text(question))


def path_of(database: Database) -> Path:
    return Path(f"{database.file}.generation")


def file_of(database: Database) -> GenerationFile:
    assert database.file
    return GenerationFile(database.file)


@pytest.fixture
async def sqlite(sqlite_url: str) -> AsyncIterator[Database]:
    """With a campaign in it; no server has started on it."""
    opened = open_database(sqlite_url)
    await with_campaign(opened)
    yield opened
    await opened.close()


@pytest.fixture
async def postgres_database(postgres_url: str) -> AsyncIterator[Database]:
    """With a campaign in it; a server has started on it."""
    opened = open_database(postgres_url)
    await with_campaign(opened)
    assert await begun(opened) is None
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("row", "file", "hold"),
    [
        (None, None, None),
        (None, ("home", 0), None),
        (None, ("home", 1), RESTORED),
        (("home", 7), ("home", 7), None),
        (("home", 8), ("home", 7), None),
        (("home", 70), ("home", 7), None),
        (("home", 6), ("home", 7), RESTORED),
        (("home", 7), None, RESTORED),
        (("home", 7), "{", RESTORED),
        (("home", 7), "[1]", RESTORED),
        (("home", 7), ("away", 7), RESTORED),
        (("home", 7), ("away", 1), RESTORED),
    ],
    ids=[
        "the first start",
        "a crash in the first start",
        "a backup of an earlier version is put back",
        "a plain restart",
        "a crash between the two writes",
        "an old file is put back alone",
        "the database is put back alone",
        "the database is put into another folder",
        "the file is cut off",
        "the file holds something else",
        "the database is put in the place of another one",
        "the database is put in the place of one that is behind",
    ],
)
async def test_sqlite_is_held_when_it_is_behind_its_file_or_not_at_home_with_it(
    sqlite: Database,
    row: tuple[str, int] | None,
    file: tuple[str, int] | str | None,
    hold: Hold | None,
) -> None:
    if row:
        values = f"(1, '{row[0]}', '', {row[1]}, '')"
        await executed(sqlite, f"INSERT INTO restore_guard VALUES {values}")
    if isinstance(file, tuple):
        file_of(sqlite).write(Generation(*file))
    elif file:
        path_of(sqlite).write_text(file)

    assert await begun(sqlite) == hold
    assert await begun(sqlite) == hold

    await SqlHoldStore(sqlite).release()
    assert await begun(sqlite) is None


@pytest.mark.parametrize(
    ("changed", "hold"),
    [
        ("held_because = ''", None),
        ("origin = '1'", RESTORED),
        ("origin = ''", None),
        ("place = '1/' || split_part(place, '/', 2)", RESTORED),
        ("place = split_part(place, '/', 1) || '/1'", RESTORED),
    ],
    ids=[
        "a restart or a failover",
        "another cluster",
        "a system identifier that could not be read before",
        "another database of the cluster",
        "over its old tables",
    ],
)
async def test_postgresql_is_held_where_it_is_not_at_home(
    postgres_database: Database, changed: str, hold: Hold | None
) -> None:
    await executed(postgres_database, f"UPDATE restore_guard SET {changed}")

    assert await begun(postgres_database) == hold
    assert await begun(postgres_database) == hold

    await SqlHoldStore(postgres_database).release()
    assert await begun(postgres_database) is None


async def test_a_role_that_may_not_read_the_system_identifier_tells_by_the_oids(
    postgres_database: Database, postgres: Postgres
) -> None:
    name = await asked(postgres_database, "SELECT current_database()")
    assert isinstance(name, str)
    revoke = "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"
    postgres.execute(f"CREATE ROLE plain_{name} LOGIN; {revoke}", name)
    postgres.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO plain_{name}", name)
    plain = open_database(postgres.url(name, f"plain_{name}"))
    try:
        assert await begun(plain) is None
        await executed(plain, "UPDATE restore_guard SET place = '1/2'")
        assert await begun(plain) == RESTORED
        await SqlHoldStore(plain).release()
        assert await begun(plain) is None
    finally:
        await plain.close()
        postgres.execute(f"DROP OWNED BY plain_{name}; DROP ROLE plain_{name}", name)
        postgres.execute("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC", name)


async def test_a_database_without_any_campaign_is_never_restored(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    file_of(database).write(Generation("of a database that was thrown away", 12))

    assert await begun(database) is None
    await with_campaign(database)
    assert await begun(database) is None
    await database.close()


async def test_each_start_holds_a_database_while_it_is_told_to(database: Database) -> None:
    await with_campaign(database)

    assert await begun(database, start_held=True) == STARTED_HELD
    assert await begun(database) == STARTED_HELD
    await SqlHoldStore(database).release()
    assert await begun(database) is None
    assert await begun(database, start_held=True) == STARTED_HELD


async def test_servers_that_start_at_once_on_a_new_database_hold_nothing(
    database_url: str,
) -> None:
    async with AsyncExitStack() as stack:
        opened = [open_database(database_url) for _ in range(4)]
        for database in opened:
            stack.push_async_callback(database.close)
        await with_campaign(opened[0])

        for _ in range(5):
            assert await asyncio.gather(*map(begun, opened)) == [None] * 4
            holds = [SqlHoldStore(database) for database in opened]
            checked = await asyncio.gather(*(hold.check() for hold in holds))
            assert checked == [None] * 4


async def test_one_of_several_that_start_at_once_holds_it_for_all(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        opened = [open_database(database_url) for _ in range(3)]
        for database in opened:
            stack.push_async_callback(database.close)

        await asyncio.gather(begun(opened[0]), begun(opened[1], start_held=True), begun(opened[2]))

        assert await SqlHoldStore(opened[2]).check() == STARTED_HELD


async def test_a_server_that_starts_while_another_one_holds_the_database_lets_it(
    postgres_url: str,
) -> None:
    one, other = open_database(postgres_url), open_database(postgres_url)
    async with one.transaction() as connection:
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtext('herald-restore-guard'))")
        )
        await connection.execute(
            text("INSERT INTO restore_guard VALUES (1, '', '', 0, 'started_held')")
        )
        starting = asyncio.create_task(begun(other))
        await wait_for_waiters(one, starting)

    assert await starting == STARTED_HELD
    await one.close()
    await other.close()


@pytest.mark.nightly
@pytest.mark.parametrize("point", list(Point))
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize("start", ["first", "later"])
async def test_a_server_that_is_killed_while_it_starts_leaves_nothing_that_looks_restored(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, point: Point, start: str
) -> None:
    url: str = request.getfixturevalue(f"{kind}_url")
    database = open_database(url)
    await with_campaign(database)
    if start == "later":
        assert await begun(database) is None
        # so that there is something to write down on PostgreSQL, too
        await executed(database, "UPDATE restore_guard SET origin = '' WHERE place <> ''")
    crash = CrashPoint("hold.begin", point)

    code = await asyncio.to_thread(killed, url, crash, tmp_path)

    assert code == -signal.SIGKILL
    assert await begun(database) is None
    await database.close()


def killed(database_url: str, crash: CrashPoint, folder: Path) -> int:
    """Starts a campaign server that dies at the point, as its log says; returns its exit code."""
    log = folder / "campaign.log"
    environment = {
        "HERALD_DATABASE_URL": database_url,
        "HERALD_CAMPAIGN_LISTEN": free_address(),
        "HERALD_SENDER_PROCESSES": "0",
        VARIABLE: str(crash),
    }
    code = forkserver.run("campaign_service", environment, log).wait(60)
    assert f"killed at {crash}" in log.read_text()
    return code


async def test_whatever_is_written_counts_the_generation_on_and_nothing_else_does(
    sqlite: Database,
) -> None:
    holds = SqlHoldStore(sqlite)
    await holds.begin(start_held=False)
    first = file_of(sqlite).read()
    assert first

    for _ in range(3):
        assert await holds.check() is None
    assert file_of(sqlite).read() == first

    for number in range(1, 4):
        await with_campaign(sqlite, f"campaign-{number}")
        assert await holds.check() is None
        assert await holds.check() is None
        assert file_of(sqlite).read() == replace(first, number=first.number + number)
        assert await asked(sqlite, "SELECT generation FROM restore_guard") == first.number + number


async def test_servers_on_one_sqlite_file_do_not_count_on_because_of_each_other(
    sqlite: Database, sqlite_url: str
) -> None:
    other = open_database(sqlite_url)
    pair = [SqlHoldStore(sqlite), SqlHoldStore(other)]
    for holds in pair:
        await holds.begin(start_held=False)
    await pair[0].check()
    before = file_of(sqlite).read()

    for holds in pair * 3:
        assert await holds.check() is None

    assert file_of(sqlite).read() == before
    await other.close()


async def test_a_backup_of_the_last_run_is_behind_however_short_that_was(
    sqlite: Database, tmp_path: Path
) -> None:
    holds = SqlHoldStore(sqlite)
    await holds.begin(start_held=False)
    backup = tmp_path / "backup.db"
    async with sqlite.autocommit() as connection:
        await connection.execute(text(f"VACUUM INTO '{backup}'"))
    await with_campaign(sqlite, "after the backup")
    await holds.end()
    assert sqlite.file
    shutil.copy(f"{sqlite.file}.generation", f"{backup}.generation")

    restored = open_database(f"sqlite+aiosqlite:///{backup}")
    assert await begun(restored) == RESTORED
    await restored.close()


async def test_a_file_that_disappears_under_a_running_server_is_written_again(
    sqlite: Database,
) -> None:
    holds = SqlHoldStore(sqlite)
    await holds.begin(start_held=False)
    path_of(sqlite).unlink()
    await with_campaign(sqlite, "autumn")

    assert await holds.check() is None
    assert file_of(sqlite).read()


def test_the_file_is_its_owners_alone_and_replaced_as_a_whole(tmp_path: Path) -> None:
    database = tmp_path / "herald.db"
    database.touch()
    file = GenerationFile(database)

    for number in range(3):
        file.write(Generation("home", number))

    assert file.read() == Generation("home", 2)
    assert {path.name for path in tmp_path.iterdir()} == {"herald.db", "herald.db.generation"}
    assert (tmp_path / "herald.db.generation").stat().st_mode & 0o777 == 0o600


async def held_in_the_middle(database: Database) -> None:
    """`spring` is in progress, `autumn` due to start, `winter` due to stop; then a hold."""
    moves = SqlTransitionStore(database, shards=1)
    for id_ in ("spring", "autumn", "winter"):
        await with_campaign(database, id_)
    await moves.start("spring", 2, NOON)
    await moves.start("winter", 2, NOON)
    await executed(database, "UPDATE campaigns SET status = 'scheduled' WHERE id = 'autumn'")
    past = "1" if database.dialect == "sqlite" else "now() - interval '1 year'"
    await executed(database, f"UPDATE campaigns SET scheduled_for = {past} WHERE id = 'autumn'")
    await executed(database, f"UPDATE campaigns SET stop_at = {past} WHERE id = 'winter'")


async def test_a_held_database_gives_senders_and_the_clock_nothing_to_do(
    database: Database,
) -> None:
    await held_in_the_middle(database)
    runs, moves = SqlRunStore(database), SqlTransitionStore(database, shards=1)
    lease = await runs.claim("before", NOON, NOON + HOUR)
    assert lease
    assert {due.campaign_id for due in await moves.due(datetime.now(UTC))} == {"autumn", "winter"}
    await begun(database, start_held=True)

    assert await runs.claim("after", NOON + 2 * HOUR, NOON + 3 * HOUR) is None
    assert await moves.due(datetime.now(UTC)) == []
    page = PlannedPage(rows=PageRows(moment=NOON), sent=0, channels_created=0, not_sent=())
    for refused in (
        runs.commit_page(lease, page, "somewhere"),
        runs.renew(lease, NOON + HOUR),
        runs.begin_pass(lease),
        runs.finish_pass(lease, NOON),
        runs.abort(lease, "a reason", NOON),
    ):
        with pytest.raises(RunEndedError):
            await refused
    await runs.set_status_reason(lease, "retrying")
    await runs.release(lease)
    await moves.set_status_reason("autumn", "waiting to start", 1)
    campaigns = SqlCampaignStore(database)
    for id_ in ("spring", "autumn", "winter"):
        assert (await campaigns.get(id_)).status_reason == STARTED_HELD.explanation

    await SqlHoldStore(database).release()
    assert (await campaigns.get("spring")).status_reason == ""
    assert await runs.claim("after", NOON + 2 * HOUR, NOON + 3 * HOUR)
    assert len(await moves.due(datetime.now(UTC))) == 2


async def test_a_held_database_starts_nothing_and_lets_all_else_be_done(
    database: Database,
) -> None:
    await held_in_the_middle(database)
    await with_campaign(database, "draft")
    moves = SqlTransitionStore(database, shards=1)
    await begun(database, start_held=True)

    for refused in (
        moves.refuse_if_held(),
        moves.start("draft", 2, NOON),
        moves.start("spring", 2, NOON),
        moves.schedule("draft", Times(scheduled_for=NOON), NOON),
        moves.schedule("autumn", Times(scheduled_for=NOON), NOON),
    ):
        with pytest.raises(DatabaseHeldError, match="HERALD_START_HELD"):
            await refused
    await moves.stop("spring", "stopped by a caller", NOON)
    await moves.delete("autumn", NOON)
    stopped = await SqlCampaignStore(database).get("spring")
    assert stopped.status_reason == "stopped by a caller"

    assert [c.campaign_id for c in await SqlHoldStore(database).campaigns()] == ["winter"]
    await SqlHoldStore(database).release()
    assert (await SqlCampaignStore(database).get("spring")).status_reason == "stopped by a caller"


class Announced:
    def __init__(self) -> None:
        self.withheld: list[bool] = []

    async def set_withheld(self, withheld: bool) -> None:  # noqa: FBT001 - a setter's argument
        self.withheld.append(withheld)


async def test_a_hold_is_told_at_once_and_then_once_a_minute(database: Database) -> None:
    holds: HoldStore = SqlHoldStore(database)
    announced, now = Announced(), NOON
    watch = HoldWatch(holds, announced, now=lambda: now)
    await holds.begin(start_held=False)
    await watch.run_once()
    await begun(database, start_held=True)

    with capture_logs() as logs:
        for _ in range(121):
            await watch.run_once()
            now += timedelta(seconds=1)
        await holds.release()
        await watch.run_once()

    assert announced.withheld == [True, False]
    assert [entry["log_level"] for entry in logs] == ["warning"] * 3 + ["info"]
    assert "restored --resume | --stop" in logs[0]["command"]
