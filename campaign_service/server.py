"""Assembles the campaign server and stops it in order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial

from campaign_service.access.issuing import TokenIssuer
from campaign_service.api.access_servicer import AccessServicer
from campaign_service.api.campaign_servicer import CampaignServicer
from campaign_service.api.event_servicer import EventServicer
from campaign_service.api.failures import failure_for
from campaign_service.campaigns.holds import Hold
from campaign_service.events.reader import EventReader
from campaign_service.events.retention import Retention
from campaign_service.events.tail import EventTail
from campaign_service.events.webhooks import Webhooks
from campaign_service.events.workers import address_policy, begin_pushes
from campaign_service.lifecycle.hold_watch import HoldWatch
from campaign_service.lifecycle.lifecycle import Lifecycle
from campaign_service.lifecycle.preview import Previews
from campaign_service.lifecycle.references import ReferenceChecker
from campaign_service.lifecycle.scheduler import Scheduler
from campaign_service.metrics.opening import campaign_workers, lag_workers
from campaign_service.reporting.campaign_view import CampaignViews
from campaign_service.reporting.read_counter import ReadCounter
from campaign_service.reporting.watch_hub import WatchHub
from campaign_service.segment_client import SegmentClient
from campaign_service.segment_watch import SegmentWatch
from campaign_service.sending.worker_processes import SenderPool
from campaign_service.settings import CampaignSettings
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.deliveries import SqlDeliveryStore
from campaign_service.storage.event_log import SqlEventLog
from campaign_service.storage.holds import SqlHoldStore
from campaign_service.storage.progress import SqlProgressStore
from campaign_service.storage.pushes import SqlPushStore
from campaign_service.storage.transitions import SqlTransitionStore
from campaign_service.storage.webhook_attempts import SqlAttemptStore
from campaign_service.storage.webhooks import SqlWebhookStore
from chat_store.access.sql_tokens import SqlTokenStore
from chat_store.audit.chain import SqlAuditChain
from chat_store.database import schema
from chat_store.database.engine import Database, open_database
from chat_store.errors import StoreUnavailableError, for_operators
from chat_store.sql.audit_log import SqlAuditLog
from chat_store.sql.stores import sql_chat_store
from herald.access.v1 import access_service_pb2_grpc
from herald.campaign.v1 import campaign_service_pb2_grpc
from herald.event.v1 import event_service_pb2_grpc
from herald_rpc.access.auditing import CallAuditor
from herald_rpc.access.guard import TokenGuard
from herald_rpc.client.channels import open_channels
from herald_rpc.metrics.opening import open_metrics
from herald_rpc.process.health import HealthWorker
from herald_rpc.process.starting import StoppedWhileStartingError, begin
from herald_rpc.process.worker import Worker
from herald_rpc.server.serving import RunningServer, serving
from herald_rpc.server.shutdown import Grace, run_bounded
from herald_rpc.server.tracing_calls import traces_of_calls

CAMPAIGN_SERVICE = "herald.campaign.v1.CampaignService"
EVENT_SERVICE = "herald.event.v1.EventService"
ACCESS_SERVICE = "herald.access.v1.AccessService"
SERVICES = (CAMPAIGN_SERVICE, EVENT_SERVICE, ACCESS_SERVICE)


async def run_until(
    stop: asyncio.Event,
    settings: CampaignSettings,
    senders: SenderPool,
    dispatchers: Worker,
    started: Callable[[RunningServer], None] = lambda _: None,
) -> None:
    """Serves, sends and delivers events until `stop` is set, then finishes the pages and calls in progress.

    Work that is not finished within the grace is cancelled. Another sender continues the shard of a
    cancelled page when its lease has ended.

    Workers continue if their work raises. A worker that could not start ends the server with its
    exception.
    """
    with suppress(StoppedWhileStartingError):
        await _serve(stop, settings, senders, dispatchers, started)


async def _serve(
    stop: asyncio.Event,
    settings: CampaignSettings,
    senders: SenderPool,
    dispatchers: Worker,
    started: Callable[[RunningServer], None],
) -> None:
    async with _server(settings, senders, dispatchers, stop) as (server, workers):
        started(server)
        grace = Grace(settings.grace_seconds)
        try:
            async with asyncio.TaskGroup() as group:
                for worker in workers:
                    group.create_task(run_bounded(worker.run(stop), stop, grace.seconds))
                await stop.wait()
                grace.begin()
                await server.set_serving(False)
        finally:
            # whatever the cause of the stop, the calls in progress are answered
            await server.drain(grace.left)


@asynccontextmanager
async def _server(
    settings: CampaignSettings, senders: SenderPool, dispatchers: Worker, stop: asyncio.Event
) -> AsyncIterator[tuple[RunningServer, list[Worker]]]:
    now = partial(datetime.now, UTC)
    async with AsyncExitStack() as stack:
        database = open_database(settings.database_url)
        stack.push_async_callback(database.close)
        holds = SqlHoldStore(database)
        ending = await stack.enter_async_context(AsyncExitStack())
        channels = await stack.enter_async_context(
            open_channels(settings.segment_target, settings.channel_security)
        )
        segments = SegmentClient(*channels.values())

        chat = sql_chat_store(database)
        campaigns = SqlCampaignStore(database)
        transitions = SqlTransitionStore(
            database, shards=_shards(database), monthly_quota=settings.monthly_quota
        )
        references = ReferenceChecker(chat, segments)
        lifecycle = Lifecycle(
            campaigns,
            transitions,
            references,
            segments,
            now=now,
            wake=senders.wake,
        )
        previews = Previews(
            campaigns,
            lifecycle,
            references,
            chat,
            segments,
            now=now,
            multi_tenancy=settings.multi_tenancy,
        )
        read_counter = ReadCounter(chat.messages)
        views = CampaignViews(
            campaigns,
            chat,
            segments,
            read_counter,
            SqlPushStore(database),
            now,
            lambda: database.refusal,
        )
        watch_hub = WatchHub(SqlProgressStore(database), views)
        servicer = CampaignServicer(
            lifecycle,
            campaigns,
            views,
            previews,
            SqlDeliveryStore(database),
            watch_hub,
        )
        metrics = await stack.enter_async_context(
            open_metrics(settings.campaign_metrics_listen, {"main": database.connection_uses})
        )
        log = SqlEventLog(database)
        tail = EventTail(EventReader(log, chat))
        webhooks = SqlWebhookStore(database)
        attempts = SqlAttemptStore(database)
        retention = Retention(log, attempts, timedelta(days=settings.event_retention_days), now=now)
        tokens = SqlTokenStore(database)
        guard = (
            TokenGuard(tokens, now, calls_per_second=settings.token_calls_per_second)
            if settings.auth == "tokens"
            else None
        )
        auditor = CallAuditor(SqlAuditChain(database), now, settings.audit_retention)
        hold: Hold | None = None

        async def take_up() -> None:
            nonlocal hold
            await schema.prepare(database)
            await begin_pushes(settings, database)
            hold = await holds.begin(start_held=settings.start_held)
            ending.push_async_callback(holds.end)

        async def prepare(server: RunningServer) -> None:
            metrics.follow(lambda: server.is_serving)
            await begin(
                take_up,
                stop,
                waiting_for="the database",
                outage=StoreUnavailableError,
                described=for_operators,
                within_seconds=settings.start_wait_seconds,
            )
            await server.set_withheld(hold is not None)

        server = await stack.enter_async_context(
            serving(
                address=settings.campaign_listen,
                services={
                    CAMPAIGN_SERVICE: partial(
                        campaign_service_pb2_grpc.add_CampaignServiceServicer_to_server, servicer
                    ),
                    EVENT_SERVICE: partial(
                        event_service_pb2_grpc.add_EventServiceServicer_to_server,
                        EventServicer(
                            tail,
                            Webhooks(webhooks, address_policy(settings), now=now),
                            webhooks,
                            attempts,
                            now,
                        ),
                    ),
                    ACCESS_SERVICE: partial(
                        access_service_pb2_grpc.add_AccessServiceServicer_to_server,
                        AccessServicer(
                            TokenIssuer(tokens, now=now), tokens, SqlAuditLog(database), now
                        ),
                    ),
                },
                failure_for=failure_for,
                reflection=settings.reflection,
                limits=settings.call_limits,
                protection=settings.protection,
                guard=guard,
                audit=auditor,
                observers=[*metrics.of_calls(SERVICES), *traces_of_calls(SERVICES)],
                # EventService still serves while the database is held: subscribers get past events
                withholding=[CAMPAIGN_SERVICE],
                prepare=prepare,
            )
        )
        watch = HoldWatch(holds, server, now=now)
        await watch.report(hold)
        scheduler = Scheduler(transitions, lifecycle, now=now)
        segment_watches = [
            SegmentWatch(channel, part, settings.channel_security)
            for part, channel in channels.items()
        ]
        workers: list[Worker] = [
            senders,
            scheduler,
            read_counter,
            watch_hub,
            watch,
            tail,
            retention,
            *campaign_workers(metrics, settings, database),
            *lag_workers(metrics, database, {"stream": tail}),
            *segment_watches,
            *([guard] if guard else []),
        ]

        async def is_well() -> bool:
            return await database.is_available() and all(worker.is_well for worker in workers)

        # calls are answered while events are delayed, or audit rows are not chained
        yield server, [*workers, dispatchers, auditor, HealthWorker(server, is_well)]


def _shards(database: Database) -> int:
    # SQLite has one writer, and two senders keep it busy
    return 2 if database.dialect == "sqlite" else 4
