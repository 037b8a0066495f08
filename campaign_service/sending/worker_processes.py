"""Where the senders run: in processes of their own, or beside the server's calls.

Python runs one thread at a time: pages that are planned and written in the server's process, and
its calls, take their turns away from each other. In other processes, one plans a page while
another one's is being written, and callers wait for neither.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

from campaign_service.segment_client import SegmentClient
from campaign_service.sending.claiming import ClaimCoordinator
from campaign_service.sending.sender import Sender, SenderOptions
from campaign_service.settings import CampaignSettings
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.runs import SqlRunStore
from chat_store.database.engine import Database, open_database
from chat_store.sql.stores import sql_chat_store
from herald_rpc.client.channels import open_channel
from herald_rpc.process import logs, runtime
from herald_rpc.process.worker_process import WorkerProcess

# Callers come first. Where others burn all cores, campaigns still get a thirtieth of each; at 19,
# the most there is, it would be less than half of that.
_NICENESS = 15
# runs beside those in the slots, which wait for their limits most of the time
_MAX_THROTTLED_RUNS = 32


class SenderPool(Protocol):
    def wake(self) -> None:
        """There is a campaign to send, and no need to wait for the next look."""

    @property
    def is_well(self) -> bool:
        """Whether anything sends."""

    async def run(self, stop: asyncio.Event) -> None:
        """Sends until `stop` is set and the pages in hand are written; less when cancelled."""


@contextmanager
def start_senders(settings: CampaignSettings) -> Iterator[SenderPool]:
    """To be entered before this process has threads, connections or an event loop."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(WorkerProcess(f"sender {number}", partial(_sender_main, settings)))
            for number in range(settings.sender_processes)
        ]
        yield SenderProcesses(processes) if processes else InProcessSenders(settings)


class InProcessSenders:
    """Beside whatever else this event loop does."""

    is_well = True

    def __init__(self, settings: CampaignSettings) -> None:
        self._settings = settings
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        async with _opened(self._settings) as database:
            await _run_senders(self._settings, database, stop, self._woken)


class SenderProcesses:
    def __init__(self, processes: Sequence[WorkerProcess]) -> None:
        self._processes = processes

    def wake(self) -> None:
        for process in self._processes:
            process.wake()

    @property
    def is_well(self) -> bool:
        return any(fork.is_well for fork in self._processes)

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            for process in self._processes:
                group.create_task(process.run(stop))


async def _sender_main(
    settings: CampaignSettings, stop: asyncio.Event, woken: asyncio.Event
) -> None:
    # one that replaces another begins without
    logs.configure(settings.log_level, settings.log_format)
    runtime.tune()
    runtime.tune_for_pages()
    async with _opened(settings) as database:
        # on SQLite this starts the thread that writes, which does not stand back: with the write
        # lock in its hands it would wait for a core behind those who plan the next pages
        await database.is_available()
        _lower_priority()
        await _run_senders(settings, database, stop, woken)


@asynccontextmanager
async def _opened(settings: CampaignSettings) -> AsyncIterator[Database]:
    database = open_database(settings.database_url, background=True)
    try:
        yield database
    finally:
        await database.close()


def _lower_priority() -> None:
    """Lets others go first: a page can wait some milliseconds for a core, a caller can't."""
    # on Linux it is for this thread, and for those that it starts from now on
    os.nice(_NICENESS)
    # Linux may share its cores out among sessions first, and look at niceness within each
    os.setsid()
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICENESS))


async def _run_senders(
    settings: CampaignSettings, database: Database, stop: asyncio.Event, woken: asyncio.Event
) -> None:
    now = partial(datetime.now, UTC)
    async with open_channel(settings.segment_target) as channel:
        segments = SegmentClient(channel)
        options = SenderOptions(
            owner=f"{socket.gethostname()}:{os.getpid()}",
            page_size=settings.page_size,
            lease_time=timedelta(seconds=settings.lease_seconds),
            max_messages_per_second=settings.max_messages_per_second,
            multi_tenancy=settings.multi_tenancy,
        )
        chat = sql_chat_store(database)
        campaigns = SqlCampaignStore(database)
        runs = SqlRunStore(database, monthly_quota=settings.monthly_quota)
        coordinator = ClaimCoordinator(asyncio.Semaphore(settings.sender_slots), woken)
        async with asyncio.TaskGroup() as group:
            for _ in range(settings.sender_slots + _MAX_THROTTLED_RUNS):
                sender = Sender(
                    campaigns, runs, chat, segments, options, now=now, coordinator=coordinator
                )
                group.create_task(sender.run(stop))
