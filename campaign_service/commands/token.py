"""`herald token`: gives, lists and revokes tokens at the database."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import typer

from campaign_service.access.issuing import Issued, TokenIssuer
from campaign_service.commands.at_database import UnusableDatabaseError, at_database
from chat_store.access.scopes import Scope
from chat_store.access.sql_tokens import SqlTokenStore
from chat_store.access.tokens import Token, TokenNotFoundError, TokenSpec
from chat_store.audit.callers import Caller, calling
from chat_store.database.engine import Database
from chat_store.paging import NEWEST_FIRST, PageRequest
from herald_rpc.server.principals import LOCAL

_PAGE = 100
_OK, _NOT_FOUND, _UNKNOWN = 0, 1, 2


def create(
    database_url: str,
    name: str,
    scopes: Sequence[Scope],
    sender_ids: Sequence[str],
    expires_in_days: int | None,
) -> int:
    """Prints the whole token, which nothing shows again, on standard output."""
    now = datetime.now(UTC)
    spec = TokenSpec(
        name=name,
        scopes=tuple(sorted(set(scopes))),
        sender_ids=tuple(dict.fromkeys(sender_ids)),
        expires_at=None if expires_in_days is None else now + timedelta(days=expires_in_days),
    )

    async def work(database: Database) -> Issued:
        return await TokenIssuer(SqlTokenStore(database), now=lambda: now).issue(spec, LOCAL)

    try:
        with calling(Caller(method="token create")):
            issued = at_database(database_url, work)
    except UnusableDatabaseError as error:
        typer.echo(error, err=True)
        return _UNKNOWN
    typer.echo(issued.text)
    typer.echo(f"token {issued.token.id}: keep it, it is not shown again", err=True)
    return _OK


def list_all(database_url: str, *, revoked: bool) -> int:
    """Prints a line for each token, without its secret."""
    try:
        tokens = at_database(database_url, partial(_all, revoked=revoked))
    except UnusableDatabaseError as error:
        typer.echo(error, err=True)
        return _UNKNOWN
    now = datetime.now(UTC)
    for token in tokens:
        typer.echo(_line(token, now))
    return _OK


def revoke(database_url: str, token_id: str) -> int:
    """Revokes a token: within 5 seconds no server takes it any more."""

    async def work(database: Database) -> Token:
        return await SqlTokenStore(database).revoke(token_id, datetime.now(UTC))

    try:
        with calling(Caller(method="token revoke")):
            token = at_database(database_url, work)
    except TokenNotFoundError as error:
        typer.echo(error, err=True)
        return _NOT_FOUND
    except UnusableDatabaseError as error:
        typer.echo(error, err=True)
        return _UNKNOWN
    typer.echo(_line(token, datetime.now(UTC)))
    return _OK


async def _all(database: Database, *, revoked: bool) -> list[Token]:
    store = SqlTokenStore(database)
    tokens: list[Token] = []
    request = PageRequest(_PAGE, NEWEST_FIRST)
    while True:
        page = await store.query(request, show_revoked=revoked)
        tokens += page.items
        if page.next_cursor is None:
            return tokens
        request = PageRequest(_PAGE, NEWEST_FIRST, page.next_cursor)


def _line(token: Token, now: datetime) -> str:
    parts = [token.id, token.name, " ".join(token.scopes)]
    if token.sender_ids:
        parts.append(f"senders {' '.join(token.sender_ids)}")
    if token.revoked_at:
        parts.append(f"revoked {token.revoked_at:%Y-%m-%d}")
    elif token.expires_at:
        parts.append(
            f"{'expired' if token.is_expired_at(now) else 'until'} {token.expires_at:%Y-%m-%d}"
        )
    used = f"{token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else "never"
    return "  ".join([*parts, f"last used {used}"])
