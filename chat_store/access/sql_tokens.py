"""Tokens in SQL."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.access.scopes import Scope
from chat_store.access.tables import access_tokens
from chat_store.access.tokens import Token, TokenNotFoundError
from chat_store.audit.entries import AuditedChange
from chat_store.audit.recording import record
from chat_store.database.engine import Database
from chat_store.paging import Page, PageRequest
from chat_store.sql.filters import Binding
from chat_store.sql.paging import fetch_page

_BINDING = Binding(columns=dict(access_tokens.c))


class SqlTokenStore:
    """See `chat_store.access.store.TokenStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, token: Token) -> None:
        async with self._database.transaction("token.create") as connection:
            await connection.execute(insert(access_tokens).values(**_columns(token)))
            await record(connection, AuditedChange(f"tokens/{token.id}"))

    async def get(self, token_id: str) -> Token:
        async with self._database.autocommit() as connection:
            return await _load(connection, token_id)

    async def by_id(self, ids: Collection[str]) -> Mapping[str, Token]:
        statement = select(access_tokens).where(access_tokens.c.id.in_(list(ids)))
        async with self._database.autocommit() as connection:
            return {row.id: _token(row) for row in await connection.execute(statement)}

    async def query(self, page: PageRequest, *, show_revoked: bool) -> Page[Token]:
        statement = select(access_tokens)
        if not show_revoked:
            statement = statement.where(access_tokens.c.revoked_at.is_(None))
        async with self._database.autocommit() as connection:
            return await fetch_page(
                connection, statement, page, _BINDING, self._database.dialect, _token
            )

    async def revoke(self, token_id: str, now: datetime) -> Token:
        statement = (
            update(access_tokens)
            .where(access_tokens.c.id == token_id, access_tokens.c.revoked_at.is_(None))
            .values(revoked_at=now)
        )
        async with self._database.transaction("token.revoke") as connection:
            await connection.execute(statement)
            token = await _load(connection, token_id)
            await record(connection, AuditedChange(f"tokens/{token_id}"))
            return token

    async def note_used(self, ids: Collection[str], minute: datetime) -> None:
        table = access_tokens.c
        statement = (
            update(access_tokens)
            .where(
                table.id.in_(sorted(ids)),
                or_(table.last_used_at.is_(None), table.last_used_at < minute),
            )
            .values(last_used_at=minute)
        )
        async with self._database.transaction("token.note-used") as connection:
            await connection.execute(statement)


async def _load(connection: AsyncConnection, token_id: str) -> Token:
    statement = select(access_tokens).where(access_tokens.c.id == token_id)
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise TokenNotFoundError(token_id)
    return _token(row)


def _columns(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "digest": token.digest,
        "scopes": list(token.scopes),
        "sender_ids": list(token.sender_ids),
        "expires_at": token.expires_at,
        "created_at": token.created_at,
        "created_by": token.created_by,
        "last_used_at": token.last_used_at,
        "revoked_at": token.revoked_at,
    }


def _token(row: Row[Any]) -> Token:
    values = row._asdict()
    return Token(
        **{
            **values,
            "digest": bytes(row.digest),
            # of a later version, perhaps: what this one does not know, it does not grant
            "scopes": tuple(Scope(scope) for scope in row.scopes if scope in set(Scope)),
            "sender_ids": tuple(row.sender_ids),
        }
    )
