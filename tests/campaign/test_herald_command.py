"""`herald`: every command teaches, and tells an operator's mistake in a line, without a traceback."""

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from campaign_service import command_line
from campaign_service.command_line import app
from chat_store.database import schema
from tests.harness.processes import free_address


def _leaves(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _leaves(inner, *path, name)
    else:
        yield " ".join(path), command


COMMANDS = dict(_leaves(typer.main.get_command(app)))
AT_A_DATABASE = [
    name
    for name, command in COMMANDS.items()
    if any("--database-url" in parameter.opts for parameter in command.params)
]
MORE_ARGUMENTS = {"restored": ["--stop"]}


def arguments(name: str, folder: Path) -> list[str]:
    """The command, with a value for whatever it demands."""
    file = folder / "users.jsonl"
    file.touch()
    values = {"file": str(file), "scopes": "chat:read"}
    given = []
    for parameter in COMMANDS[name].params:
        if parameter.required:
            value = values.get(parameter.name, "spring")
            option = parameter.opts[0]
            given += [option, value] if option.startswith("-") else [value]
    return [*name.split(), *given, *MORE_ARGUMENTS.get(name, [])]


def herald(*given: str, **environment: str) -> Result:
    return CliRunner().invoke(app, given, env=environment)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_has_its_exit_codes_and_an_example(name: str) -> None:
    help_ = COMMANDS[name].help

    assert "Exit code 0: " in help_
    assert f"herald {name}" in help_.partition("\nExample: ")[2]


def test_the_help_lists_each_command_and_no_argument_shows_it() -> None:
    shown = herald("--help").stdout

    assert all(name.split()[0] in shown for name in COMMANDS)
    assert herald().exit_code == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_a_misspelt_variable_ends_each_command_with_the_nearest_name(
    name: str, tmp_path: Path
) -> None:
    result = herald(*arguments(name, tmp_path), HERALD_DATABSE_URL="sqlite:///other.db")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "HERALD_DATABSE_URL: there is no such setting; is HERALD_DATABASE_URL meant?\n"
    )


def newer(folder: Path) -> str:
    file = folder / "newer.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.commit()
    return f"sqlite:///{file}"


def no_database(folder: Path) -> str:
    file = folder / "letter.txt"
    file.write_text("Dear operator, " * 500)
    return f"sqlite:///{file}"


MISTAKES: dict[str, tuple[Callable[[Path], str], str]] = {
    "nobody listens": (lambda _: f"postgresql://herald@{free_address()}/herald", "the database"),
    "another engine": (lambda _: "mysql://herald@db/herald", "must be sqlite:///path or"),
    "no url": (lambda _: "herald.db", ""),
    "a folder that nobody may write": (lambda _: "sqlite:////proc/herald/herald.db", "/proc"),
    "no database": (no_database, "the file is no usable SQLite database"),
    "a later schema": (newer, "the database is newer than this version"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("name", AT_A_DATABASE)
def test_a_database_that_is_no_use_is_told_by_each_command(
    name: str, mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, complaint = MISTAKES[mistake]
    given, at = arguments(name, tmp_path), url(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())

    result = herald(*given, HERALD_DATABASE_URL=at)

    assert result.exit_code == 2
    assert complaint in result.stderr
    assert 1 <= len(result.stderr.splitlines()) <= 8, "at most the box that typer draws"
    assert "Traceback" not in result.stderr
    made = {file.name for file in set(tmp_path.iterdir()) - before}
    assert made <= {"newer.db-turn", "newer.db-turn-waiting"}, (
        "at most the lock of SQLite's writers"
    )


@pytest.mark.parametrize("name", [name for name in AT_A_DATABASE if name != "import"])
def test_a_command_makes_no_database_by_mistake(name: str, tmp_path: Path) -> None:
    given = arguments(name, tmp_path)
    given += ["--check"] if name == "migrate" else []

    result = herald(*given, HERALD_DATABASE_URL=f"sqlite:///{tmp_path}/none.db")

    assert result.exit_code == 2
    assert "none.db" in result.stderr
    assert not list(tmp_path.glob("none.db*"))


@pytest.mark.parametrize(
    ("revision", "code", "message"),
    [
        (schema.expected_revision(), 0, "the database is at schema revision"),
        ("0001", 1, "run `herald migrate`"),
        (None, 1, "revision none"),
        ("9999", 3, "newer than this version"),
    ],
)
def test_migrate_checks_the_schema_by_its_exit_code_and_changes_nothing(
    revision: str | None, code: int, message: str, sqlite_url: str
) -> None:
    file = sqlite_url.removeprefix("sqlite+aiosqlite:///")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DELETE FROM alembic_version")
        if revision:
            connection.execute("INSERT INTO alembic_version VALUES (?)", [revision])
        connection.commit()

        checked = herald("migrate", "--check", "--database-url", sqlite_url)

        (kept,) = connection.execute("SELECT max(version_num) FROM alembic_version").fetchone()
    assert (checked.exit_code, checked.stderr) == (code, "")
    assert message in checked.stdout
    assert len(checked.stdout.splitlines()) == 1
    assert kept == revision


def test_the_health_of_a_server_that_is_down_is_a_line_and_a_code() -> None:
    address = free_address()

    asked = herald("health", address, address)

    assert asked.exit_code == 1
    assert [line.split()[:2] for line in asked.stdout.splitlines()] == [
        [address, "UNAVAILABLE:"]
    ] * 2


@pytest.mark.parametrize("given", ["nowhere", "127.0.0.1:1,127.0.0.1:2", "127.0.0.1:99999", ""])
def test_the_health_of_what_is_no_server_is_refused(given: str) -> None:
    asked = herald("health", given)

    assert (asked.exit_code, asked.stdout) == (2, "")
    assert "is not host:port" in asked.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {"_HERALD_COMPLETE": "complete_bash", "COMP_WORDS": "herald ver", "COMP_CWORD": "1"},
        {"_HERALD_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "herald ver"},
    ],
)
def test_shells_complete_the_commands(environment: dict[str, str]) -> None:
    completed = CliRunner().invoke(app, env=environment, prog_name="herald")

    assert "verify" in completed.stdout
    assert "watch" not in completed.stdout


def test_a_home_that_can_not_be_written_is_told_when_the_completion_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["herald", "--install-completion", "bash"])
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    monkeypatch.setenv("HOME", "/proc/nowhere")

    with pytest.raises(SystemExit) as ended:
        command_line.run()

    assert ended.value.code == 1
    assert "/proc/nowhere" in capsys.readouterr().err
