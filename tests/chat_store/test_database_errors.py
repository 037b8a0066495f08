"""The table of the drivers' errors: each row is raised by the database itself, where it can be."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, ProgrammingError

from chat_store.database.engine import Database, open_database
from chat_store.database.errors import POSTGRES, SQLITE, Fault, judgement_on
from chat_store.errors import RequestTooLargeError, StoreUnavailableError
from tests.harness.postgres import Postgres

LOANS = ("autocommit", "snapshot", "transaction")
# as in PostgreSQL's documentation, appendix A: of the classes in the table, every code
CODES = """
    08000 08003 08006 08001 08004 08007 08P01 0A000 25000 25001 25002 25008 25003 25004 25005 25006
    25007 25P01 25P02 25P03 25P04 26000 28000 28P01 3D000 40000 40002 40001 40003 40P01 42501 53000
    53100 53200 53300 53400 54000 54001 54011 54023 55000 55006 55P02 55P03 55P04 57000 57014 57P01
    57P02 57P03 57P04 57P05 58000 58030 58P01 58P02 58P03 XX000 XX001 XX002
""".split()
OF_OTHER_CLASSES = "22P05 23505 42601 42P01 42703 P0001".split()
OURS = {"0A000", "55P02", "55P04", "XX000", "XX001", "XX002", *OF_OTHER_CLASSES} | {
    code for code in CODES if code[:2] == "25" and code not in {"25006", "25P03", "25P04"}
}
CALLERS = {"54000", "54001", "54011", "54023"}
RAISING = "DO $$ BEGIN RAISE EXCEPTION 'as told' USING ERRCODE = '{}'; END $$"


@pytest.fixture
async def postgres_database(postgres_url: str) -> AsyncIterator[Database]:
    opened = open_database(postgres_url)
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite_database(sqlite_url: str) -> AsyncIterator[Database]:
    opened = open_database(sqlite_url)
    yield opened
    await opened.close()


async def raised(database: Database, loan: str, statement: str) -> Exception:
    with pytest.raises(Exception, match=r".") as caught:
        async with getattr(database, loan)() as connection:
            await connection.execute(text(statement))
    error: Exception = caught.value
    return error


def fault_of(error: Exception) -> Fault:
    """As the store has told it."""
    if isinstance(error, StoreUnavailableError):
        return Fault.TRANSIENT
    return Fault.CALLER if isinstance(error, RequestTooLargeError) else Fault.DEFECT


def expected(code: str) -> Fault:
    if code in CALLERS:
        return Fault.CALLER
    return Fault.DEFECT if code in OURS else Fault.TRANSIENT


@pytest.mark.parametrize("loan", LOANS)
async def test_every_code_of_postgresql_is_told_by_whose_fault_it_is(
    postgres_database: Database, loan: str
) -> None:
    faults = {}
    for code in (*CODES, *OF_OTHER_CLASSES):
        faults[code] = fault_of(await raised(postgres_database, loan, RAISING.format(code)))

    assert faults == {code: expected(code) for code in faults}
    assert {code for code in POSTGRES if len(code) == 5} <= faults.keys()
    assert {code for code in POSTGRES if len(code) == 2} <= {code[:2] for code in faults}


async def test_what_is_told_of_an_error_has_neither_statement_nor_values_in_it(
    postgres_database: Database,
) -> None:
    error = await raised(postgres_database, "transaction", RAISING.format("25006"))

    assert str(error) == "the database is read-only"
    assert "as told" in str(error.__cause__)


class Unusual(sqlite3.DatabaseError):
    """An error as Python's driver raises it, with a code that nobody can bring about at will."""

    def __init__(self, code: int) -> None:
        super().__init__("as told")
        self.sqlite_errorcode = code


@pytest.mark.parametrize("loan", LOANS)
async def test_every_code_of_sqlite_is_told_by_whose_fault_it_is(
    sqlite_database: Database, loan: str
) -> None:
    faults = {}
    for code in range(1, sqlite3.SQLITE_NOTADB + 1):
        with pytest.raises(Exception, match=r".") as caught:
            async with getattr(sqlite_database, loan)():
                # extended codes have the code in their last byte
                raise Unusual(code | 3 << 8)
        faults[code] = fault_of(caught.value)

    ours = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} | (faults.keys() - SQLITE.keys())
    assert faults == {
        code: Fault.CALLER
        if code == sqlite3.SQLITE_TOOBIG
        else Fault.DEFECT
        if code in ours
        else Fault.TRANSIENT
        for code in faults
    }
    assert {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_ERROR} <= ours
    assert SQLITE.keys() <= faults.keys()


