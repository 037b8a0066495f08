"""The monthly quota of messages in SQL, checked at each start and with each page.

A start counts what its campaign and those in progress have yet to send; audiences may grow
afterwards. A page adds its messages to the month's row in its own transaction, so that no two
pages, of any campaign on any replica, use the same rest. Without a quota, nothing is counted.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.errors import QuotaExceededError, QuotaReachedError
from campaign_service.campaigns.model import Status
from campaign_service.planning.page import PlannedPage
from campaign_service.storage.history import campaigns_with_counters
from campaign_service.storage.locks import lock_exclusively
from campaign_service.storage.tables import campaign_months, campaigns
from chat_store.database.bulk.batches import Write
from chat_store.database.bulk.inserts import insert_rows
from chat_store.database.columns import Count
from chat_store.database.engine import Database, DialectName
from chat_store.sql.messages import count_sent_since

# the name of the lock; no campaign has an empty id
_ALL_CAMPAIGNS = ""

_months = campaign_months.c
_more = bindparam("more", type_=Count)
_ADD = (
    update(campaign_months)
    .where(
        _months.month == bindparam("of_month"),
        _months.messages + _more <= bindparam("quota", type_=Count),
    )
    .values(messages=_months.messages + _more)
)


class MonthFullError(Exception):
    """The page has more messages than the rest of its month."""


class MonthlyQuota:
    """Keeps the pages of this process within the quota; 0 means no quota."""

    def __init__(self, database: Database, quota: int) -> None:
        self._database = database
        self._quota = quota
        # months whose messages this process has counted
        self._months: set[str] = set()

    async def prepare(self, page: PlannedPage) -> None:
        """Counts the month's messages one by one, before its first page.

        Messages written while there was no quota have not been counted.
        """
        month = _month_of(page.rows.moment)
        if not self._quota or not page.sent or month in self._months:
            return
        dialect = self._database.dialect
        new = insert_rows(dialect, campaign_months, {"month": [month]}, constants={"messages": 0})
        row = campaign_months.select().where(_months.month == month).with_for_update()
        async with self._database.transaction("run.count-month") as connection:
            await connection.execute(*new)
            # locks the row, so that pages of other senders wait until the count is written
            await connection.execute(row)
            sent = await _sent_since(connection, _beginning(page.rows.moment))
            await connection.execute(
                update(campaign_months).where(_months.month == month).values(messages=sent)
            )
        self._months.add(month)

    def writes(self, page: PlannedPage) -> Iterator[Write]:
        """Yields the page's last write; last, because all pages wait for the month's row.

        Its execution raises `MonthFullError` if the page would pass the quota.
        """
        if self._quota and page.sent:
            month = _month_of(page.rows.moment)
            given = {"of_month": month, "more": page.sent, "quota": self._quota}
            yield Write(_ADD, given, rows=1, on_mismatch=MonthFullError())

    async def reached(self, campaign_id: str, page: PlannedPage) -> QuotaReachedError:
        month = _month_of(page.rows.moment)
        async with self._database.autocommit() as connection:
            used = await connection.scalar(select(_months.messages).where(_months.month == month))
        return QuotaReachedError(
            campaign_id, month, limit=self._quota, used=used or 0, given=page.sent
        )


async def check_quota(
    connection: AsyncConnection,
    dialect: DialectName,
    campaign_id: str,
    targets_total: int,
    quota: int,
    now: datetime,
) -> None:
    """Raises `QuotaExceededError` if the campaign has more targets than the month has left.

    Messages of this calendar month (UTC) count as used, and so do those that campaigns in progress
    have yet to send. Checks wait for each other until their transactions end, so that two
    campaigns can't both start on the same rest.
    """
    await lock_exclusively(connection, dialect, _ALL_CAMPAIGNS)
    month = _beginning(now)
    used = await _sent_since(connection, month)
    handled_before = 0
    to_send = campaigns_with_counters().where(
        or_(campaigns.c.status == Status.IN_PROGRESS, campaigns.c.id == campaign_id)
    )
    for row in await connection.execute(to_send):
        handled = row.messages_sent + row.targets_skipped + row.targets_failed
        if row.id == campaign_id:
            handled_before = handled
        else:
            used += max(0, row.targets_total - handled)
    given = max(0, targets_total - handled_before)
    if used + given > quota:
        raise QuotaExceededError(campaign_id, limit=quota, used=used, given=given)


async def _sent_since(connection: AsyncConnection, month: datetime) -> int:
    active = campaigns_with_counters().where(
        or_(campaigns.c.updated_at >= month, campaigns.c.status == Status.IN_PROGRESS)
    )
    return sum([await _sent_by(connection, row, month) for row in await connection.execute(active)])


async def _sent_by(connection: AsyncConnection, row: Row[Any], month: datetime) -> int:
    if row.started_at is None:
        return 0
    if row.started_at >= month:
        return int(row.messages_sent)
    return await count_sent_since(connection, row.id, month)


def _beginning(moment: datetime) -> datetime:
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _month_of(moment: datetime) -> str:
    return f"{moment:%Y-%m}"
