"""Campaigns with their counters, now and as they were at each of their changes."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, cast, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.model import Campaign
from campaign_service.storage.rows import campaign_from_row
from campaign_service.storage.tables import COUNTERS, campaign_changes, campaign_shards, campaigns
from chat_store.database.bulk.inserts import insert_from
from chat_store.database.columns import Count
from chat_store.database.engine import DialectName


def campaigns_with_counters() -> Select[Any]:
    """Campaigns, each with the sums of its shards' counters; to be narrowed down."""
    return select(campaigns, *counter_sums())


def counter_sums() -> list[ColumnElement[int]]:
    """The sums of the shards' counters, for each campaign of the statement that they stand in."""
    shards = campaign_shards.c
    return [
        # a sum of PostgreSQL's bigints is a numeric
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
    """Keeps the campaign as it is in this transaction. A revision is kept once."""
    columns = [column.name for column in campaign_changes.columns]
    rows = campaigns_with_counters().where(campaigns.c.id == campaign_id, text("true"))
    await connection.execute(insert_from(dialect, campaign_changes, columns, rows))


async def revisions_after(
    connection: AsyncConnection, campaign_id: str, revision: int, *, limit: int | None = None
) -> Sequence[Campaign]:
    """The changes since `revision`, in order, without `user_ids`; the first `limit` of them."""
    changes = campaign_changes.c
    rows = await connection.execute(
        select(campaign_changes)
        .where(changes.id == campaign_id, changes.revision > revision)
        .order_by(changes.revision)
        .limit(limit)
    )
    return [campaign_from_row(row, ()) for row in rows]
