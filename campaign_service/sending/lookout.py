"""What the senders of one process know of each other."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from campaign_service.store import Lease

# a page may have to wait for somebody's lock, which is no reason for all others to wait as long
_LONGEST_TURN_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Lookout:
    """Shared by the senders of a process: one of the idle ones looks for work, for all of them.

    There is a slot for each run at full speed, and nobody looks for work while all are taken.
    `news` is set when a campaign has been started here, so that it need not wait for the next look.
    While some are `walking`, the next shard is left to a process that has none, for a while.
    """

    slots: asyncio.Semaphore
    news: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    walking: set[Lease] = field(default_factory=set)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @contextmanager
    def at_work(self, lease: Lease) -> Iterator[Callable[[], None]]:
        """Gives the sender's slot back at the end, or when what it yields is called."""
        self.walking.add(lease)
        try:
            with ExitStack() as slot:
                slot.callback(self.slots.release)
                yield slot.close
        finally:
            self.walking.discard(lease)

    @asynccontextmanager
    async def page_turn(self) -> AsyncIterator[None]:
        """To be held while a page is written: one at a time, but for those that take long.

        Several at a time are no faster, for other pages are planned meanwhile, and on PostgreSQL
        those who call wait for a core behind all of them.
        """
        async with AsyncExitStack() as turn:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST_TURN_SECONDS):
                    await turn.enter_async_context(self.writing)
            yield
