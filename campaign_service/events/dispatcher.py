"""The worker that sends events to webhooks."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from math import inf
from time import monotonic

import structlog

from campaign_service.campaigns.addresses import AddressPolicy
from campaign_service.campaigns.webhooks import SETTINGS_SECONDS, Lane, LaneLostError, Webhook
from campaign_service.events.http_client import open_client
from campaign_service.events.lane_run import Delivery, LaneRun
from campaign_service.events.reader import EventReader
from campaign_service.storage.event_ports import LaneStore, WebhookStore
from chat_store.errors import StoreUnavailableError
from herald_rpc import tracing
from herald_rpc.process.outages import Outages, repeat

logger = structlog.get_logger(__name__)

_POLL_SECONDS = 0.1
_IDLE_POLL_SECONDS = 0.5
_MOST_OF_WEBHOOK = 4
# many more than one webhook may have, so that hanging endpoints leave room for others
_MOST_LANES = 256
# renewals in the time of a lease, and the share of that time in which a lease is relied on
_RENEWALS = 4
_SURE = 0.8


class Dispatcher:
    """Delivers events. Leases divide the lanes among all dispatchers, in all processes.

    At most four lanes of a webhook are leased at a time, over all dispatchers, so that an endpoint
    that hangs delays no other webhook.
    """

    def __init__(
        self,
        reader: EventReader,
        webhooks: WebhookStore,
        lanes: LaneStore,
        policy: AddressPolicy,
        *,
        now: Callable[[], datetime],
        lease: timedelta = timedelta(seconds=10),
    ) -> None:
        self._reader = reader
        self._webhooks = webhooks
        self._lanes = lanes
        self._policy = policy
        self._now = now
        self._lease = lease
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._settings = _Settings(webhooks)
        self._outages = Outages(StoreUnavailableError)
        self._running: set[Lane] = set()
        # by the monotonic clock: until when all leases hold, even if this process is stopped meanwhile
        self._leased_until = 0.0
        self._freed = asyncio.Event()
        self._stopping = False

    @property
    def is_well(self) -> bool:
        return not self._outages

    async def run(self, stop: asyncio.Event) -> None:
        """Sends until `stop` is set, and returns when the attempts in progress are over.

        If cancelled, drops them; they are made again when the lease has ended.
        """
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._stop())
        try:
            async with self._delivery() as delivery, asyncio.TaskGroup() as group:
                await repeat(
                    "the delivery to webhooks",
                    partial(self._step, delivery, group),
                    stop,
                    self._outages,
                )
        finally:
            stopping.cancel()

    async def run_once(self) -> int:
        """Sends all events that are due now. Returns the number of lanes that it has served."""
        done = 0
        async with self._delivery() as delivery:
            while True:
                await self._distribute()
                lanes = await self._claim()
                if not lanes:
                    return done
                done += len(lanes)
                async with asyncio.TaskGroup() as group:
                    for lane in lanes:
                        group.create_task(self._run_lane(lane, delivery))

    @asynccontextmanager
    async def _delivery(self) -> AsyncIterator[Delivery]:
        async with open_client(self._policy) as client, self._renewing():
            yield Delivery(
                reader=self._reader,
                lanes=self._lanes,
                client=client,
                webhook=self._settings.of,
                is_leased=lambda: monotonic() < self._leased_until,
                now=self._now,
            )

    @asynccontextmanager
    async def _renewing(self) -> AsyncIterator[None]:
        """Renews the leases of the running lanes, because an endpoint may answer after a lease ends."""
        renewing = asyncio.create_task(self._renew_until_cancelled())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _renew_until_cancelled(self) -> None:
        async def step() -> float:
            if self._running:
                began = monotonic()
                await self._lanes.renew(self._running, self._now() + self._lease)
                self._leased_until = max(
                    self._leased_until, began + self._lease.total_seconds() * _SURE
                )
            return self._lease.total_seconds() / _RENEWALS

        outages = Outages(StoreUnavailableError)
        await repeat("the leases of webhooks", step, asyncio.Event(), outages)

    async def _step(self, delivery: Delivery, group: asyncio.TaskGroup) -> float:
        if not await self._settings.any_enabled():
            return _IDLE_POLL_SECONDS
        await self._distribute()
        for lane in await self._claim():
            group.create_task(self._run_lane(lane, delivery))
        if self._freed.is_set():
            self._freed.clear()
            return 0.0
        return _POLL_SECONDS

    async def _distribute(self) -> None:
        await self._lanes.distribute((await self._reader.ends()).next)

    async def _claim(self) -> list[Lane]:
        began, now = monotonic(), self._now()
        lanes = await self._lanes.claim(
            self._owner,
            now,
            now + self._lease,
            most=_MOST_LANES - len(self._running),
            most_of_webhook=_MOST_OF_WEBHOOK,
        )
        if lanes:
            self._settings.expire()
        if lanes and not self._running:
            self._leased_until = began + self._lease.total_seconds() * _SURE
        self._running.update(lanes)
        return list(lanes)

    async def _run_lane(self, lane: Lane, delivery: Delivery) -> None:
        try:
            tracing.follow(await self._lanes.trace_of(lane.campaign_id))
            await LaneRun(lane, delivery, lambda: self._stopping).run()
        except LaneLostError:
            logger.info("lane lost", webhook_id=lane.webhook_id, campaign_id=lane.campaign_id)
        except Exception as error:
            logger.warning(
                "lane failed",
                webhook_id=lane.webhook_id,
                campaign_id=lane.campaign_id,
                exc_info=error,
            )
        finally:
            self._running.discard(lane)
            self._freed.set()

    def _stop(self) -> None:
        self._stopping = True


class _Settings:
    """Webhooks, read at most `SETTINGS_SECONDS` ago, and after the latest claim of lanes.

    A call that changes a webhook with a leased lane returns when this can no longer be used. Where
    no lane is leased, the next claim comes after the change.
    """

    def __init__(self, webhooks: WebhookStore) -> None:
        self._webhooks = webhooks
        self._by_id: Mapping[str, Webhook] = {}
        # by the monotonic clock: when they were read, and since when they must have been
        self._read_at = self._wanted_from = -inf
        self._reading = asyncio.Lock()

    async def of(self, webhook_id: str) -> Webhook | None:
        """Returns the webhook; None if it is disabled or deleted."""
        await self._refresh()
        webhook = self._by_id.get(webhook_id)
        return webhook if webhook and webhook.enabled else None

    async def any_enabled(self) -> bool:
        await self._refresh()
        return any(webhook.enabled for webhook in self._by_id.values())

    def expire(self) -> None:
        """Has them read again before they are used next."""
        self._wanted_from = monotonic()

    async def _refresh(self) -> None:
        async with self._reading:
            if self._read_at > max(self._wanted_from, monotonic() - SETTINGS_SECONDS):
                return
            read_at = monotonic()
            self._by_id = {webhook.id: webhook for webhook in await self._webhooks.all()}
            self._read_at = read_at
