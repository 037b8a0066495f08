"""Where the senders of a server run: in processes of their own, or beside the server's calls.

Python runs one thread at a time: pages that are planned and written in the server's process, and
its calls, take their turns away from each other. In other processes, one plans a page while
another one's is being written, and callers wait for neither.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from campaign_service.sending.assembly import open_for_senders, run_senders
from campaign_service.settings import CampaignSettings
from herald_rpc.process.worker_process import WorkerProcess, python_command

_SEND = python_command("campaign_service", "send", "--ordered")


class SenderPool(Protocol):
    def wake(self) -> None:
        """There is a campaign to send, and no need to wait for the next look."""

    @property
    def is_well(self) -> bool:
        """Whether anything sends."""

    async def run(self, stop: asyncio.Event) -> None:
        """Sends until `stop` is set and the pages in hand are written; less when cancelled."""


@asynccontextmanager
async def start_senders(settings: CampaignSettings) -> AsyncIterator[SenderPool]:
    """Starts the processes, which read the same HERALD_* variables; they send from `run` on."""
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(WorkerProcess(f"sender {number}", _SEND))
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
        async with open_for_senders(self._settings) as database:
            await run_senders(self._settings, database, stop, self._woken)


class SenderProcesses:
    def __init__(self, processes: Sequence[WorkerProcess]) -> None:
        self._processes = processes

    def wake(self) -> None:
        for process in self._processes:
            process.wake()

    @property
    def is_well(self) -> bool:
        return any(process.is_well for process in self._processes)

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            for process in self._processes:
                group.create_task(process.run(stop))
