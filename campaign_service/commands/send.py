"""`python -m campaign_service send`: a process that only sends and answers no calls."""

import asyncio
import os
from contextlib import suppress
from functools import partial

import structlog

from campaign_service.sending.assembly import open_for_senders, run_senders
from campaign_service.settings import CampaignSettings
from chat_store.database.engine import Database
from chat_store.errors import ChatStoreError, StoreUnavailableError, for_operators
from herald_rpc.certificates import CertificateError
from herald_rpc.process import runtime
from herald_rpc.process.starting import StoppedWhileStartingError, begin
from herald_rpc.process.worker_process import follow_orders
from herald_rpc.server.serving import LAST_RESORT_SECONDS, stop_signal
from herald_rpc.server.shutdown import run_bounded

logger = structlog.get_logger(__name__)


def send(settings: CampaignSettings) -> int:
    """Sends until a stop signal, then finishes the pages in progress within the grace.

    Any number of such processes, on any machines that reach the database and the segment servers,
    share the work with the senders of the campaign servers.
    """
    _tune()
    try:
        with suppress(StoppedWhileStartingError):
            asyncio.run(_until_stop_signal(settings))
    except (ChatStoreError, CertificateError) as error:
        logger.error("can't start", error=for_operators(error))  # noqa: TRY400 - the text says it all
        return 1
    return 0


def send_for_server(settings: CampaignSettings) -> None:
    """Sends for a campaign server, which has started this process and prepared the database.

    The server orders by standard input when to begin and to stop. This process ends with it.
    """
    _tune()
    asyncio.run(_until_ordered_to_stop(settings))


def _tune() -> None:
    runtime.tune()
    runtime.tune_for_pages()


async def _until_stop_signal(settings: CampaignSettings) -> None:
    async with (
        stop_signal(settings.grace_seconds + LAST_RESORT_SECONDS, settings.on_hangup) as stop,
        open_for_senders(settings) as database,
    ):
        await _prepare(database, settings, stop)
        sending = _send(settings, database, stop, asyncio.Event())
        await run_bounded(sending, stop, settings.grace_seconds)
    logger.info("stopped")


async def _until_ordered_to_stop(settings: CampaignSettings) -> None:
    stop, woken = asyncio.Event(), asyncio.Event()
    await follow_orders(stop, woken)
    async with open_for_senders(settings) as database:
        await _send(settings, database, stop, woken)


async def _send(
    settings: CampaignSettings, database: Database, stop: asyncio.Event, woken: asyncio.Event
) -> None:
    if settings.sender_niceness:
        await _lower_priority(database, settings.sender_niceness)
    logger.info("sending", process=os.getpid())
    await run_senders(settings, database, stop, woken)


async def _prepare(database: Database, settings: CampaignSettings, stop: asyncio.Event) -> None:
    # imported here: Alembic is a quarter of a sender's imports, and most senders don't need it
    from chat_store.database import schema  # noqa: PLC0415

    await begin(
        partial(schema.prepare, database),
        stop,
        waiting_for="the database",
        outage=StoreUnavailableError,
        described=for_operators,
        within_seconds=settings.start_wait_seconds,
    )


async def _lower_priority(database: Database, niceness: int) -> None:
    """Lowers the priority of this process, except for SQLite's writer thread.

    That thread would wait for a core while it holds the write lock, and callers would wait too.
    """
    # starts that thread, which keeps its priority, because Linux has one for each thread
    await database.is_available()
    os.nice(niceness)
