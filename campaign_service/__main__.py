"""`python -m campaign_service` serves campaigns; with a command, it does that instead.

`herald` has the same commands, because both mount `commands`. Each imports its modules when it runs.
A process that sends starts in three fifths of the time that importing everything takes.
"""

import signal
from typing import Annotated, NoReturn

import structlog
import typer
from pydantic import ValidationError

from campaign_service.settings import CampaignSettings
from chat_store.access.scopes import Scope
from chat_store.access.tokens import MAX_NAME, MAX_SENDERS
from chat_store.audit.entries import Head
from chat_store.ids import user_target_problem
from chat_store.terminal import as_typed, escape_unprintable
from herald_rpc.client.channels import PlainTokenError
from herald_rpc.process import logs
from herald_rpc.process.settings import (
    ClientSettings,
    ServerSettings,
    load,
    require_known_variables,
)

logger = structlog.get_logger("campaign_service")

commands = typer.Typer()
"""The commands, which are also those of `herald`."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.add_typer(commands)

_DEFAULT_URL = "sqlite:///data/herald.db"


def _typed(argument: str) -> str:
    try:
        return as_typed(argument)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _token_name(name: str) -> str:
    if not 1 <= len(_typed(name)) <= MAX_NAME:
        raise typer.BadParameter(f"must have 1 to {MAX_NAME} characters")
    return name


def _sender_ids(ids: list[str] | None) -> list[str]:
    given = [_typed(id_) for id_ in ids or ()]
    if len(given) > MAX_SENDERS:
        raise typer.BadParameter(f"at most {MAX_SENDERS}")
    for id_ in given:
        if problem := "is empty" if not id_ else user_target_problem(id_):
            raise typer.BadParameter(f"{id_!r} {problem}")
    return given


CampaignId = Annotated[
    str,
    typer.Argument(metavar="CAMPAIGN", help="The campaign's id.", callback=_typed),
]
DatabaseUrl = Annotated[
    str,
    typer.Option(
        "--database-url",
        envvar="HERALD_DATABASE_URL",
        help="sqlite:///path or postgresql://user:password@host/database",
    ),
]


Ordered = Annotated[
    bool, typer.Option("--ordered", hidden=True, help="For the server that starts it.")
]


Number = Annotated[int, typer.Option(hidden=True, help="Which of the server's processes it is.")]


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Serve campaigns until a stop signal, as the HERALD_* variables say; or do a command."""
    escape_unprintable()
    if context.invoked_subcommand is None:
        serve_campaigns()
    require_known_variables(CampaignSettings)


def serve_campaigns() -> NoReturn:
    """Serves until a stop signal, and exits with 1 if it could not start."""
    from campaign_service.commands.serve import serve

    raise typer.Exit(serve(_announced(_settings())))


@commands.command("send")
def send_messages(
    ordered: Ordered = False,  # noqa: FBT002 - typer's way to have a flag
    number: Number = 0,
) -> None:
    """Send campaigns until a stop signal, as the HERALD_* variables say, and answer no calls.

    Shares the work with the senders of the campaign servers, on any machine that reaches the
    database and the segment servers.

    Exit code 0: stopped. 1: it could not start. 2: a variable is wrong.

    Example: HERALD_SENDER_NICENESS=10 herald send
    """
    _ignore_interrupts(ordered)
    from campaign_service.commands.send import send, send_for_server

    settings = _settings()
    if ordered:
        send_for_server(settings.of_process(number))
    else:
        raise typer.Exit(send(_announced(settings)))


@commands.command("dispatch")
def dispatch_events(
    ordered: Ordered = False,  # noqa: FBT002 - typer's way to have a flag
    number: Number = 0,
) -> None:
    """Deliver events to webhooks, to NATS and to a push gateway until a stop signal.

    Shares the work with the dispatchers of the campaign servers, on any machine that reaches the
    database and the receivers.

    Exit code 0: stopped. 1: it could not start. 2: a variable is wrong.

    Example: HERALD_NATS_URL=nats://nats.internal:4222 herald dispatch
    """
    _ignore_interrupts(ordered)
    from campaign_service.commands.dispatch import dispatch, dispatch_for_server

    settings = _settings()
    if ordered:
        dispatch_for_server(settings.of_process(number))
    else:
        raise typer.Exit(dispatch(_announced(settings)))


