"""What watchers ask of the database, in SQL."""

from collections.abc import Collection, Sequence

from sqlalchemy import cast, func, select

from campaign_service.campaigns import Campaign
from campaign_service.sql_changes import changes_after
from campaign_service.tables import COUNTERS, campaign_shards, campaigns
from campaign_service.watching import Standing, is_over
from chat_store.columns import Count, Key
from chat_store.database import Database
from chat_store.recordsets import record_set


class SqlWatchStore:
    """See `campaign_service.store.WatchStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standings(self, campaign_ids: Collection[str]) -> Sequence[Standing]:
        given = record_set(self._database.dialect, {"id": Key}, {"id": list(campaign_ids)})
        columns = campaigns.c
        described = (
            columns.id,
            columns.revision,
            columns.status,
            columns.deleted_at,
            columns.status_reason,
        )
        sums = [
            # a sum of PostgreSQL's bigints is a numeric
            cast(func.coalesce(func.sum(campaign_shards.c[name]), 0), Count).label(name)
            for name in COUNTERS
        ]
        statement = (
            select(*described, *sums)
            .select_from(given.source)
            .join(campaigns, columns.id == given.c["id"])
            .outerjoin(campaign_shards, campaign_shards.c.campaign_id == columns.id)
            .group_by(*described)
        )
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
