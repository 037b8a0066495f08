"""The chat store's command line: `python -m chat_store import FILE` and `… migrate`."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Annotated, BinaryIO, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from chat_store.database import schema
from chat_store.database.engine import Database, open_database
from chat_store.errors import ChatStoreError, for_operators
from chat_store.imports.lines import ImportResult, import_lines
from chat_store.imports.records import MAX_LINE_BYTES
from chat_store.models import WriteMode
from chat_store.sql.stores import sql_chat_store

SHOWN_ERRORS = 20

T = TypeVar("T")

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False, soft_wrap=True)

_DRIVERS = {"sqlite": "sqlite+aiosqlite"}
# among them: a wrong address, a missing driver, a schema of a later version
_DATABASE_ERRORS = (
    ChatStoreError,
    SQLAlchemyError,
    OSError,
    ImportError,
    ValueError,
)
_DEFAULT_URL = "sqlite:///data/herald.db"

DatabaseUrl = Annotated[
    str,
    typer.Option(
        "--database-url",
        envvar="HERALD_DATABASE_URL",
        help="sqlite:///path or postgresql://user:password@host/database",
    ),
]


class Mode(StrEnum):
    UPSERT = "upsert"
    INSERT = "insert"


_WRITE_MODES = {Mode.UPSERT: WriteMode.REPLACE, Mode.INSERT: WriteMode.INSERT}


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE")],
    mode: Annotated[
        Mode, typer.Option(help="insert: existing records stay as they are")
    ] = Mode.UPSERT,
    database_url: DatabaseUrl = _DEFAULT_URL,
) -> None:
    """Import users, devices, channels, members and messages in the Stream import format.

    The file is JSON Lines: one record per line.

    Exit code 1: some records were bad; all others are stored. 2: the file has another format, or
    the database failed; records imported until then are stored.
    """
    started = monotonic()
    with file.open("rb") as content:
        if content.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
            _give_up(
                "the file is one JSON array instead of one record per line; "
                "jq -c '.[] | {type, data: (.data // .item)}' FILE converts it"
            )
        content.seek(0)
        size = file.stat().st_size
        result = _run(database_url, partial(_import, content, size, _WRITE_MODES[mode]))
    _print_result(result, monotonic() - started)


@app.command()
def migrate(database_url: DatabaseUrl = _DEFAULT_URL) -> None:
    """Bring the database's schema to the revision of this version."""
    _run(database_url, schema.migrate)
    typer.echo(f"the database is at schema revision {schema.expected_revision()}")


async def _import(
    content: BinaryIO, size: int, mode: WriteMode, database: Database
) -> ImportResult:
    await schema.prepare(database)
    with Progress(
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[lines]:,} records, {task.fields[rate]:,.0f}/s,"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task("import", total=size, lines=0, rate=0)
        started = monotonic()

        def report(result: ImportResult) -> None:
            rate = result.lines / (monotonic() - started)
            progress.update(task, completed=result.bytes, lines=result.lines, rate=rate)

        return await import_lines(
            _bounded_lines(content), sql_chat_store(database), mode, _now, report
        )


def _bounded_lines(content: BinaryIO) -> Iterator[bytes]:
    """Yields the lines, the overlong ones cut to just above the limit, so that they are refused."""
    longest = MAX_LINE_BYTES + 1
    while line := content.readline(longest):
        rest = line
        while len(rest) == longest and not rest.endswith(b"\n"):
            rest = content.readline(longest)
        yield line


def _now() -> datetime:
    return datetime.now(UTC)


def _run(database_url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    async def with_database() -> T:
        database = open_database(_with_driver(database_url))
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        return asyncio.run(with_database())
    except _DATABASE_ERRORS as error:
        _give_up(f"the database: {for_operators(error)}")
    except Exception as error:
        # while a connection is being made, the driver's errors arrive unwrapped
        if getattr(error, "sqlstate", None) is None:
            raise
        _give_up(f"the database: {error}")


def _with_driver(database_url: str) -> str:
    if database_url.startswith("postgres"):
        return database_url
    url: URL = make_url(database_url)
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername)).render_as_string(
        hide_password=False
    )


def _give_up(problem: str) -> NoReturn:
    console.print(problem, style="red", markup=False)
    raise typer.Exit(2)


def _print_result(result: ImportResult, seconds: float) -> None:
    for error in result.errors[:SHOWN_ERRORS]:
        named = f"{error.item_type} {error.item_id}".strip()
        where = f"line {error.line} ({named})" if named else f"line {error.line}"
        console.print(f"{where}: {error.error}", markup=False)
    if result.failed > SHOWN_ERRORS:
        console.print(f"… and {result.failed - SHOWN_ERRORS:,} more")
    counts = {
        "users": result.users,
        "devices": result.devices,
        "channels": result.channels,
        "members": result.members,
        "messages": result.messages,
    }
    *first, last = (f"{count:,} {kind}" for kind, count in counts.items())
    rate = sum(counts.values()) / seconds
    typer.echo(
        f"{', '.join(first)} and {last} imported in {seconds:.1f} s ({rate:,.0f}/s); "
        f"{result.failed:,} records failed"
    )
    if result.failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
