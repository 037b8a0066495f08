"""The commands of the chat store: the import, and the migration of the schema."""

import asyncio
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import BinaryIO, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from chat_store.audit.callers import Caller, calling
from chat_store.database import schema
from chat_store.database.engine import Database, open_database
from chat_store.errors import ChatStoreError, for_operators
from chat_store.imports.lines import ImportResult, import_lines
from chat_store.imports.records import MAX_LINE_BYTES
from chat_store.models import WriteMode
from chat_store.sql.stores import sql_chat_store

SHOWN_ERRORS = 20
# exit codes
_OK, _SOME_FAILED, _IMPOSSIBLE = 0, 1, 2
_CURRENT, _OLDER, _NEWER = 0, 1, 3
# a byte order mark and white space
_NO_RECORD = b"\xef\xbb\xbf \t\r\n"

T = TypeVar("T")

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


def import_file(file: Path, mode: WriteMode, database_url: str) -> int:
    """Imports the file, prints the bad records and the counts, and returns the exit code."""
    started = monotonic()
    with _opened(file) as content:
        lines = _bounded_lines(content)
        beginning = list(_through_first_record(lines))
        if beginning and beginning[-1].lstrip(_NO_RECORD).startswith(b"["):
            _give_up(
                "the file is one JSON array instead of one record per line; "
                "jq -c '.[] | {type, data: (.data // .item)}' FILE converts it"
            )
        work = partial(_import, chain(beginning, lines), _size(content), mode)
        with calling(Caller(method="import")):
            result = _run(database_url, work)
    _print_result(result, monotonic() - started)
    return _SOME_FAILED if result.failed else _OK


def migrate(database_url: str) -> int:
    """Migrates the schema, prints its revision, and returns the exit code."""
    _run(database_url, schema.migrate)
    _print_revision()
    return _CURRENT


def check_schema(database_url: str) -> int:
    """Prints in a line which revision the schema has, and returns the exit code."""
    mismatch = _run(database_url, schema.find_mismatch, create=False)
    if mismatch is None:
        _print_revision()
        return _CURRENT
    typer.echo(mismatch)
    return _NEWER if mismatch.is_newer else _OLDER


def _print_revision() -> None:
    typer.echo(f"the database is at schema revision {schema.expected_revision()}")


async def _import(
    lines: Iterable[bytes], size: int | None, mode: WriteMode, database: Database
) -> ImportResult:
    await schema.prepare(database)
    with Progress(
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[lines]:,} records, {task.fields[rate]:,.0f}/s,"),
        *([] if size is None else [TimeRemainingColumn(), TextColumn("left")]),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task("import", total=size, lines=0, rate=0)
        started = monotonic()

        def report(result: ImportResult) -> None:
            rate = result.lines / (monotonic() - started)
            progress.update(task, completed=result.bytes, lines=result.lines, rate=rate)

        return await import_lines(lines, sql_chat_store(database), mode, _now, report)


def _opened(file: Path) -> AbstractContextManager[BinaryIO]:
    if str(file) == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return file.open("rb")
    except OSError as error:
        _give_up(str(error))


def _size(content: BinaryIO) -> int | None:
    """Returns the size of a file; None for a pipe, whose end nobody knows."""
    status = os.fstat(content.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _through_first_record(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yields the empty lines at the beginning, and the first one that is not empty."""
    for line in lines:
        yield line
        if line.strip(_NO_RECORD):
            return


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


def _run(database_url: str, work: Callable[[Database], Awaitable[T]], *, create: bool = True) -> T:
    async def with_database() -> T:
        database = open_database(_with_driver(database_url), create=create)
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
    raise typer.Exit(_IMPOSSIBLE)


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
