"""`python -m chat_store`: imports a user base, or migrates the database.

`herald` has the same commands, because both mount `commands`. Each imports its modules when it
runs, so that the others start fast.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from chat_store.models import WriteMode
from chat_store.terminal import escape_unprintable

commands = typer.Typer()
"""The commands, which are also those of `herald`."""

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(commands)

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


@app.callback()
def main() -> None:
    """Import a user base, or migrate the database."""
    escape_unprintable()


@commands.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="The file, or any stream: - is standard input.",
        ),
    ],
    mode: Annotated[
        Mode, typer.Option(help="insert: existing records stay as they are")
    ] = Mode.UPSERT,
    database_url: DatabaseUrl = _DEFAULT_URL,
) -> None:
    """Import users, devices, channels, members and messages in the Stream import format.

    The file is JSON Lines: one record per line.

    Exit code 0: all are stored. 1: some records were bad; all others are stored. 2: the file has
    another format, or the database failed; records imported until then are stored.

    Example: zcat users.jsonl.gz | herald import -
    """
    from chat_store.commands import import_file

    raise typer.Exit(import_file(file, _WRITE_MODES[mode], database_url))


@commands.command()
def migrate(
    check: Annotated[  # noqa: FBT002 - typer's way to have a flag
        bool, typer.Option("--check", help="Change nothing; the exit code is the answer.")
    ] = False,
    database_url: DatabaseUrl = _DEFAULT_URL,
) -> None:
    """Bring the database's schema to the revision of this version, all or nothing.

    Servers of the version before go on meanwhile. Those of this one start afterwards, except on
    SQLite, where they migrate by themselves.

    Exit code 0: the schema is current. 1: with --check, it must be migrated. 2: the database can't
    be reached or used. 3: with --check, it is newer than this version.

    Example: herald migrate --check || herald migrate
    """
    from chat_store import commands as work

    raise typer.Exit((work.check_schema if check else work.migrate)(database_url))


if __name__ == "__main__":
    app()
