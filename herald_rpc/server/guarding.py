"""What a server asks before it takes a call."""

from collections.abc import Collection, Iterable
from typing import Protocol

from herald_rpc.server.failures import Failure
from herald_rpc.server.principals import Principal


class RefusedError(Exception):
    """The call may not be made, or no longer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


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
        """Returns who makes the call."""

    def authorize(self, principal: Principal, method: str) -> None:
        """Lets the principal call the method, as `/package.Service/Method`."""
