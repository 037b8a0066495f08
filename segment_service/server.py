"""Assembles the segment server and stops it in order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

from chat_store.access.sql_tokens import SqlTokenStore
from chat_store.audit.chain import SqlAuditChain
from chat_store.database import schema
from chat_store.database.engine import open_database
from chat_store.errors import StoreUnavailableError, for_operators
from chat_store.sql.stores import sql_chat_store
from herald.chat.v1 import chat_service_pb2_grpc
from herald.segment.v1 import segment_service_pb2_grpc
from herald_rpc.access.auditing import CallAuditor
from herald_rpc.access.guard import TokenGuard
from herald_rpc.metrics.opening import open_metrics
from herald_rpc.process.health import HealthWorker
from herald_rpc.process.outages import RepeatingWorker
from herald_rpc.process.starting import StoppedWhileStartingError, begin
from herald_rpc.server.serving import RunningServer, serving
from herald_rpc.server.shutdown import Grace, run_bounded
from herald_rpc.server.tracing_calls import traces_of_calls
from segment_service.chat_servicer import ChatServicer
from segment_service.failures import failure_for
from segment_service.servicer import SegmentServicer
from segment_service.settings import SegmentSettings
from segment_service.sizing import SizingWorker
from segment_service.sql.segments import SqlSegmentStore
from segment_service.sql.sizing import SqlSizingStore
from segment_service.sql.targets import SqlTargetStore
from segment_service.streams import TargetStreams

SEGMENT_SERVICE = "herald.segment.v1.SegmentService"
CHAT_SERVICE = "herald.chat.v1.ChatService"
SERVICES = (SEGMENT_SERVICE, CHAT_SERVICE)


async def run_until(
    stop: asyncio.Event,
    settings: SegmentSettings,
    started: Callable[[RunningServer], None] = lambda _: None,
) -> None:
    """Serves and counts until `stop` is set, then finishes the calls in progress.

    Target streams end at once, because they can be resumed elsewhere. A count ends at once too.
    Workers continue if their work raises.
    """
    with suppress(StoppedWhileStartingError):
        await _serve(stop, settings, started)


async def _serve(
    stop: asyncio.Event, settings: SegmentSettings, started: Callable[[RunningServer], None]
) -> None:
    async with _server(settings, stop) as (server, sizing, others):
        started(server)
        grace = Grace(settings.grace_seconds)
        try:
            async with asyncio.TaskGroup() as group:
                for worker in others:
                    group.create_task(run_bounded(worker.run(stop), stop, grace.seconds))
                group.create_task(run_bounded(sizing.run(stop), stop, 0.0))
                await stop.wait()
                grace.begin()
                await server.set_serving(False)
        finally:
            # whatever the cause of the stop, the calls in progress are answered
            await server.drain(grace.left)


@asynccontextmanager
async def _server(
    settings: SegmentSettings, stop: asyncio.Event
) -> AsyncIterator[tuple[RunningServer, SizingWorker, list[RepeatingWorker]]]:
    now = partial(datetime.now, UTC)
    async with AsyncExitStack() as stack:
        database = open_database(settings.database_url)
        stack.push_async_callback(database.close)
        targets = SqlTargetStore(database)
        sizing = SizingWorker(
            SqlSizingStore(database),
            targets,
            now,
            timedelta(seconds=settings.sizing_interval_seconds),
        )
        segment_servicer = SegmentServicer(
            SqlSegmentStore(database),
            targets,
            TargetStreams(targets, stop),
            now,
            lambda: str(uuid4()),
        )
        chat_servicer = ChatServicer(sql_chat_store(database), now)

        auditor = CallAuditor(SqlAuditChain(database), now, settings.audit_retention)
        guard = (
            TokenGuard(
                SqlTokenStore(database), now, calls_per_second=settings.token_calls_per_second
            )
            if settings.auth == "tokens"
            else None
        )

        metrics = await stack.enter_async_context(
            open_metrics(settings.segment_metrics_listen, {"main": database.connection_uses})
        )

        async def prepare(server: RunningServer) -> None:
            metrics.follow(lambda: server.is_serving)
            await begin(
                partial(schema.prepare, database),
                stop,
                waiting_for="the database",
                outage=StoreUnavailableError,
                described=for_operators,
                within_seconds=settings.start_wait_seconds,
            )

        server = await stack.enter_async_context(
            serving(
                address=settings.segment_listen,
                services={
                    SEGMENT_SERVICE: partial(
                        segment_service_pb2_grpc.add_SegmentServiceServicer_to_server,
                        segment_servicer,
                    ),
                    CHAT_SERVICE: partial(
                        chat_service_pb2_grpc.add_ChatServiceServicer_to_server, chat_servicer
                    ),
                },
                failure_for=failure_for,
                reflection=settings.reflection,
                limits=settings.call_limits,
                protection=settings.protection,
                guard=guard,
                audit=auditor,
                observers=[*metrics.of_calls(SERVICES), *traces_of_calls(SERVICES)],
                prepare=prepare,
            )
        )

        async def is_well() -> bool:
            return await database.is_available() and sizing.is_well

        health = HealthWorker(server, is_well)
        yield server, sizing, [health, auditor, *([guard] if guard else [])]
