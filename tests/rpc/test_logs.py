"""Whoever logs, and however: one form, on standard error."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from sqlalchemy import text

from chat_store.database.engine import open_database
from herald_rpc.process import logs

LOCAL = "hunter2"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    libraries = {name: logging.getLogger(name).level for name in logs.LIBRARIES}
    yield
    for name, library_level in libraries.items():
        logging.getLogger(name).setLevel(library_level)
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def records(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_both_kinds_of_loggers_write_the_same_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")

    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger("ours").warning("page sent", targets=3)
        logging.getLogger("theirs").warning("%d rows", 3, extra={"table": "users"})

    ours, theirs = records(capsys)
    assert ours.pop("timestamp") <= theirs.pop("timestamp")
    assert ours == {
        "event": "page sent",
        "level": "warning",
        "logger": "ours",
        "request_id": "r1",
        "targets": 3,
    }
    assert theirs == {
        "event": "3 rows",
        "level": "warning",
        "logger": "theirs",
        "request_id": "r1",
        "table": "users",
    }


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("WARNING", "json")

    structlog.get_logger("ours").info("unheard")
    logging.getLogger("theirs").info("unheard")

    assert records(capsys) == []


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_has_no_values_of_variables(
    log_format: logs.LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("INFO", log_format)

    def connect(password: str) -> None:
        raise ConnectionError(f"refused after {len(password)} letters")

    try:
        connect(LOCAL)
    except ConnectionError:
        structlog.get_logger("ours").exception("no database")
        logging.getLogger("theirs").exception("no database")

    written = capsys.readouterr().err
    assert written.count("ConnectionError: refused after 7 letters") == 2
    assert written.count("in connect") == 2
    assert LOCAL not in written


def test_without_a_terminal_the_form_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO")

    structlog.get_logger("ours").info("started")

    (record,) = records(capsys)
    assert record["event"] == "started"


def test_configuring_again_replaces_and_does_not_add(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "console")
    logs.configure("INFO", "json")

    logging.getLogger("theirs").info("once")

    (record,) = records(capsys)
    assert record["event"] == "once"


@pytest.mark.parametrize("library", ["aiosqlite", "asyncio", "asyncpg", "grpc"])
def test_debug_shows_our_records_and_not_those_of_libraries(
    library: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("DEBUG", "json")

    logging.getLogger(library).debug("a page of theirs")
    logging.getLogger(library).info("a line of theirs")
    structlog.get_logger("campaign_service").debug("ours")

    assert [record["event"] for record in records(capsys)] == ["a line of theirs", "ours"]


def test_libraries_are_no_louder_than_the_level_that_was_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("WARNING", "json")

    logging.getLogger("asyncpg").info("a line of theirs")

    assert records(capsys) == []


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
async def test_no_statement_of_the_database_is_logged_with_its_values(
    level: str, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(level, "json")
    database = open_database(sqlite_url)
    async with database.autocommit() as connection:
        await connection.execute(text("SELECT :value"), {"value": "somebody's name"})
    await database.close()

    assert "somebody's name" not in capsys.readouterr().err
