"""Makes new tokens. Nobody gives more than they have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from chat_store.access.scopes import Scope, with_implied
from chat_store.access.store import TokenStore
from chat_store.access.tokens import Token, TokenSpec, digest_of, new_id, new_text
from herald_rpc.server.principals import Principal


class ScopeNotHeldError(Exception):
    """The giver of a token lacks a scope of it."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(f"the giver lacks {scope}")
        self.scope = scope


class SenderNotHeldError(Exception):
    """The giver of a token may not send as one of its senders; empty: as all of them."""

    def __init__(self, sender_id: str) -> None:
        super().__init__(f"the giver may not send as {sender_id or 'everyone'}")
        self.sender_id = sender_id


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token, with its text, which is not stored."""

    token: Token
    text: str = field(repr=False)


class TokenIssuer:
    def __init__(self, store: TokenStore, *, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    async def issue(self, spec: TokenSpec, giver: Principal) -> Issued:
        """Raises `ScopeNotHeldError` and `SenderNotHeldError`."""
        for scope in sorted(with_implied(spec.scopes)):
            if not giver.has(scope):
                raise ScopeNotHeldError(scope)
        # a token for nobody in particular would be one for all
        senders: Sequence[str] = spec.sender_ids or ("",)
        for sender_id in senders:
            if not giver.may_send_as(sender_id):
                raise SenderNotHeldError(sender_id)
        token_id = new_id()
        text = new_text(token_id)
        token = Token(
            id=token_id,
            name=spec.name,
            digest=digest_of(text),
            scopes=spec.scopes,
            sender_ids=spec.sender_ids,
            expires_at=spec.expires_at,
            created_at=self._now(),
            created_by=giver.id,
        )
        await self._store.create(token)
        return Issued(token, text)