@commands.command("watch")
def watch_campaign(
    campaign: CampaignId,
    target: Annotated[
        str, typer.Option(help="The campaign servers: host:port, with commas between.")
    ] = "127.0.0.1:50052",
) -> None:
    """Show a campaign's progress until it ends, also across restarts of the server.

    HERALD_TLS_CA and the other variables of clients say how the server is called.

    Exit code 0: completed. 3: stopped. 1: anything else. 2: an argument or a variable is wrong.

    Example: herald watch spring --target campaign.internal:50052
    """
    from campaign_service.commands.watch import watch

    raise typer.Exit(watch(campaign, target, _client_settings(target).channel_security))


@commands.command("verify")
def verify_campaign(
    campaign: CampaignId,
    database_url: DatabaseUrl = _DEFAULT_URL,
) -> None:
    """Recount a campaign from its rows: nobody left out, nobody twice, every counter right.

    The campaign may be running; the output shows one moment. Changes nothing.

    Exit code 0: all is right. 1: an invariant is broken. 2: the check could not be made.

    Example: herald verify spring --database-url postgresql://herald@db/herald
    """
    from campaign_service.commands.verify import verify

    raise typer.Exit(verify(campaign, _with_driver(database_url)))


@commands.command("restored")
def decide_about_restored(
    resume: Annotated[  # noqa: FBT002 - typer's way to have a flag
        bool, typer.Option("--resume", help="All held campaigns continue as they were.")
    ] = False,
    stop: Annotated[  # noqa: FBT002 - as before
        bool, typer.Option("--stop", help="All held campaigns are stopped; callers may resume.")
    ] = False,
    database_url: DatabaseUrl = _DEFAULT_URL,
) -> None:
    """Decide about a database that is held, because it was restored or a server was started so.

    Works on the database, with or without servers, and takes effect in all of them.

    Exit code 0: decided. 1: nothing is held. 2: the database can't be reached, or no decision was
    given.

    Example: herald restored --stop
    """
    if resume == stop:
        raise typer.BadParameter("either --resume or --stop")
    from campaign_service.commands.restored import restored

    raise typer.Exit(restored(_with_driver(database_url), stop=stop))


@commands.command("health")
def check_health(
    servers: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HOST:PORT]...", help="The servers; unset: both on this machine."),
    ] = None,
    service: Annotated[
        str, typer.Option(help="One service of theirs, as herald.event.v1.EventService.")
    ] = "",
    timeout: Annotated[
        float, typer.Option(help="Seconds that a server has for its answer.", min=0.01, max=3600)
    ] = 5.0,
) -> None:
    """Ask servers whether they serve, as a probe or an operator does: a line for each.

    HERALD_TLS_CA and the other variables of clients say how they are called.

    Exit code 0: all serve. 1: one does not serve, or can't be reached. 2: an argument or a variable
    is wrong.

    Example: herald health 127.0.0.1:50052 --service herald.campaign.v1.CampaignService
    """
    from campaign_service.commands.health import health

    given = servers or [
        CampaignSettings.model_fields[name].default
        for name in ("segment_target", "campaign_listen")
    ]
    security = _client_settings(",".join(given)).channel_security
    raise typer.Exit(health(given, service, security, timeout))


tokens = typer.Typer(no_args_is_help=True, help="Give, list and revoke tokens, at the database.")
commands.add_typer(tokens, name="token")


