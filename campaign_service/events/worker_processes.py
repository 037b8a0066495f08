"""Runs the workers that deliver events in a process of their own, or in the server's process.

Signing, encoding and HTTP take processor time: 100,000 events would delay the calls of a server that
delivers them itself.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from campaign_service.events.workers import (
    dispatcher_metrics,
    event_workers,
    open_for_dispatchers,
)
from campaign_service.settings import CampaignSettings
from herald_rpc.process.worker import Worker
from herald_rpc.process.worker_process import python_command
from herald_rpc.process.worker_processes import start_processes

_DISPATCH = python_command("campaign_service", "dispatch", "--ordered")


@asynccontextmanager
async def start_dispatchers(settings: CampaignSettings) -> AsyncIterator[Worker]:
    """Starts the processes, which read the same HERALD_* variables; they deliver from `run` on."""
    count = settings.dispatcher_processes
    async with start_processes("dispatcher", _DISPATCH, count) as processes:
        yield processes if count else InProcessDispatchers(settings)


class InProcessDispatchers:
    """The workers that deliver events, in this event loop."""

    def __init__(self, settings: CampaignSettings) -> None:
        self._settings = settings
        self._workers: Sequence[Worker] = ()

    @property
    def is_well(self) -> bool:
        return all(worker.is_well for worker in self._workers)

    async def run(self, stop: asyncio.Event) -> None:
        async with (
            open_for_dispatchers(self._settings) as database,
            dispatcher_metrics(self._settings, database) as metrics,
            asyncio.TaskGroup() as group,
        ):
            self._workers = event_workers(self._settings, database, metrics)
            for worker in self._workers:
                group.create_task(worker.run(stop))
