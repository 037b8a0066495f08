import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chat_store.database.engine import open_database
from chat_store.database.schema import require_current_schema
from chat_store.sql.stores import sql_chat_store
from tests.harness import forkserver


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return forkserver.completed("chat_store", *map(str, arguments))


def write(file: Path, *ids: str) -> Path:
    lines = [json.dumps({"type": "user", "data": {"id": id_}}) for id_ in ids]
    file.write_text("\n".join(lines))
    return file


async def test_a_file_is_imported_into_either_database(database_url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "users.jsonl", "anna", "bob")

    done = run("import", file, "--database-url", database_url)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "2 users, 0 devices, 0 channels, 0 members and 0 messages imported in "
    )
    database = open_database(database_url)
    assert set(await sql_chat_store(database).users.by_id(["anna", "bob"])) == {"anna", "bob"}
    await database.close()


def test_an_insert_leaves_what_is_there_alone(sqlite_url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "users.jsonl", "anna")
    file.write_text(file.read_text().replace("}}", ', "name": "Anna"}}'))
    run("import", file, "--database-url", sqlite_url)

    again = write(tmp_path / "again.jsonl", "anna")
    assert run("import", again, "--mode", "insert", "--database-url", sqlite_url).returncode == 0

    database = Path(sqlite_url.removeprefix("sqlite+aiosqlite:///"))
    assert b"Anna" in database.read_bytes()


def test_bad_records_are_told_and_counted(sqlite_url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "users.jsonl", "anna", *["b,d"] * 25)

    done = run("import", file, "--database-url", sqlite_url)

    assert done.returncode == 1
    error_lines = done.stderr.splitlines()
    assert error_lines[0] == "line 2 (user b,d): user.id must not contain a comma"
    assert (len(error_lines), error_lines[-1]) == (21, "… and 5 more")
    assert done.stdout.startswith("1 users")
    assert done.stdout.endswith("25 records failed\n")


def test_a_file_that_is_one_array_is_refused_with_advice(sqlite_url: str, tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text('[{"type": "user", "item": {"id": "anna"}}]')

    done = run("import", file, "--database-url", sqlite_url)

    assert done.returncode == 2
    assert "one JSON array" in done.stderr


def test_a_line_too_long_for_memory_is_told_and_passed_over(
    sqlite_url: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "users.jsonl", "x" * 9_000_000, "anna")

    done = run("import", file, "--database-url", sqlite_url)

    assert done.stderr == "line 1: line max length exceeded (4194304)\n"
    assert done.stdout.startswith("1 users")


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "chat_store", *arguments]


STREAMS = {
    "a pipe as -": 'cat "$0" | "$@" import - --database-url "$URL"',
    "a pipe as /dev/stdin": 'cat "$0" | "$@" import /dev/stdin --database-url "$URL"',
    "a substituted process": '"$@" import <(cat "$0") --database-url "$URL"',
    "a file as -": '"$@" import - --database-url "$URL" < "$0"',
}


@pytest.mark.nightly_on("/dev/stdin", "substituted", "a file", "[-0", "one JSON array")
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    ("content", "code", "error_lines"),
    [
        ("""\ufeff\n\n{"type": "user", "data": {"id": "anna"}}""", 0, "1 users, "),
        ("", 0, "0 users, "),
        (""" \n [{"type": "user", "item": {"id": "anna"}}]""", 2, "one JSON array"),
    ],
)
def test_any_stream_is_imported_as_a_file_is(
    stream: str, content: str, code: int, error_lines: str, sqlite_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "users.jsonl"
    file.write_text(content)

    done = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", STREAMS[stream], str(file), *program()],
        env={**os.environ, "URL": sqlite_url.replace("sqlite+aiosqlite", "sqlite")},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert done.returncode == code
    assert error_lines in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://nobody@127.0.0.1:1/none",
        "sqlite:////proc/none/herald.db",
        "sqlite://",
        "oracle://x",
        "nonsense",
    ],
)
def test_a_database_that_is_not_there_ends_an_import(url: str, tmp_path: Path) -> None:
    done = run("import", write(tmp_path / "users.jsonl", "anna"), "--database-url", url)

    assert done.returncode == 2
    assert done.stderr.startswith("the database: ")
    assert "Traceback" not in done.stderr


async def test_migrating_brings_a_database_to_the_current_revision(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"

    done = run("migrate", "--database-url", url)

    assert (done.returncode, done.stderr) == (0, "")
    database = open_database(url.replace("sqlite:", "sqlite+aiosqlite:"))
    await require_current_schema(database)
    await database.close()
