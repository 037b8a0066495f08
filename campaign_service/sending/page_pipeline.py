"""One sender's work on one shard: the pages flow through a bounded pipeline.

While a page is written, or waits for its reservation, the next one is read and planned. No further
page is read before the run reaches it. A run that ends for any reason is continued from the last
committed cursor; pages in the pipeline are dropped.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, TypeVar

from campaign_service.planning.page import PlannedPage
from campaign_service.planning.planner import Planner
from campaign_service.segments import AudiencePage
from campaign_service.sending.audience import Audience
from campaign_service.sending.rate_limiter import RateLimiter
from campaign_service.storage.ports import Lease, RunStore
from chat_store.errors import StalePageError
from herald_rpc.process.waiting import Backoff, wait_at_most

_PAGES_IN_PROGRESS = 2
# A page older than these seconds is checked against the audience, because targets may have left. If
# it waited for its reservation, it is planned again, because channels may have been frozen.
_KEEPS = 0.5
# attempts to write a stale page before the run is left for a while; two are nearly always enough
_STALE_ATTEMPTS = 6
_FIRST_STALE_SECONDS, _LONGEST_STALE_SECONDS = 0.02, 0.4

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Plan:
    """A page of targets and the rows to write for it. Without either, the end of the audience."""

    page: AudiencePage | None = None
    planned: PlannedPage | None = None
    made_at: float = 0.0


class PagePipeline:
    def __init__(
        self,
        lease: Lease,
        audience: Audience,
        planner: Planner,
        runs: RunStore,
        rate_limiter: RateLimiter,
        *,
        page_size: int,
        lease_time: timedelta,
        now: Callable[[], datetime],
        waiting: bool,
    ) -> None:
        self._lease = lease
        self._audience = audience
        self._planner = planner
        self._runs = runs
        self._rate_limiter = rate_limiter
        self._page_size = rate_limiter.page_size(page_size)
        self._lease_time = lease_time
        self._now = now
        # whether the campaign's status_reason says that it waits
        self._waiting = waiting
        self._room = asyncio.Semaphore(_PAGES_IN_PROGRESS)
        self._pages: asyncio.Queue[AudiencePage | None] = asyncio.Queue()
        self._plans: asyncio.Queue[_Plan] = asyncio.Queue()
        self._stopping = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> bool:
        """Sends until the end of the audience or until `stop` is set; returns whether it is the end.

        Raises an exception group of the errors that ended it.
        """
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self._hold_lease()),
                group.create_task(self._close(stop)),
            ]
            if not self._lease.cursor:
                # before the first page is read, so that a target added behind it changes the version
                await self._runs.begin_pass(self._lease)
            helpers += [group.create_task(self._fetch()), group.create_task(self._plan())]
            finished = await self._commit()
            for task in helpers:
                task.cancel()
        return finished

    async def _hold_lease(self) -> None:
        while True:
            await asyncio.sleep(self._lease_time.total_seconds() / 3)
            await self._runs.renew(self._lease, self._now() + self._lease_time)

    async def _fetch(self) -> None:
        pages = self._audience.pages(self._lease, self._page_size, self._report_waiting)
        await self._room.acquire()
        async for page in pages:
            await self._pages.put(page)
            await self._room.acquire()
        await self._pages.put(None)

    async def _plan(self) -> None:
        while (page := await self._pages.get()) is not None:
            made_at = monotonic()
            await self._plans.put(_Plan(page, await self._planned(page.target_ids), made_at))
        await self._plans.put(_Plan())

    async def _planned(self, targets: Sequence[str]) -> PlannedPage:
        if self._lease.pass_number > 1:
            handled = await self._runs.targets_with_outcome(self._lease.campaign_id, targets)
            targets = [target for target in targets if target not in handled]
        return await self._planner.plan(targets)

    async def _planned_again(self, page: AudiencePage) -> PlannedPage:
        """Plans the page without targets that left or have an outcome, and with unused message ids."""
        targets = await self._audience.among(page.target_ids, self._report_waiting)
        handled = await self._runs.targets_with_outcome(self._lease.campaign_id, targets)
        if handled and self._lease.pass_number == 1:
            # no committed page made these outcomes, so no counter has them
            await self._runs.recount(self._lease)
        targets = [target for target in targets if target not in handled]
        return await self._planner.plan(targets, check_message_ids=True)

    async def _close(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._stopping.set()
        # wakes `_commit`, which may wait long for a page
        await self._plans.put(_Plan())

    async def _commit(self) -> bool:
        while not self._stopping.is_set():
            plan = await self._plans.get()
            if plan.page is None or plan.planned is None:
                return not self._stopping.is_set()
            waited = await self._rate_limiter.wait_for_reservation(
                plan.planned.sent, self._stopping
            )
            if self._stopping.is_set():
                break
            planned = await self._unless_stopped(
                self._refreshed(waited, plan.page, plan.planned, plan.made_at)
            )
            if planned is None or not await self._commit_page(plan.page, planned):
                break
            self._room.release()
        return False

    async def _refreshed(
        self, waited: timedelta, page: AudiencePage, planned: PlannedPage, made_at: float
    ) -> PlannedPage:
        """Returns the plan to write after the wait, without targets that have left meanwhile."""
        targets = page.target_ids
        if monotonic() - page.read_at > _KEEPS:
            targets = await self._audience.among(targets, self._report_waiting)
        if len(targets) < len(page.target_ids) or (waited and monotonic() - made_at > _KEEPS):
            return await self._planned(targets)
        # a throttled page carries the time of its commit, not of its planning
        return planned.with_time(self._now()) if waited else planned

    async def _unless_stopped(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """Returns None if the run must stop first, because the segment service may be unreachable."""
        working = asyncio.create_task(work)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            return await working if working.done() else None
        finally:
            working.cancel()
            stopping.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)

    async def _commit_page(self, page: AudiencePage, planned: PlannedPage) -> bool:
        """Writes the page and returns True; False if the run must stop first.

        Raises `StalePageError` if other writers keep making the page stale.
        """
        backoff = Backoff(_FIRST_STALE_SECONDS, _LONGEST_STALE_SECONDS)
        for _ in range(_STALE_ATTEMPTS - 1):
            try:
                await self._runs.commit_page(self._lease, planned, page.cursor)
                break
            except StalePageError:
                if await wait_at_most(self._stopping, backoff.next()):
                    return False
            replanned = await self._unless_stopped(self._planned_again(page))
            if replanned is None:
                return False
            planned = replanned
        else:
            await self._runs.commit_page(self._lease, planned, page.cursor)
        if self._waiting:
            self._waiting = False
            await self._runs.set_status_reason(self._lease, "")
        return True

    async def _report_waiting(self, reason: str) -> None:
        if not self._waiting:
            self._waiting = True
            await self._runs.set_status_reason(self._lease, reason)
