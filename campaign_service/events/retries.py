"""Decides after an attempt: delivered, repeated later, dead, or the webhook is disabled."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum, auto

DEADLINE = timedelta(hours=24)
_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(hours=1)
_LONGEST_RETRY_AFTER = timedelta(hours=24)
_MOST_DOUBLINGS = 16
_GONE = 410
_REPEATABLE = frozenset({408, 429})
_FIRST_SERVER_ERROR = 500


class Verdict(Enum):
    DELIVERED = auto()
    RETRY = auto()
    DEAD = auto()
    GONE = auto()
    """The endpoint answered 410: the webhook is disabled."""


def verdict_on(status: int, *, refused: bool = False) -> Verdict:
    """Judges the status of an answer; 0 means that the network or the endpoint failed.

    `refused`: the address is denied, so no request was made.
    """
    if refused:
        return Verdict.DEAD
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's own numbers
        return Verdict.DELIVERED
    if status == _GONE:
        return Verdict.GONE
    if status == 0 or status in _REPEATABLE or status >= _FIRST_SERVER_ERROR:
        return Verdict.RETRY
    return Verdict.DEAD


def next_attempt_at(
    attempt: int, first_attempt_at: datetime, now: datetime, retry_after: timedelta | None
) -> datetime | None:
    """Returns the time of the next attempt after the `attempt`-th; None when 24 h are over."""
    deadline = first_attempt_at + DEADLINE
    if now >= deadline:
        return None
    doublings: int = 1 << min(attempt - 1, _MOST_DOUBLINGS)
    pause = min(_FIRST_PAUSE * doublings, _LONGEST_PAUSE)
    # webhooks that failed together must not retry together
    soonest = min(now + pause * random.uniform(0.8, 1.2), deadline)  # noqa: S311 - no secret
    if retry_after is None:
        return soonest
    return max(soonest, now + min(retry_after, _LONGEST_RETRY_AFTER))


def read_retry_after(text: str | None, now: datetime) -> timedelta | None:
    """Reads a Retry-After header: seconds or a date. Returns None for anything else."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:9]), _LONGEST_RETRY_AFTER.total_seconds()))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(moment - now, timedelta(0))
