"""The traces of campaigns: that of the call that has started a campaign is in its log of events."""

from sqlalchemy import select

from campaign_service.storage.event_entries import REVISION_SHARD
from campaign_service.storage.event_tables import event_log
from campaign_service.storage.tables import campaigns
from chat_store.database.engine import Database
from chat_store.errors import StoreUnavailableError
from herald_rpc import tracing

_log = event_log.c
# of a campaign that was scheduled by a call, started by the clock, and completed
_REVISIONS = 3


async def trace_of(database: Database, campaign_id: str) -> str:
    """Returns the `traceparent` of the campaign's start.

    Empty if traces are off, if there is none, or if the database does not answer: work goes on without.
    """
    if not tracing.is_on():
        return ""
    try:
        async with database.autocommit() as connection:
            newest = await connection.scalar(
                select(campaigns.c.revision).where(campaigns.c.id == campaign_id)
            )
            last = newest or 0
            # by the whole key, because a revision may have very many pages
            found = await connection.scalar(
                select(_log.content)
                .where(
                    _log.campaign_id == campaign_id,
                    _log.revision.in_(range(last - _REVISIONS + 1, last + 1)),
                    _log.shard == REVISION_SHARD,
                    _log.page == 0,
                    _log.content.is_not(None),
                )
                .order_by(_log.revision.desc())
                .limit(1)
            )
    except StoreUnavailableError:
        return ""
    return bytes(found).decode() if found else ""
