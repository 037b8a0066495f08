"""Reads and writes PostgreSQL's times as exact microseconds, in place of asyncpg's codec.

asyncpg stores Python's first and last time as `-infinity` and `infinity`, returns them without a
zone, and can't read times outside the years 1 to 9999. Here both limits are read as they were
written, and times beyond a limit are read as that limit: a row written by another program must
not make its whole page unreadable.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)
_FIRST_MICROSECONDS = (_FIRST - _EPOCH) // _MICROSECOND
_LAST_MICROSECONDS = (_LAST - _EPOCH) // _MICROSECOND

# both limits are stored as infinities, as in rows of earlier versions
_MINUS_INFINITY = -(2**63)
_INFINITY = 2**63 - 1


def read_exactly(engine: AsyncEngine) -> None:
    """Makes each connection of the engine use this module's codec."""

    @event.listens_for(engine.sync_engine, "connect")
    def use_codec(connection: Any, _record: object) -> None:
        connection.run_async(_use_codec)


async def _use_codec(connection: Any) -> None:
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        encoder=_encoded,
        decoder=_decoded,
        format="tuple",
    )


def _encoded(moment: datetime) -> tuple[int]:
    microseconds = (moment - _EPOCH) // _MICROSECOND
    if microseconds == _FIRST_MICROSECONDS:
        return (_MINUS_INFINITY,)
    return (_INFINITY if microseconds == _LAST_MICROSECONDS else microseconds,)


def _decoded(stored: tuple[int]) -> datetime:
    microseconds = min(max(stored[0], _FIRST_MICROSECONDS), _LAST_MICROSECONDS)
    return _EPOCH + timedelta(microseconds=microseconds)