@tokens.command("create")
def create_token(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A name that people recognise the token by.", callback=_token_name
        ),
    ],
    scopes: Annotated[
        list[Scope], typer.Option("--scope", help="What calls may do; may be repeated.")
    ],
    sender_ids: Annotated[
        list[str] | None,
        typer.Option(
            "--sender-id",
            help="A user whose campaigns alone the token may send; may be repeated.",
            callback=_sender_ids,
        ),
    ] = None,
    expires_in_days: Annotated[
        int | None, typer.Option(help="When it ends; unset: never.", min=1, max=36_500)
    ] = None,
    database_url: DatabaseUrl = _DEFAULT_URL,
) -> None:
    """Create a token and print it, once.

    Works at the database, with servers or without.

    Exit code 0: created. 2: the database can't be reached, or an argument is wrong.

    Example: herald token create Servers --scope segments:read
    """
    from campaign_service.commands import token

    url = _with_driver(database_url)
    raise typer.Exit(token.create(url, name, scopes, sender_ids or [], expires_in_days))


@tokens.command("list")
def list_tokens(
    revoked: Annotated[  # noqa: FBT002 - typer's way to have a flag
        bool, typer.Option("--revoked", help="Revoked ones, too.")
    ] = False,
    database_url: DatabaseUrl = _DEFAULT_URL,
) -> None:
    """Print a line for each token, without its secret.

    Exit code 0: printed. 2: the database can't be reached.

    Example: herald token list --revoked
    """
    from campaign_service.commands import token

    raise typer.Exit(token.list_all(_with_driver(database_url), revoked=revoked))


@tokens.command("revoke")
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The token's id, as in `list`.")],
    database_url: DatabaseUrl = _DEFAULT_URL,
) -> None:
    """Revoke a token: within 5 seconds no server takes it any more.

    Exit code 0: it is revoked. 1: there is none with this id. 2: the database can't be reached.

    Example: herald token revoke 0f3c9a1be27d4856
    """
    from campaign_service.commands import token

    raise typer.Exit(token.revoke(_with_driver(database_url), token_id))


audit = typer.Typer(no_args_is_help=True, help="Verify the audit log, at the database.")
commands.add_typer(audit, name="audit")


def _head(text: str | None) -> Head | None:
    try:
        return None if text is None else Head.read(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--head") from error


@audit.command("verify")
def verify_audit_log(
    head: Annotated[
        str | None,
        typer.Option(
            metavar="POSITION:HASH",
            help="A head that an earlier run has printed: the log must still have it.",
        ),
    ] = None,
    database_url: DatabaseUrl = _DEFAULT_URL,
) -> None:
    """Check that no row of the audit log was altered, removed or exchanged.

    Prints the first broken position, or else the head. Keep heads elsewhere: without one, no check
    finds that somebody rewrote the log together with its stored head. Rows of the last second are not
    in the chain yet, and are not checked.

    Exit code 0: the log is whole. 1: it is broken. 2: the check could not be made.

    Example: herald audit verify --head 4711:5d0c…
    """
    from campaign_service.commands.audit import verify_chain

    raise typer.Exit(verify_chain(_with_driver(database_url), _head(head)))


def _with_driver(database_url: str) -> str:
    try:
        return ServerSettings(database_url=database_url).database_url
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(problem, param_hint="--database-url") from error


def _client_settings(target: str) -> ClientSettings:
    try:
        settings = ClientSettings()
        settings.require_confidential(target)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
    except PlainTokenError as error:
        problem = str(error)
    else:
        return settings
    # one line, without the box that typer draws
    typer.echo(problem, err=True)
    raise typer.Exit(2)


def _ignore_interrupts(ordered: bool) -> None:  # noqa: FBT001 - the flag of a command
    """The server handles ^C, also while a process that it has started still imports its modules."""
    if ordered:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _settings() -> CampaignSettings:
    settings = load(CampaignSettings)
    logs.configure(settings.log_level, settings.log_format)
    return settings


def _announced(settings: CampaignSettings) -> CampaignSettings:
    logger.info("settings", **settings.described())
    return settings


if __name__ == "__main__":
    app()
