"""What watchers ask of the database, in SQL."""

from collections.abc import Collection, Sequence

from sqlalchemy import select

from campaign_service.campaigns import Campaign
from campaign_service.sql_changes import changes_after, counters
from campaign_service.tables import COUNTERS, campaigns
from campaign_service.watching import Standing, is_over
from chat_store.columns import Key
from chat_store.database import Database
from chat_store.recordsets import record_set


class SqlWatchStore:
    """See `campaign_service.store.WatchStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standings(self, campaign_ids: Collection[str]) -> Sequence[Standing]:
        given = record_set(self._database.dialect, {"id": Key}, {"id": list(campaign_ids)})
        columns = campaigns.c
        statement = select(
            columns.id,
            columns.revision,
            columns.status,
            columns.deleted_at,
            columns.status_reason,
            *counters(),
        ).join_from(given.source, campaigns, columns.id == given.c["id"])
        async with self._database.look() as connection:
            return [
                Standing(
                    campaign_id=row.id,
                    revision=row.revision,
                    over=is_over(row.status, row.deleted_at),
                    status_reason=row.status_reason,
                    counters={name: getattr(row, name) for name in COUNTERS},
                )
                for row in await connection.execute(statement)
            ]

    async def change_after(self, campaign_id: str, revision: int) -> Campaign:
        async with self._database.look() as connection:
            (change,) = await changes_after(connection, campaign_id, revision, limit=1)
        return change
