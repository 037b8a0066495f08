"""Campaigns with their counters, now and at each of their revisions."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, cast, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.model import Campaign
from campaign_service.storage.event_entries import record_event
from campaign_service.storage.rows import campaign_from_row
from campaign_service.storage.tables import COUNTERS, campaign_changes, campaign_shards, campaigns
from chat_store.database.bulk.inserts import insert_from
from chat_store.database.columns import Count
from chat_store.database.engine import DialectName


def campaigns_with_counters() -> Select[Any]:
    """Selects all campaigns, each with the sums of its shards' counters."""
    return select(campaigns, *counter_sums())


def counter_sums() -> list[ColumnElement[int]]:
    """Returns the sums of the shards' counters, for the campaigns of the enclosing statement."""
    shards = campaign_shards.c
    return [
        # PostgreSQL sums bigints to a numeric
        cast(
            func.coalesce(
                select(func.sum(shards[name]))
                .where(shards.campaign_id == campaigns.c.id)
                .scalar_subquery(),
                0,
            ),
            Count,
        ).label(name)
        for name in COUNTERS
    ]


async def record_revision(
    connection: AsyncConnection, dialect: DialectName, campaign_id: str
) -> None:
    """Records the campaign's state and its event in this transaction. Each revision is recorded once."""
    columns = [column.name for column in campaign_changes.columns]
    rows = campaigns_with_counters().where(campaigns.c.id == campaign_id, text("true"))
    await connection.execute(insert_from(dialect, campaign_changes, columns, rows))
    await record_event(connection, dialect, campaign_id)


async def revisions_after(
    connection: AsyncConnection, campaign_id: str, revision: int, *, limit: int | None = None
) -> Sequence[Campaign]:
    """Returns the first `limit` changes after `revision`, in order, without `user_ids`."""
    changes = campaign_changes.c
    rows = await connection.execute(
        select(campaign_changes)
        .where(changes.id == campaign_id, changes.revision > revision)
        .order_by(changes.revision)
        .limit(limit)
    )
    return [campaign_from_row(row, ()) for row in rows]
