"""Runs work in a process that answers no calls, on its own or for the server that started it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import structlog

from campaign_service.settings import CampaignSettings
from chat_store.database.engine import Database
from chat_store.errors import ChatStoreError, StoreUnavailableError, for_operators
from herald_rpc.certificates import CertificateError
from herald_rpc.process import runtime
from herald_rpc.process.otlp import traced
from herald_rpc.process.starting import StoppedWhileStartingError, begin
from herald_rpc.process.worker_process import follow_orders
from herald_rpc.server import service_manager
from herald_rpc.server.serving import LAST_RESORT_SECONDS, stop_signal
from herald_rpc.server.shutdown import run_bounded

# the name of these processes in traces
_SERVICE = "herald-worker"

logger = structlog.get_logger(__name__)

Work = Callable[[Database, asyncio.Event, asyncio.Event], Coroutine[Any, Any, None]]
"""Works with a database until the first event, `stop`, is set; the second says that work is there."""

_Opened = AbstractAsyncContextManager[Database]


def run_alone(
    settings: CampaignSettings,
    opened: _Opened,
    work: Work,
    prepare: Callable[[Database], Awaitable[None]] | None = None,
) -> int:
    """Works until a stop signal, and then finishes the work in progress within the grace.

    Waits for the database as a server does, and migrates it; then runs `prepare`. Returns the exit
    code: 1 if it could not start.
    """
    _tune()
    try:
        with traced(_SERVICE), suppress(StoppedWhileStartingError):
            asyncio.run(_until_stop_signal(settings, opened, work, prepare))
    except (ChatStoreError, CertificateError) as error:
        logger.error("can't start", error=for_operators(error))  # noqa: TRY400 - the text says it all
        return 1
    return 0


def run_for_server(opened: _Opened, work: Work) -> None:
    """Works for a campaign server, which has started this process and prepared the database.

    The server orders by standard input when to begin and to stop. This process ends with it.
    """
    _tune()
    with traced(_SERVICE):
        asyncio.run(_until_ordered_to_stop(opened, work))


def _tune() -> None:
    runtime.tune()
    runtime.tune_for_pages()


async def _until_stop_signal(
    settings: CampaignSettings,
    opened: _Opened,
    work: Work,
    prepare: Callable[[Database], Awaitable[None]] | None,
) -> None:
    async with (
        stop_signal(settings.grace_seconds + LAST_RESORT_SECONDS, settings.on_hangup) as stop,
        opened as database,
    ):
        await begin(
            lambda: _prepare(database, prepare),
            stop,
            waiting_for="the database",
            outage=StoreUnavailableError,
            described=for_operators,
            within_seconds=settings.start_wait_seconds,
        )
        service_manager.notify(service_manager.READY, "STATUS=working")
        await run_bounded(work(database, stop, asyncio.Event()), stop, settings.grace_seconds)
    logger.info("stopped")


async def _until_ordered_to_stop(opened: _Opened, work: Work) -> None:
    stop, woken = asyncio.Event(), asyncio.Event()
    await follow_orders(stop, woken)
    async with opened as database:
        await work(database, stop, woken)


async def _prepare(
    database: Database, prepare: Callable[[Database], Awaitable[None]] | None
) -> None:
    # imported here: Alembic is a quarter of such a process's imports, and most don't need it
    from chat_store.database import schema  # noqa: PLC0415

    await schema.prepare(database)
    if prepare:
        await prepare(database)
