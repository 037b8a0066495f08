"""Coordinates how the senders of one process claim shards."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from campaign_service.campaigns.errors import SegmentServiceUnavailableError
from campaign_service.storage.ports import Lease
from chat_store.errors import StalePageError, StoreUnavailableError
from herald_rpc.process.outages import Outages


def _outages() -> Outages:
    return Outages(StoreUnavailableError, SegmentServiceUnavailableError, StalePageError)


@dataclass(frozen=True, slots=True)
class ClaimCoordinator:
    """Shared by the senders of a process. One idle sender at a time polls for work.

    There is a slot for each run at full speed. Without a free slot, no sender polls.
    `work_available` is set when a campaign was started, so that it does not wait for the next poll.
    A process with `active_leases` waits 0.2 s before it claims another shard, so that idle processes
    go first.
    """

    slots: asyncio.Semaphore
    work_available: asyncio.Event = field(default_factory=asyncio.Event)
    poll_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    active_leases: set[Lease] = field(default_factory=set)
    outages: Outages = field(default_factory=_outages)

    @contextmanager
    def occupy_slot(self, lease: Lease) -> Iterator[Callable[[], None]]:
        """Releases the slot at the end, or earlier when the yielded function is called."""
        self.active_leases.add(lease)
        try:
            with ExitStack() as slot:
                slot.callback(self.slots.release)
                yield slot.close
        finally:
            self.active_leases.discard(lease)
