"""The deliveries of a campaign, page by page: its messages and its outcomes merged."""

from typing import Any, TypeVar

from sqlalchemy import CompoundSelect, Row, Select, literal, null, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.errors import CampaignNotFoundError
from campaign_service.campaigns.outcomes import Delivery, Outcome, Reason
from campaign_service.storage.tables import campaign_outcomes, campaigns
from chat_store.database.engine import Database
from chat_store.paging import Cursor, Page, PageRequest, page_of
from chat_store.sql.messages import sent_messages

S = TypeVar("S", Select[Any], CompoundSelect[Any])

_outcomes = campaign_outcomes.c


class SqlDeliveryStore:
    """See `campaign_service.storage.ports.DeliveryStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_campaign(
        self, campaign_id: str, outcome: Outcome | None, page: PageRequest
    ) -> Page[Delivery]:
        async with self._database.snapshot() as connection:
            await _require(connection, campaign_id)
            rows = await connection.execute(_page(campaign_id, outcome, page))
        return page_of([((row.target_id,), _delivery(row)) for row in rows], page)


async def _require(connection: AsyncConnection, campaign_id: str) -> None:
    known = select(campaigns.c.id).where(campaigns.c.id == campaign_id)
    if await connection.scalar(known) is None:
        raise CampaignNotFoundError(campaign_id)


def _page(
    campaign_id: str, outcome: Outcome | None, page: PageRequest
) -> Select[Any] | CompoundSelect[Any]:
    if outcome is Outcome.SENT:
        return _from_cursor(_sent(campaign_id), page)
    not_sent = _not_sent(campaign_id)
    if outcome is not None:
        return _from_cursor(not_sent.where(_outcomes.outcome == outcome), page)
    # each part is read no further than the page can reach
    both = union_all(
        *(
            select(_from_cursor(branch, page).subquery())
            for branch in (_sent(campaign_id), not_sent)
        )
    )
    return _nearest(both, page)


def _sent(campaign_id: str) -> Select[Any]:
    return sent_messages(campaign_id).add_columns(
        literal(Outcome.SENT.value).label("outcome"), null().label("reason")
    )


def _not_sent(campaign_id: str) -> Select[Any]:
    return select(
        _outcomes.target_id,
        null().label("message_id"),
        _outcomes.cid,
        _outcomes.created_at,
        _outcomes.outcome,
        _outcomes.reason,
    ).where(_outcomes.campaign_id == campaign_id)


def _from_cursor(statement: Select[Any], page: PageRequest) -> Select[Any]:
    cursor = page.cursor or Cursor(())
    if cursor.key:
        target = statement.selected_columns.target_id
        (reached,) = cursor.key
        statement = statement.where(target < reached if cursor.backward else target > reached)
    return _nearest(statement, page)


def _nearest(statement: S, page: PageRequest) -> S:
    """Selects one row more than the page, in reading direction."""
    target = statement.selected_columns.target_id
    backward = page.cursor is not None and page.cursor.backward
    return statement.order_by(target.desc() if backward else target).limit(page.size + 1)


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        target_id=row.target_id,
        outcome=Outcome(row.outcome),
        reason=row.reason and Reason(row.reason),
        message_id=row.message_id,
        cid=row.cid,
        created_at=row.created_at,
    )
