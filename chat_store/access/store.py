"""The port to the stored tokens."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from chat_store.access.tokens import Token
from chat_store.paging import Page, PageRequest


class TokenStore(Protocol):
    async def create(self, token: Token) -> None: ...

    async def get(self, token_id: str) -> Token:
        """Raises `TokenNotFoundError`."""

    async def by_id(self, ids: Collection[str]) -> Mapping[str, Token]:
        """Returns those that exist, revoked and expired ones too."""

    async def query(self, page: PageRequest, *, show_revoked: bool) -> Page[Token]: ...

    async def revoke(self, token_id: str, now: datetime) -> Token:
        """No effect on one that is revoked. Raises `TokenNotFoundError`."""

    async def note_used(self, ids: Collection[str], minute: datetime) -> None:
        """Writes that they were used in this minute, unless a later one is written."""
