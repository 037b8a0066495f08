"""The files of an SQLite database are its owner's alone, and readers create none."""

import stat
from pathlib import Path

import pytest

from chat_store.database import schema
from chat_store.database.engine import open_database
from chat_store.errors import UnusableDatabaseError
from tests.harness import forkserver


def modes(folder: Path) -> dict[str, str]:
    return {path.name: stat.filemode(path.stat().st_mode) for path in [folder, *folder.iterdir()]}


async def test_files_and_folder_of_a_new_database_are_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    database = open_database(f"sqlite+aiosqlite:///{folder}/herald.db")
    await schema.prepare(database)
    async with database.snapshot():
        found = modes(folder)
    await database.close()

    assert {"herald.db", "herald.db-wal", "herald.db-shm", "herald.db-turn"} <= found.keys()
    assert found.pop("data") == "drwx------"
    assert set(found.values()) == {"-rw-------"}


def test_the_mode_of_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)

    open_database(f"sqlite+aiosqlite:///{tmp_path}/herald.db")

    assert modes(tmp_path)[tmp_path.name] == "drwxr-x---"


@pytest.mark.parametrize("command", [("verify", "spring"), ("restored", "--stop")])
def test_a_command_that_reads_creates_no_database(command: tuple[str, ...], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/data/herald.db"

    done = forkserver.completed("campaign_service", *command, "--database-url", url)

    assert done.returncode == 2
    assert done.stderr == f"the database: there is no file {tmp_path}/data/herald.db\n"
    assert list(tmp_path.iterdir()) == []


async def test_a_reader_creates_no_file_beside_the_database(
    sqlite_url: str, tmp_path: Path
) -> None:
    database = open_database(sqlite_url, create=False)
    await schema.require_current_schema(database)
    await database.close()

    assert modes(tmp_path).keys() == {tmp_path.name, "herald.db"}


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("sqlite+aiosqlite:////proc/none/herald.db", "No such file or directory: '/proc/none'"),
        ("sqlite+aiosqlite:////dev/null/herald.db", "File exists: '/dev/null'"),
        ("sqlite+aiosqlite:///:memory:", "SQLite needs a file"),
        ("oracle://x", "must be sqlite:///path or postgresql://"),
        ("nonsense", "Could not parse"),
    ],
)
def test_a_database_that_can_not_be_created_is_told(url: str, text: str) -> None:
    with pytest.raises(UnusableDatabaseError, match=text):
        open_database(url)


@pytest.mark.parametrize("content", [b"not a database at all, but a long text\n" * 100, b"SQLite"])
async def test_a_file_that_is_no_database_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "herald.db").write_bytes(content)
    database = open_database(f"sqlite+aiosqlite:///{tmp_path}/herald.db")

    for check in (schema.prepare, schema.migrate, schema.require_current_schema):
        with pytest.raises(UnusableDatabaseError, match="is no usable SQLite database"):
            await check(database)

    await database.close()
    assert (tmp_path / "herald.db").read_bytes() == content
