"""A span for each page, in the trace of the call that has started its campaign."""

from datetime import datetime

from structlog.contextvars import bind_contextvars

from campaign_service.planning.page import PlannedPage
from campaign_service.storage.ports import Lease
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.traces import trace_of
from herald_rpc import tracing


class TracedRuns(SqlRunStore):
    """Does as the store. A task that claims a shard works on the trace of its campaign."""

    async def claim(self, owner: str, now: datetime, until: datetime) -> Lease | None:
        lease = await super().claim(owner, now, until)
        if lease and tracing.is_on():
            traceparent = await trace_of(self._database, lease.campaign_id)
            tracing.follow(traceparent)
            bind_contextvars(trace_id=tracing.trace_id(traceparent))
        return lease

    async def commit_page(self, lease: Lease, page: PlannedPage, cursor: str) -> None:
        with tracing.span(
            "commit page",
            campaign_id=lease.campaign_id,
            shard=lease.shard,
            messages=page.sent,
            not_sent=len(page.not_sent),
        ):
            await super().commit_page(lease, page, cursor)
