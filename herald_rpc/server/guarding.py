"""The checks of a server before it takes a call."""

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from herald_rpc.server.failures import Failure
from herald_rpc.server.principals import Principal


class RefusedError(Exception):
    """The call may not be made, or no longer. `principal` is known of a valid secret alone."""

    def __init__(self, failure: Failure, principal: Principal | None = None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.principal = principal


@dataclass(frozen=True, slots=True)
class Counted:
    """A call that was counted: the metadata of its answer, and its refusal if it is one too many."""

    trailers: tuple[tuple[str, str], ...] = ()
    refusal: RefusedError | None = None


NOT_LIMITED = Counted()


class OpenStreams(Protocol):
    """The streams in progress of a server, by the principals that have opened them."""

    def principals(self) -> Collection[str]: ...

    def cut(self, principal_id: str, error: RefusedError) -> None:
        """Ends the principal's streams with the error's status."""


class Guard(Protocol):
    """Raises `RefusedError`, and the store's errors if it can't be asked."""

    def follow(self, streams: OpenStreams) -> None:
        """From now on cuts the streams of principals that may not go on."""

    async def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> Principal:
        """Returns the principal that makes the call."""

    def count(self, principal: Principal) -> Counted:
        """Counts a call of the principal, before its request is read."""

    def authorize(self, principal: Principal, method: str) -> None:
        """Lets the principal call the method, as `/package.Service/Method`."""


class CallAudit(Protocol):
    """Knows which call is in progress when a change is made, and notes the refused calls."""

    def calling(
        self, principal: Principal, method: str, request_id: str, peer: str
    ) -> AbstractContextManager[None]:
        """Lets the changes inside be recorded as those of this call."""

    def refused(
        self, principal: Principal, method: str, request_id: str, peer: str, reason: str
    ) -> None:
        """Notes that the call was refused, as UNAUTHENTICATED or PERMISSION_DENIED."""
