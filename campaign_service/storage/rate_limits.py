"""The rate limiters in SQL (GCRA): when the next message may be sent.

A limiter's row holds the time up to which its messages are reserved. All replicas and shards
update the same row, so that together they stay below the limit.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import func, literal
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.storage.ports import Reservation
from campaign_service.storage.tables import rate_limits
from chat_store.database.columns import Count, from_microseconds, to_microseconds
from chat_store.database.engine import DialectName

# Catch-up: for up to 1 s of missed time, reservations are spaced at 3/4 of the normal interval
# (at most 4/3 of the limit), so that a busy machine still reaches the limit.
_MAX_CATCH_UP = timedelta(seconds=1)
_CATCH_UP_SPACING = 3 / 4
_SECOND = 1_000_000


async def reserve(
    connection: AsyncConnection,
    dialect: DialectName,
    limits: Mapping[str, int],
    messages: int,
    since: datetime,
    now: datetime,
) -> Reservation:
    """See `campaign_service.storage.ports.RunStore.reserve`."""
    moment = to_microseconds(now)
    missed_from = min(moment, to_microseconds(max(since, now - _MAX_CATCH_UP)))
    # rounded up: never faster than the limit
    intervals = {key: -(-messages * _SECOND // limit) for key, limit in limits.items()}
    shortest_intervals = {key: int(length * _CATCH_UP_SPACING) for key, length in intervals.items()}
    rows = [
        {
            "campaign_id": key,
            "scheduled_at": missed_from + intervals[key],
            "not_before": moment + shortest_intervals[key],
        }
        # in a fixed order, so that no two transactions wait for each other
        for key in sorted(limits)
    ]
    reservation = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(rate_limits)
    reservation = reservation.values(rows)
    latest = func.max if dialect == "sqlite" else func.greatest
    stored, new = rate_limits.c, reservation.excluded
    from_, at = literal(missed_from, Count), literal(moment, Count)
    statement = reservation.on_conflict_do_update(
        index_elements=["campaign_id"],
        set_={
            "scheduled_at": latest(stored.scheduled_at, from_) + new.scheduled_at - from_,
            "not_before": latest(stored.scheduled_at, stored.not_before, at) + new.not_before - at,
        },
    ).returning(stored.campaign_id, stored.scheduled_at, stored.not_before)
    reserved = (await connection.execute(statement)).all()
    return Reservation(
        scheduled_at=from_microseconds(
            max(row.scheduled_at - intervals[row.campaign_id] for row in reserved)
        ),
        not_before=from_microseconds(
            max(row.not_before - shortest_intervals[row.campaign_id] for row in reserved)
        ),
    )
