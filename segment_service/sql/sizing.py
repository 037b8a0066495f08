"""The segments that are due to be counted, in SQL."""

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.sql.dml import Update

from chat_store.database.engine import Database
from segment_service.sql.tables import segments
from segment_service.store import SizingClaim


class SqlSizingStore:
    """See `segment_service.store.SizingStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, now: datetime, until: datetime) -> SizingClaim | None:
        due = segments.c.count_due_at <= now
        longest_due = select(segments.c.id).where(due).order_by(segments.c.count_due_at).limit(1)
        async with self._database.autocommit() as connection:
            # polled every second: SQLite's only write lock is not taken while nothing is due
            if (await connection.scalars(longest_due)).one_or_none() is None:
                return None
        candidate = longest_due.with_for_update(skip_locked=True).scalar_subquery()
        statement = (
            update(segments)
            .where(segments.c.id == candidate, due)
            .values(count_due_at=until)
            .returning(segments.c.id)
        )
        async with self._database.transaction("sizing.claim") as connection:
            claimed = (await connection.scalars(statement)).one_or_none()
        return None if claimed is None else SizingClaim(claimed, until)

    async def finish(self, claim: SizingClaim, size: int, now: datetime, due_at: datetime) -> None:
        counted = {"size": size, "size_updated_at": now, "count_due_at": due_at}
        async with self._database.transaction("sizing.finish") as connection:
            await connection.execute(_claimed(claim).values(counted))

    async def give_back(self, claim: SizingClaim, due_at: datetime) -> None:
        async with self._database.transaction("sizing.give-back") as connection:
            await connection.execute(_claimed(claim).values(count_due_at=due_at))


def _claimed(claim: SizingClaim) -> Update:
    # a new filter, the deletion and another claim all move count_due_at; a new name does not
    return update(segments).where(
        segments.c.id == claim.segment_id, segments.c.count_due_at == claim.until
    )
