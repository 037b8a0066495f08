"""`herald dispatch`: a process that only delivers events."""

import asyncio
import os
from functools import partial

import structlog

from campaign_service.commands.worker import run_alone, run_for_server
from campaign_service.events.workers import (
    begin_pushes,
    dispatcher_metrics,
    event_workers,
    open_for_dispatchers,
)
from campaign_service.settings import CampaignSettings
from chat_store.database.engine import Database

logger = structlog.get_logger(__name__)


def dispatch(settings: CampaignSettings) -> int:
    """Delivers events until a stop signal, then finishes the attempts in progress within the grace.

    Any number of such processes, on any machines that reach the database and the receivers, share
    the work with the dispatchers of the campaign servers. Returns the exit code.
    """
    return run_alone(
        settings,
        open_for_dispatchers(settings),
        partial(_dispatch, settings),
        prepare=partial(begin_pushes, settings),
    )


def dispatch_for_server(settings: CampaignSettings) -> None:
    """Delivers for a campaign server, which has started this process."""
    run_for_server(open_for_dispatchers(settings), partial(_dispatch, settings))


async def _dispatch(
    settings: CampaignSettings, database: Database, stop: asyncio.Event, _: asyncio.Event
) -> None:
    logger.info("dispatching", process=os.getpid())
    async with dispatcher_metrics(settings, database) as metrics, asyncio.TaskGroup() as group:
        for worker in event_workers(settings, database, metrics):
            group.create_task(worker.run(stop))
