"""The caller of the call or command in progress, as its audit rows name it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

LOCAL = "local"
"""The principal of the command line, and of calls to a server that demands no tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The principal of a call, and the call. The defaults are those of a command.

    `method` is a method as `package.Service/Method`, or a command.
    """

    principal_id: str = LOCAL
    principal_name: str = LOCAL
    method: str
    request_id: str = ""
    peer: str = ""


_current: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current_caller() -> Caller | None:
    """Returns the caller; None for the work of a server that no caller has asked for."""
    return _current.get()


def current_principal_id() -> str:
    """Returns the principal for `created_by` and `updated_by`; `local` without a caller."""
    caller = _current.get()
    return caller.principal_id if caller else LOCAL


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Lets the changes inside leave audit rows with this caller."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)
