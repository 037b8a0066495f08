"""The worker that sends: claims shards of running campaigns and walks them to their end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from campaign_service.campaigns.errors import (
    InvalidTemplateError,
    NobodySentToError,
    QuotaReachedError,
    ReferenceGoneError,
    RunEndedError,
)
from campaign_service.campaigns.waiting import INTERNAL_ERROR, RETRYING
from campaign_service.planning.compiled import compile_campaign
from campaign_service.planning.planner import Planner, require_sender
from campaign_service.segments import Segments
from campaign_service.sending.audience import audience_of
from campaign_service.sending.claiming import ClaimCoordinator
from campaign_service.sending.page_pipeline import PagePipeline
from campaign_service.sending.rate_limiter import RateLimiter, applicable_limits
from campaign_service.storage.ports import CampaignStore, Lease, RunStore
from chat_store.errors import StalePageError, StoreUnavailableError
from chat_store.store import ChatStore
from herald_rpc.process.waiting import wait_at_most

logger = structlog.get_logger(__name__)

_POLL_SECONDS = 0.5
_YIELD_SECONDS = 0.2
# after which a shard whose page would all fail is tried again, while others have not been tried
_RETRIED_AFTER = timedelta(seconds=0.3)
_LEASES = "claiming and giving back shards"


@dataclass(frozen=True, slots=True)
class SenderOptions:
    """`owner` names this process in its leases, for people who read the table.

    `max_messages_per_second` is for all campaigns together; 0 for no limit.
    """

    owner: str
    page_size: int
    lease_time: timedelta
    max_messages_per_second: int = 0
    multi_tenancy: bool = False


class Sender:
    """Any number of these, in any number of processes, share the work through leases."""

    def __init__(
        self,
        campaigns: CampaignStore,
        runs: RunStore,
        chat: ChatStore,
        segments: Segments,
        options: SenderOptions,
        *,
        now: Callable[[], datetime],
        coordinator: ClaimCoordinator,
    ) -> None:
        self._campaigns = campaigns
        self._runs = runs
        self._chat = chat
        self._segments = segments
        self._options = options
        self._now = now
        self._coordinator = coordinator
        self._outages = coordinator.outages

    async def run(self, stop: asyncio.Event) -> None:
        """Sends until `stop` is set; then finishes the page in hand and gives its lease back.

        It goes on after any exception.
        """
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._coordinator.work_available.set())
        try:
            while not stop.is_set():
                try:
                    if lease := await self._next_lease(stop):
                        with self._coordinator.occupy_slot(lease) as release_slot:
                            await self._process_shard(lease, stop, release_slot)
                # a group, where a run ended for two reasons and neither could be written down
                except Exception as error:  # noqa: BLE001 - no worker may end its server
                    await wait_at_most(stop, self._outages.failed(_LEASES, error))
        finally:
            stopping.cancel()

    async def run_once(self, stop: asyncio.Event) -> bool:
        """Claims one shard and sends to it as far as it goes; false when there was none to claim."""
        if lease := await self._claim():
            await self._process_shard(lease, stop, release_slot=lambda: None)
        return lease is not None

    async def _next_lease(self, stop: asyncio.Event) -> Lease | None:
        """A shard to send to and a slot for it, as soon as there are both; none when it is time to stop."""
        async with self._coordinator.poll_lock:
            await self._coordinator.slots.acquire()
            if self._coordinator.active_leases:
                await wait_at_most(stop, _YIELD_SECONDS)
            while not stop.is_set():
                try:
                    lease = await self._claim()
                except Exception as error:  # noqa: BLE001 - the lock and the slot are kept
                    await wait_at_most(stop, self._outages.failed(_LEASES, error))
                    continue
                self._outages.over(_LEASES)
                if lease:
                    return lease
                if not stop.is_set():
                    await self._idle()
            self._coordinator.slots.release()
        return None

    async def _claim(self) -> Lease | None:
        now = self._now()
        return await self._runs.claim(self._options.owner, now, now + self._options.lease_time)

    async def _process_shard(
        self, lease: Lease, stop: asyncio.Event, release_slot: Callable[[], None]
    ) -> None:
        log = logger.bind(campaign_id=lease.campaign_id, shard=lease.shard, fence=lease.fence)
        log.info("shard claimed", cursor=lease.cursor, pass_number=lease.pass_number)
        try:
            await self._run_shard(lease, stop, release_slot)
            self._outages.over(_name(lease))
        except* RunEndedError:
            log.info("run ended by another")
            self._outages.over(_name(lease))
        except* NobodySentToError as nobody:
            await self._abort_unless_others_send(lease, str(nobody.exceptions[0]))
        except* (ReferenceGoneError, InvalidTemplateError, QuotaReachedError) as gone:
            reason = str(gone.exceptions[0])
            log.warning("run can't go on", reason=reason)
            await self._abort(lease, reason)
        except* (StoreUnavailableError, StalePageError) as down:
            await self._back_off(lease, down, str(down.exceptions[0]))
        except* Exception as unknown:  # noqa: BLE001 - one campaign holds up no other
            await self._back_off(lease, unknown, INTERNAL_ERROR)

    async def _run_shard(
        self, lease: Lease, stop: asyncio.Event, release_slot: Callable[[], None]
    ) -> None:
        campaign = await self._campaigns.get(lease.campaign_id)
        sender_id = campaign.spec.sender_id
        users = await self._chat.users.by_id([sender_id])
        sender = require_sender(sender_id, users.get(sender_id))
        audience = audience_of(campaign, self._segments, self._campaigns)
        options = self._options
        compiled = compile_campaign(
            campaign, sender, self._now(), multi_tenancy=options.multi_tenancy
        )
        limits = applicable_limits(
            campaign.id,
            campaign.spec.max_messages_per_second,
            options.max_messages_per_second,
        )
        rate_limiter = RateLimiter(limits, self._runs, self._now)
        if rate_limiter.is_throttled:
            release_slot()
        pipeline = PagePipeline(
            lease,
            audience,
            Planner(compiled, self._chat, self._now),
            self._runs,
            rate_limiter,
            page_size=options.page_size,
            lease_time=options.lease_time,
            now=self._now,
            waiting=bool(campaign.status_reason),
        )
        if await pipeline.run(stop):
            await self._runs.finish_pass(lease, self._now())
        else:
            await self._runs.release(lease)

    async def _abort(self, lease: Lease, reason: str) -> None:
        try:
            await self._runs.abort(lease, reason, self._now())
        except RunEndedError:
            logger.info("run ended by another", campaign_id=lease.campaign_id)
        self._outages.over(_name(lease))

    async def _abort_unless_others_send(self, lease: Lease, reason: str) -> None:
        """The campaign may have shards whose targets don't fail: they are tried before it stops."""
        now = self._now()
        retried_at = now + _RETRIED_AFTER
        try:
            stopped = await self._runs.abort_unless_others_send(lease, reason, now, retried_at)
        except RunEndedError:
            logger.info("run ended by another", campaign_id=lease.campaign_id)
        else:
            if stopped:
                logger.warning("run can't go on", campaign_id=lease.campaign_id, reason=reason)
        self._outages.over(_name(lease))

    async def _back_off(self, lease: Lease, error: Exception, reason: str) -> None:
        """Leaves the shard alone for a while, ever longer.

        Should even this fail, the lease runs out by itself.
        """
        pause = timedelta(seconds=self._outages.failed(_name(lease), error))
        await self._runs.set_status_reason(lease, f"{RETRYING}{reason}")
        await self._runs.release(lease, self._now() + pause)

    async def _idle(self) -> None:
        await wait_at_most(self._coordinator.work_available, _POLL_SECONDS)
        self._coordinator.work_available.clear()


def _name(lease: Lease) -> str:
    return f"campaign {lease.campaign_id}"
