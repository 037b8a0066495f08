"""What is left of the month's messages, in SQL."""

from datetime import datetime

from sqlalchemy import or_
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns import Status
from campaign_service.errors import QuotaExceededError
from campaign_service.sql.changes import counted
from campaign_service.sql.locks import take_over
from campaign_service.sql.tables import campaigns
from chat_store.database import DialectName
from chat_store.sql.messages import count_sent_since

# no campaign has an empty id
_ALL_CAMPAIGNS = ""


async def check_quota(
    connection: AsyncConnection,
    dialect: DialectName,
    campaign_id: str,
    targets_total: int,
    quota: int,
    now: datetime,
) -> None:
    """Raises `QuotaExceededError` if the campaign's targets are more than the month has left.

    What was sent in this calendar month (UTC) is used, and so is what campaigns in progress have
    yet to send. Checks wait for each other until their transactions end, so that two campaigns
    can't both start on the same rest.
    """
    await take_over(connection, dialect, _ALL_CAMPAIGNS)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    columns = campaigns.c
    active = counted().where(
        or_(
            columns.updated_at >= month,
            columns.status == Status.IN_PROGRESS,
            columns.id == campaign_id,
        )
    )
    used = handled_before = 0
    for row in await connection.execute(active):
        handled = row.messages_sent + row.targets_skipped + row.targets_failed
        if row.started_at is not None and row.started_at >= month:
            used += row.messages_sent
        elif row.started_at is not None:
            used += await count_sent_since(connection, row.id, month)
        if row.id == campaign_id:
            handled_before = handled
        elif row.status == Status.IN_PROGRESS:
            used += max(0, row.targets_total - handled)
    given = max(0, targets_total - handled_before)
    if used + given > quota:
        raise QuotaExceededError(campaign_id, limit=quota, used=used, given=given)
