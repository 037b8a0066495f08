"""Runs the senders of a server in processes of their own, or in the server's process.

Python runs one thread at a time, so that planning and writing pages in the server's process delays
its calls. In separate processes, one page is planned while another is written, and calls wait for
neither.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from campaign_service.sending.assembly import open_for_senders, run_senders
from campaign_service.settings import CampaignSettings
from herald_rpc.process.worker_process import python_command
from herald_rpc.process.worker_processes import start_processes

_SEND = python_command("campaign_service", "send", "--ordered")


class SenderPool(Protocol):
    def wake(self) -> None:
        """Says that a campaign is ready, so that it does not wait for the next poll."""

    @property
    def is_well(self) -> bool:
        """Whether at least one process can send."""

    async def run(self, stop: asyncio.Event) -> None:
        """Sends until `stop` is set, then writes the pages in progress. If cancelled, drops them."""


@asynccontextmanager
async def start_senders(settings: CampaignSettings) -> AsyncIterator[SenderPool]:
    """Starts the processes, which read the same HERALD_* variables; they send from `run` on."""
    async with start_processes("sender", _SEND, settings.sender_processes) as processes:
        yield processes if settings.sender_processes else InProcessSenders(settings)


class InProcessSenders:
    """Senders in this event loop."""

    is_well = True

    def __init__(self, settings: CampaignSettings) -> None:
        self._settings = settings
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        async with open_for_senders(self._settings) as database:
            await run_senders(self._settings, database, stop, self._woken)
