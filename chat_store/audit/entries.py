"""Audit rows: what they say, and the hash by which each is chained to the one before."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from chat_store.audit.callers import Caller, current_caller

FIELDS = (
    "created_at",
    "principal_id",
    "principal_name",
    "method",
    "resource",
    "revision_before",
    "revision_after",
    "refusal",
    "request_id",
    "peer",
)
"""The columns of a row in the order of its hash. Another order would break all stored chains."""

GENESIS = bytes(32)
"""The hash before the first row."""

_HEAD = re.compile(r"([0-9]{1,18}):([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class AuditedChange:
    """A change of one resource by the current caller, with its revisions if it has any."""

    resource: str
    revision_before: int | None = None
    revision_after: int | None = None
    caller: Caller | None = field(default_factory=current_caller)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that was refused, and the reason that it was answered with."""

    caller: Caller
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A row with its place in the chain. `refusal` is empty for a change."""

    position: int
    created_at: datetime
    principal_id: str
    principal_name: str
    method: str
    resource: str
    revision_before: int | None
    revision_after: int | None
    refusal: str
    request_id: str
    peer: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """A place in the chain. Its text is `POSITION:HASH`, with the hash in hexadecimal digits."""

    position: int = 0
    hash: bytes = GENESIS

    def __str__(self) -> str:
        return f"{self.position}:{self.hash.hex()}"

    @classmethod
    def read(cls, text: str) -> "Head":
        """Raises ValueError for a text that is no head."""
        parts = _HEAD.fullmatch(text)
        if parts is None:
            raise ValueError("must be POSITION:HASH, with a hash of 64 hexadecimal digits")
        return cls(int(parts[1]), bytes.fromhex(parts[2]))


def chained(previous: bytes, row: Sequence[object]) -> bytes:
    """Returns the hash of a row after the one with the hash `previous`.

    It is the SHA-256 of `previous` and of the row as a JSON array in UTF-8 without spaces: the
    position, and then the `FIELDS`, the time in microseconds since 1970.
    """
    return hashlib.sha256(previous + orjson.dumps(row)).digest()


def resource_of(kind: str, ids: Sequence[str]) -> str:
    """Returns the resource of a call about these records: `users/maria`, or `12 users`."""
    return f"{kind}/{ids[0]}" if len(ids) == 1 else f"{len(ids):,} {kind}"
