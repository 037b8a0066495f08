"""The deadline of the current call, which limits the calls that its handler makes."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

# on the monotonic clock
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)

# kept for sending the response: this share of the time, but at most this many seconds
_KEPT_SHARE = 0.2
_MOST_KEPT_SECONDS = 0.5


class DeadlineNearError(Exception):
    """The current call nears its deadline, and more time would hardly help."""


@contextmanager
def call_deadline(seconds: float | None) -> Iterator[None]:
    """Gives the block and all tasks begun in it this many seconds; None means no deadline."""
    token = _deadline.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def seconds_left(at_most: float) -> float:
    """Returns how long a call on behalf of the current one may take, in seconds.

    This is a little less than the caller waits, so that the caller still gets UNAVAILABLE instead
    of no response at all. Outside any call it is `at_most`.
    """
    deadline = _deadline.get()
    if deadline is None:
        return at_most
    left = max(0.0, deadline - time.monotonic())
    return min(at_most, left - min(_MOST_KEPT_SECONDS, _KEPT_SHARE * left))


@asynccontextmanager
async def fail_fast_if(hopeless: Callable[[], bool]) -> AsyncIterator[None]:
    """Cancels the block shortly before the deadline if `hopeless` returns true by then.

    Raises `DeadlineNearError` instead.
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
