"""What watchers ask of the database, in SQL."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, select

from campaign_service.campaigns.model import Campaign
from campaign_service.campaigns.progress import Standing, is_over
from campaign_service.storage.history import changes_after, counters
from campaign_service.storage.tables import COUNTERS, campaigns
from chat_store.database.bulk.row_sources import among_keys, keys
from chat_store.database.engine import Database, DialectName


class SqlWatchStore:
    """See `campaign_service.storage.ports.WatchStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standings(self, campaign_ids: Collection[str]) -> Sequence[Standing]:
        dialect = self._database.dialect
        async with self._database.look() as connection:
            rows = await connection.execute(_standings(dialect), keys(dialect, campaign_ids))
            return [
                Standing(
                    campaign_id=row.id,
                    revision=row.revision,
                    over=is_over(row.status, row.deleted_at),
                    status_reason=row.status_reason,
                    counters={name: getattr(row, name) for name in COUNTERS},
                )
                for row in rows
            ]

    async def change_after(self, campaign_id: str, revision: int) -> Campaign:
        async with self._database.look() as connection:
            (change,) = await changes_after(connection, campaign_id, revision, limit=1)
        return change


@cache
def _standings(dialect: DialectName) -> Select[Any]:
    """Of each of the keys; built once, for it is asked five times a second."""
    columns = campaigns.c
    return select(
        columns.id,
        columns.revision,
        columns.status,
        columns.deleted_at,
        columns.status_reason,
        *counters(),
    ).where(among_keys(dialect, columns.id))