async def in_thread(database: Database, work: Callable[[sqlite3.Connection], Any]) -> Exception:
    """What the store tells of work that a connection for reading does."""
    with pytest.raises(Exception, match=r".*") as caught:  # noqa: PT012 - it is one piece of work
        async with database.autocommit() as connection:
            raw: Any = (await connection.get_raw_connection()).driver_connection
            await raw.in_thread(work)
    error: Exception = caught.value
    return error


def into_a_full_file(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA max_page_count=1")
    connection.execute("CREATE TABLE more (content)")
    connection.execute("INSERT INTO more VALUES (zeroblob(1000000))")


def into_a_read_only_one(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only=on")
    connection.execute("CREATE TABLE more (content)")


def without_a_right(connection: sqlite3.Connection) -> None:
    connection.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
    connection.execute("SELECT * FROM users")


def interrupted(connection: sqlite3.Connection) -> None:
    connection.set_progress_handler(lambda: 1, 1)
    connection.execute("SELECT count(*) FROM users a, users b, users c")


def too_big(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT zeroblob(2000000000)").fetchall()


@pytest.mark.parametrize(
    ("work", "fault"),
    [
        (into_a_full_file, Fault.TRANSIENT),
        (into_a_read_only_one, Fault.TRANSIENT),
        (without_a_right, Fault.TRANSIENT),
        (interrupted, Fault.TRANSIENT),
        (too_big, Fault.CALLER),
    ],
)
async def test_what_sqlite_itself_refuses_is_told_by_whose_fault_it_is(
    sqlite_database: Database, work: Callable[[sqlite3.Connection], Any], fault: Fault
) -> None:
    assert fault_of(await in_thread(sqlite_database, work)) is fault


async def test_a_file_that_is_no_database_is_a_defect_and_a_folder_in_its_place_is_not(
    tmp_path: Path,
) -> None:
    file = tmp_path / "herald.db"
    file.write_bytes(b"no database, but so long that it could be one" * 100)
    database = open_database(f"sqlite+aiosqlite:///{file}")
    no_database = await raised(database, "snapshot", "SELECT 1")
    file.unlink()
    file.mkdir()
    folder = await raised(database, "snapshot", "SELECT 1")
    file.rmdir()
    async with database.snapshot() as connection:
        mended = await connection.scalar(text("SELECT 1"))
    await database.close()

    assert (fault_of(no_database), fault_of(folder)) == (Fault.DEFECT, Fault.TRANSIENT)
    assert mended == 1


CUT = asyncpg.InternalClientError("cannot switch to state 11; another operation is in progress")
CLOSED = asyncpg.InterfaceError("connection is closed")
ARGUMENT = asyncpg.DataError("invalid input for query argument $1")


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ConnectionResetError(), Fault.TRANSIENT),
        (TimeoutError(), Fault.TRANSIENT),
        (asyncpg.CannotConnectNowError(), Fault.TRANSIENT),
        (asyncpg.ConnectionDoesNotExistError(), Fault.TRANSIENT),
        (asyncpg.TargetServerAttributeNotMatched(), Fault.TRANSIENT),
        (asyncpg.InvalidCachedStatementError(), Fault.TRANSIENT),
        (asyncpg.OutdatedSchemaCacheError("outdated"), Fault.TRANSIENT),
        (asyncpg.ProtocolError("no such message"), Fault.TRANSIENT),
        (CUT, Fault.TRANSIENT),
        (InternalError("SELECT 1", None, CUT), Fault.TRANSIENT),
        (CLOSED, Fault.TRANSIENT),
        (InterfaceError("SELECT 1", None, CLOSED), Fault.TRANSIENT),
        (ARGUMENT, Fault.DEFECT),
        (InterfaceError("SELECT 1", None, ARGUMENT), Fault.DEFECT),
        (asyncpg.UnsupportedServerFeatureError("no"), Fault.DEFECT),
        (ProgrammingError("SELECT 1", None, asyncpg.UndefinedTableError("no")), Fault.DEFECT),
        (InterfaceError("SELECT 1", None, sqlite3.InterfaceError("no")), Fault.DEFECT),
        (DBAPIError("SELECT 1", None, LookupError(), connection_invalidated=True), Fault.TRANSIENT),
        (MemoryError(), Fault.TRANSIENT),
        (LookupError(), Fault.DEFECT),
    ],
)
def test_errors_without_a_code_are_known_by_their_types(error: Exception, fault: Fault) -> None:
    assert judgement_on(error).fault is fault


