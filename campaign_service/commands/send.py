"""`herald send`: a process that only sends and answers no calls."""

import asyncio
import os
from functools import partial

import structlog

from campaign_service.commands.worker import run_alone, run_for_server
from campaign_service.sending.assembly import open_for_senders, run_senders
from campaign_service.settings import CampaignSettings
from chat_store.database.engine import Database

logger = structlog.get_logger(__name__)


def send(settings: CampaignSettings) -> int:
    """Sends until a stop signal, then finishes the pages in progress within the grace.

    Any number of such processes, on any machines that reach the database and the segment servers,
    share the work with the senders of the campaign servers. Returns the exit code.
    """
    return run_alone(settings, open_for_senders(settings), partial(_send, settings))


def send_for_server(settings: CampaignSettings) -> None:
    """Sends for a campaign server, which has started this process."""
    run_for_server(open_for_senders(settings), partial(_send, settings))


async def _send(
    settings: CampaignSettings, database: Database, stop: asyncio.Event, woken: asyncio.Event
) -> None:
    if settings.sender_niceness:
        await _lower_priority(database, settings.sender_niceness)
    logger.info("sending", process=os.getpid())
    await run_senders(settings, database, stop, woken)


async def _lower_priority(database: Database, niceness: int) -> None:
    """Lowers the priority of this process, except for SQLite's writer thread.

    That thread would wait for a core while it holds the write lock, and callers would wait too.
    """
    # starts that thread, which keeps its priority, because Linux has one for each thread
    await database.is_available()
    os.nice(niceness)
