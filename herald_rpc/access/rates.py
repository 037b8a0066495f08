"""Counts the calls of a token, of which a server takes so many a second."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowance:
    """The rest of a token's rate after a call. `retry_seconds` is 0 if the call may be made."""

    limit: int
    remaining: int
    full_seconds: float
    retry_seconds: float


class CallRate:
    """The rate of one token: the calls of a second may come at once, and become free steadily."""

    __slots__ = ("_at", "_left", "_limit", "has_warned")

    def __init__(self, calls_per_second: int, now: float) -> None:
        """`now` is on a monotonic clock."""
        self._limit = calls_per_second
        self._left = float(calls_per_second)
        self._at = now
        self.has_warned = False
        """Whether the log has a warning already; reset once half of the calls are free."""

    def take(self, now: float) -> Allowance:
        """Counts a call, unless it is one too many."""
        free = min(self._limit, self._left + (now - self._at) * self._limit)
        taken = free >= 1
        self._at, self._left = now, free - taken
        if 2 * self._left >= self._limit:
            self.has_warned = False
        return Allowance(
            limit=self._limit,
            remaining=int(self._left),
            full_seconds=(self._limit - self._left) / self._limit,
            retry_seconds=0.0 if taken else (1 - free) / self._limit,
        )
