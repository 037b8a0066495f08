"""The principal of the current call, and its rights."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """The token of a call, or `LOCAL`. Without `scopes` or `sender_ids`, there is no limit."""

    id: str
    name: str
    scopes: frozenset[str] | None = None
    sender_ids: frozenset[str] | None = None

    def has(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes

    def may_send_as(self, sender_id: str) -> bool:
        return self.sender_ids is None or sender_id in self.sender_ids


LOCAL = Principal("local", "local")
"""All callers of a server that demands no tokens, and the command line at the database."""

NOBODY = Principal("", "")
"""The principal of calls that are refused because they lack a valid token."""

_current: ContextVar[Principal] = ContextVar("principal", default=LOCAL)


def current_principal() -> Principal:
    """Returns the principal of the call in progress; `LOCAL` without one."""
    return _current.get()


@contextmanager
def acting_as(principal: Principal) -> Iterator[None]:
    token = _current.set(principal)
    try:
        yield
    finally:
        _current.reset(token)
