"""All senders of a process, on an event loop of their own.

They plan and write pages for milliseconds at a time, over and over: on the servers' loop every
step of every call would wait for that.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta

from campaign_service.segment_client import SegmentClient
from campaign_service.sender import Lookout, Sender, SenderOptions
from campaign_service.settings import CampaignSettings
from campaign_service.sql_campaigns import SqlCampaignStore
from campaign_service.sql_runs import SqlRunStore
from chat_store.database import open_database
from chat_store.sql import sql_chat_store
from herald.segment.v1 import segment_service_pb2_grpc
from herald_rpc.channels import open_channel
from herald_rpc.own_loop import run_apart


class Sending:
    def __init__(self, settings: CampaignSettings, *, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._now = now
        self._wake: Callable[[], object] = lambda: None

    def wake(self) -> None:
        """From any thread: there is a campaign to send, and no need to wait for the next look."""
        # at the very end the loop may be gone
        with suppress(RuntimeError):
            self._wake()

    async def run(self, stop: asyncio.Event) -> None:
        await run_apart(self._send, stop)

    async def _send(self, stop: asyncio.Event) -> None:
        settings = self._settings
        loop, lookout = asyncio.get_running_loop(), Lookout()
        async with AsyncExitStack() as stack:
            database = open_database(settings.database_url)
            stack.push_async_callback(database.close)
            channel = await stack.enter_async_context(open_channel(settings.segment_target))
            stub = segment_service_pb2_grpc.SegmentServiceStub(channel)
            options = SenderOptions(
                owner=f"{socket.gethostname()}:{os.getpid()}",
                page_size=settings.page_size,
                lease_time=timedelta(seconds=settings.lease_seconds),
                max_messages_per_second=settings.max_messages_per_second,
                multi_tenancy=settings.multi_tenancy,
            )
            chat = sql_chat_store(database)
            campaigns, runs = SqlCampaignStore(database), SqlRunStore(database)
            senders = [
                Sender(
                    campaigns,
                    runs,
                    chat,
                    SegmentClient(stub),
                    options,
                    now=self._now,
                    lookout=lookout,
                )
                for _ in range(settings.sender_slots)
            ]
            self._wake = lambda: loop.call_soon_threadsafe(lookout.news.set)
            try:
                async with asyncio.TaskGroup() as group:
                    for sender in senders:
                        group.create_task(sender.run(stop))
            finally:
                self._wake = lambda: None