async def test_a_read_only_postgresql_answers_no_until_it_is_mended(
    postgres: Postgres, postgres_database: Database, postgres_url: str
) -> None:
    name = make_url(postgres_url).database
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    # eight sessions of now stay read-only when the setting is taken back
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(slept(postgres_database))
    meanwhile = await postgres_database.is_available()
    refused = await raised(postgres_database, "transaction", "CREATE TABLE more ()")
    faults = postgres_database.refusal

    postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    # all eight at once, so that each needs one of them
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(written(postgres_database))

    assert (meanwhile, await postgres_database.is_available()) == (False, True)
    assert (str(refused), faults) == ("the database is read-only", "the database is read-only")
    assert postgres_database.refusal == ""


async def slept(database: Database) -> None:
    async with database.snapshot() as connection:
        await connection.execute(text("SELECT pg_sleep(0.3)"))


async def written(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE users SET name = ''"))
        await connection.execute(text("SELECT pg_sleep(0.3)"))


async def test_an_sqlite_file_that_takes_no_writes_answers_no_until_one_is_taken(
    sqlite_database: Database,
) -> None:
    async with sqlite_database.transaction() as connection:
        await connection.execute(text("PRAGMA query_only=on"))
    refused = await raised(sqlite_database, "transaction", "CREATE TABLE more (content)")
    answers = await sqlite_database.is_available()
    faults = sqlite_database.refusal
    # the connection that is read-only was left for another one
    async with sqlite_database.transaction() as connection:
        await connection.execute(text("CREATE TABLE more (content)"))

    assert (str(refused), faults, answers) == (faults, "the database is read-only", False)
    assert await sqlite_database.is_available()


async def test_a_statement_that_somebody_cancels_is_worth_another_try(
    postgres: Postgres, postgres_database: Database
) -> None:
    async with asyncio.TaskGroup() as group:
        sleeping = group.create_task(
            raised(postgres_database, "transaction", "SELECT pg_sleep(600) /* to be cancelled */")
        )
        cancel = (
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE '%/* to be ' || 'cancelled */%' AND state = 'active'"
        )
        while not sleeping.done():
            postgres.execute(cancel)
            # one that came between two messages of the driver has cancelled nothing
            await asyncio.wait([sleeping], timeout=0.1)

    assert str(sleeping.result()) == "the database cancelled the statement"


async def test_a_statement_that_takes_longer_than_its_session_allows_is_worth_another_try(
    postgres_database: Database,
) -> None:
    with pytest.raises(StoreUnavailableError):  # noqa: PT012 - both are of one session
        async with postgres_database.autocommit() as connection:
            await connection.execute(text("SET statement_timeout = 10"))
            await connection.execute(text("SELECT pg_sleep(600)"))


async def test_too_many_connections_are_worth_another_try(
    postgres: Postgres,
) -> None:
    # superusers pass every limit but that of the server
    postgres.execute("CREATE ROLE guest LOGIN")
    try:
        postgres.execute("ALTER ROLE guest CONNECTION LIMIT 0")
        guest = open_database(postgres.url("postgres", "guest"))
        error = await raised(guest, "snapshot", "SELECT 1")
        await guest.close()
    finally:
        postgres.execute("DROP ROLE guest")

    assert str(error) == "the database has too many connections"


async def test_a_database_that_is_not_there_and_a_wrong_role_are_worth_another_try(
    postgres: Postgres,
) -> None:
    faults = set()
    for url in (postgres.url("none"), postgres.url("postgres", "nobody")):
        database = open_database(url)
        faults.add(str(await raised(database, "snapshot", "SELECT 1")))
        await database.close()

    assert faults == {"the database refuses access"}
