"""What the senders of one process know of each other."""

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
    """Shared by the senders of a process: one of the idle ones looks for work, for all of them.

    There is a slot for each run at full speed, and nobody looks for work while all are taken.
    `work_available` is set when a campaign has been started here, so that it need not wait for the next look.
    While some are `active_leases`, the next shard is left to a process that has none, for a while.
    """

    slots: asyncio.Semaphore
    work_available: asyncio.Event = field(default_factory=asyncio.Event)
    poll_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    active_leases: set[Lease] = field(default_factory=set)
    outages: Outages = field(default_factory=_outages)

    @contextmanager
    def occupy_slot(self, lease: Lease) -> Iterator[Callable[[], None]]:
        """Gives the sender's slot back at the end, or when what it yields is called."""
        self.active_leases.add(lease)
        try:
            with ExitStack() as slot:
                slot.callback(self.slots.release)
                yield slot.close
        finally:
            self.active_leases.discard(lease)
