"""Keeps workers running: a step that fails is repeated, after pauses that grow."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic

import structlog

from herald_rpc.process.waiting import LONGEST_PAUSE_SECONDS, Backoff, wait_at_most

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Outage:
    since: float
    backoff: Backoff
    failures: int = 0
    until: float = 0.0
    logged: set[type[BaseException]] = field(default_factory=set)


class Outages:
    """The current failures: when each is tried again, and whether it was logged.

    Errors of the types in `expected` are temporary and logged in one line. Other errors are logged
    with a traceback. Each is logged once in an outage, and its end too.
    """

    def __init__(
        self, *expected: type[Exception], longest_pause_seconds: float = LONGEST_PAUSE_SECONDS
    ) -> None:
        self._expected = expected
        self._longest_pause_seconds = longest_pause_seconds
        self._by_name: dict[str, _Outage] = {}

    def failed(self, name: str, error: Exception) -> float:
        """Returns how many seconds to wait before the next try."""
        outage = self._by_name.get(name)
        if outage is None:
            backoff = Backoff(longest_seconds=self._longest_pause_seconds)
            outage = self._by_name[name] = _Outage(monotonic(), backoff)
        outage.failures += 1
        self._log(name, error, outage.logged)
        pause = outage.backoff.next()
        outage.until = monotonic() + pause
        return pause

    def over(self, name: str) -> None:
        """Ends the outage, because a try succeeded or none is needed any more."""
        if outage := self._by_name.pop(name, None):
            logger.info(
                "works again",
                what=name,
                failures=outage.failures,
                seconds=round(monotonic() - outage.since, 1),
            )

    def is_paused(self, name: str) -> bool:
        """Returns whether the next try must still wait."""
        outage = self._by_name.get(name)
        return outage is not None and monotonic() < outage.until

    def __bool__(self) -> bool:
        """Whether anything fails."""
        return bool(self._by_name)

    def _log(self, name: str, error: Exception, logged: set[type[BaseException]]) -> None:
        types = set(map(type, _leaves(error)))
        if types <= logged:
            return
        logged |= types
        if all(isinstance(leaf, self._expected) for leaf in _leaves(error)):
            first = next(_leaves(error))
            logger.warning("fails for now", what=name, error=str(first), cause=_line(first))
        else:
            logger.error("fails", what=name, exc_info=error)


class RepeatingWorker(ABC):
    """Repeats its step until it is stopped, even if a step raises."""

    def __init__(
        self,
        name: str,
        *expected: type[Exception],
        longest_pause_seconds: float = LONGEST_PAUSE_SECONDS,
    ) -> None:
        self._name = name
        self._outages = Outages(*expected, longest_pause_seconds=longest_pause_seconds)

    @property
    def is_well(self) -> bool:
        """Whether the last step succeeded."""
        return not self._outages

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set."""
        await repeat(self._name, self.step, stop, self._outages)

    @abstractmethod
    async def step(self) -> float:
        """Returns how many seconds later the next step begins."""


async def repeat(
    name: str, step: Callable[[], Awaitable[float]], stop: asyncio.Event, outages: Outages
) -> None:
    """Repeats the step until `stop` is set, even if a step raises.

    A step returns how many seconds later the next one begins.
    """
    while not stop.is_set():
        try:
            pause = await step()
        except Exception as error:  # noqa: BLE001  no worker may end its server
            pause = outages.failed(name, error)
        else:
            outages.over(name)
        await wait_at_most(stop, pause)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _line(error: BaseException) -> str:
    """Returns the first line of the cause, which lacks the statement that SQLAlchemy adds."""
    return str(error.__cause__ or "").partition("\n")[0]
