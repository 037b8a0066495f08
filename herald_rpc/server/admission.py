"""Limits the calls in progress on a server: more are refused, never queued."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import grpc
import structlog

from herald_rpc.server.failures import Failure

_RETRY_SECONDS = 1.0

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Limits of calls in progress. Streams have one of their own, because they last for minutes.

    A stream whose client takes nothing for `stalled_seconds` is cut, so that it frees its slot.
    """

    calls: int = 256
    streams: int = 1_024
    stalled_seconds: float = 300.0


DEFAULT_LIMITS = CallLimits()


class OverloadedError(Exception):
    """The server has reached its limit of calls of this kind."""


class Slots:
    """Slots for calls in progress. A call that waits for a slow database keeps its slot."""

    def __init__(self, kind: str, limit: int) -> None:
        self._kind = kind
        self._limit = limit
        self._taken = 0
        # whether the log has a warning already; reset once at most half of the slots are taken
        self._warned = False

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Occupies a slot. Raises `OverloadedError` if none is free."""
        if self._taken >= self._limit:
            if not self._warned:
                self._warned = True
                logger.warning("overloaded", kind=self._kind, limit=self._limit)
            raise OverloadedError
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            if 2 * self._taken <= self._limit:
                self._warned = False


def overloaded() -> Failure:
    """Returns the refusal, with a random retry delay: many callers are refused at the same time."""
    seconds = _RETRY_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
    return Failure(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED,
        reason="ERROR_REASON_OVERLOADED",
        message="the server has reached its limit of calls in progress",
        retry_after=timedelta(seconds=seconds),
    )
