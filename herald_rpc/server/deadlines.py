"""The deadline of the call in hand, for the calls that it makes in its turn."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

# by the monotonic clock
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)

# what is kept for telling the caller how it went: a share of the time, and no more than so much
_KEPT_SHARE = 0.2
_MOST_KEPT_SECONDS = 0.5


class DeadlineNearError(Exception):
    """The call in hand nears its deadline, and nothing says that more time would help."""


@contextmanager
def call_deadline(seconds: float | None) -> Iterator[None]:
    """What is done inside, tasks begun there included, has so many seconds; None: no deadline."""
    token = _deadline.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def seconds_left(at_most: float) -> float:
    """How long a call on behalf of the one in hand may take.

    That is a little less than the caller waits, who can then be told UNAVAILABLE in time instead
    of hearing nothing at all. Outside of any call it is `at_most`.
    """
    deadline = _deadline.get()
    if deadline is None:
        return at_most
    left = max(0.0, deadline - time.monotonic())
    return min(at_most, left - min(_MOST_KEPT_SECONDS, _KEPT_SHARE * left))


@asynccontextmanager
async def fail_fast_if(hopeless: Callable[[], bool]) -> AsyncIterator[None]:
    """Cuts what is done inside, a little before the deadline, if it is hopeless by then.

    Raises `DeadlineNearError` in its place.
    """
    deadline = _deadline.get()
    if deadline is None:
        yield
        return
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as timeout:

            def check() -> None:
                if hopeless():
                    timeout.reschedule(loop.time())

            timer = loop.call_later(seconds_left(at_most=math.inf), check)
            try:
                yield
            finally:
                timer.cancel()
    except TimeoutError as error:
        if timeout.expired():
            raise DeadlineNearError from error
        raise
