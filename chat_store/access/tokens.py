"""Tokens, and how their text is made and read."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime

from chat_store.access.scopes import Scope, with_implied
from chat_store.audit.callers import LOCAL

MAX_NAME = 128
MAX_SENDERS = 1_000

_SECRET_BYTES = 32
_TEXT = re.compile(r"herald_([0-9a-f]{16})_[0-9a-f]{64}")


class TokenNotFoundError(Exception):
    def __init__(self, token_id: str) -> None:
        super().__init__(f"no token {token_id!r}")
        self.token_id = token_id


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpec:
    """A token as its giver describes it. Empty `sender_ids` are all senders."""

    name: str
    scopes: tuple[Scope, ...]
    sender_ids: tuple[str, ...] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token without its secret. Empty `sender_ids` are all senders."""

    id: str
    name: str
    digest: bytes = field(repr=False)
    scopes: tuple[Scope, ...]
    sender_ids: tuple[str, ...] = ()
    expires_at: datetime | None = None
    created_at: datetime
    created_by: str = LOCAL
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def granted(self) -> frozenset[Scope]:
        """The scopes with those that they imply."""
        return with_implied(self.scopes)

    def is_expired_at(self, moment: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= moment

    def fits(self, text: str) -> bool:
        """Returns whether this is the token of the text. Takes as long for every wrong one."""
        return hmac.compare_digest(self.digest, digest_of(text))


def new_id() -> str:
    return secrets.token_hex(8)


def new_text(token_id: str) -> str:
    """Makes the text with a secret of 256 random bits, for which a plain digest is enough."""
    return f"herald_{token_id}_{secrets.token_hex(_SECRET_BYTES)}"


def id_in(text: str) -> str | None:
    """Returns the id in the text of a token; None if it is no such text."""
    found = _TEXT.fullmatch(text)
    return found[1] if found else None


def digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
