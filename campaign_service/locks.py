"""Who may move a campaign, and who may write under its status."""

from sqlalchemy import Function, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.database import DialectName


async def hold_still(connection: AsyncConnection, dialect: DialectName, campaign_id: str) -> None:
    """Keeps the campaign's status as it is until this transaction ends. Pages share it.

    An advisory lock and not FOR SHARE on the row: PostgreSQL grants these in the order of
    arrival, so that a steady stream of pages can't keep `take_over` waiting. SQLite's write
    transactions exclude each other anyway.
    """
    if dialect == "postgresql":
        await connection.execute(select(func.pg_advisory_xact_lock_shared(_key(campaign_id))))


async def take_over(connection: AsyncConnection, dialect: DialectName, campaign_id: str) -> None:
    """Waits for the pages under way and lets no further one begin until this transaction ends."""
    if dialect == "postgresql":
        await connection.execute(select(func.pg_advisory_xact_lock(_key(campaign_id))))


def _key(campaign_id: str) -> Function[int]:
    return func.hashtextextended(f"herald-campaign:{campaign_id}", 0)
