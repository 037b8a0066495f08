"""`herald`: the commands of both services and of the chat store in one."""

import os
import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from campaign_service.__main__ import commands as campaign_commands
from campaign_service.__main__ import serve_campaigns
from campaign_service.settings import CampaignSettings
from chat_store.__main__ import commands as store_commands
from chat_store.terminal import escape_unprintable
from herald_rpc.process.settings import load, require_known_variables
from herald_rpc.process.worker_process import python_command

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        typer.echo(f"herald {version('herald-campaigns')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[  # noqa: ARG001, FBT002 - its callback does the work
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Campaigns for chat: nothing lost, nothing twice.

    Start with `herald dev`, which serves on an SQLite database in ./data. `herald COMMAND --help`
    explains a command. HERALD_* variables are the settings of every command; an unknown one
    is named, and ends any of them with code 2.
    """
    escape_unprintable()
    require_known_variables(CampaignSettings)


@app.command()
def dev() -> None:
    """Start both servers on this machine, until ^C: to try Herald, and to develop against it.

    The database is an SQLite file in ./data, unless HERALD_DATABASE_URL names another one. It keeps
    what was written, also when Herald stops.

    Exit code 0: stopped. 1: a server could not start, or has ended by itself. 2: a variable is
    wrong.

    Example: HERALD_DATABASE_URL=sqlite:////tmp/try.db herald dev
    """
    from campaign_service.commands.dev import DevSettings
    from campaign_service.commands.dev import dev as run_both

    raise typer.Exit(run_both(load(DevSettings)))


@app.command()
def segment() -> NoReturn:
    """Serve segments and the chat store until a stop signal, as the HERALD_* variables say.

    Exit code 0: stopped. 1: it could not start. 2: a variable is wrong.

    Example: HERALD_SEGMENT_LISTEN=127.0.0.1:50061 herald segment
    """
    # the services meet only over gRPC, so this process becomes the other one
    os.execv(sys.executable, python_command("segment_service"))  # noqa: S606 - no shell is wanted


@app.command()
def campaign() -> NoReturn:
    """Serve campaigns and events until a stop signal, as the HERALD_* variables say.

    Exit code 0: stopped. 1: it could not start. 2: a variable is wrong.

    Example: HERALD_SEGMENT_TARGET=segment.internal:50051 herald campaign
    """
    serve_campaigns()


# their help is listed in this order
app.add_typer(campaign_commands)
app.add_typer(store_commands)


def run() -> None:
    """Runs the command of this process's arguments.

    A file or folder that can't be read or written, as a home without a profile for the completion,
    is named in one line. Code 1.
    """
    try:
        app()
    except OSError as error:
        typer.echo(f"herald: {error}", err=True)
        raise SystemExit(1) from error


if __name__ == "__main__":
    run()
