"""The queries of watchers, in SQL."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, select

from campaign_service.campaigns.model import Campaign
from campaign_service.campaigns.progress import ProgressSnapshot, is_final
from campaign_service.storage.history import counter_sums, revisions_after
from campaign_service.storage.tables import COUNTERS, campaigns
from chat_store.database.bulk.row_sources import in_keys, key_parameters
from chat_store.database.engine import Database, DialectName


class SqlProgressStore:
    """See `campaign_service.storage.ports.ProgressStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def snapshots(self, campaign_ids: Collection[str]) -> Sequence[ProgressSnapshot]:
        dialect = self._database.dialect
        async with self._database.autocommit() as connection:
            rows = await connection.execute(
                _snapshots(dialect), key_parameters(dialect, campaign_ids)
            )
            return [
                ProgressSnapshot(
                    campaign_id=row.id,
                    revision=row.revision,
                    is_final=is_final(row.status, row.deleted_at),
                    status_reason=row.status_reason,
                    counters={name: getattr(row, name) for name in COUNTERS},
                )
                for row in rows
            ]

    async def revision_after(self, campaign_id: str, revision: int) -> Campaign:
        async with self._database.autocommit() as connection:
            (campaign,) = await revisions_after(connection, campaign_id, revision, limit=1)
        return campaign


@cache
def _snapshots(dialect: DialectName) -> Select[Any]:
    """Selects the progress of each key. Built once, because it runs five times a second."""
    columns = campaigns.c
    return select(
        columns.id,
        columns.revision,
        columns.status,
        columns.deleted_at,
        columns.status_reason,
        *counter_sums(),
    ).where(in_keys(dialect, columns.id))
