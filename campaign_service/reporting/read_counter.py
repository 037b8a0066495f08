"""How many receivers have read their message: counted at once where that is quick, else later.

Read positions move outside of any campaign, so the number can only be counted, message by
message. A campaign with few of them is counted whenever somebody looks. Of a large one the last
count is told, and a worker counts again for those who look next: some messages at a time, for
whoever calls meanwhile waits for a core as long as it counts.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from campaign_service.campaigns.model import Campaign
from chat_store.errors import StoreUnavailableError
from chat_store.store import MessageStore
from herald_rpc.process.outages import RepeatingWorker

# looked through in a few milliseconds, while the caller waits for it
_INLINE_LIMIT = 1_000
# and these in as few, while others wait for a core
_BATCH_SIZE = 2_000
_MAX_KNOWN = 10_000
_MIN_PAUSE_SECONDS = 1.0
# at most so small a part of the time goes into counting
_MAX_CPU_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class _Count:
    """So many readers among the targets up to the one that is reached."""

    campaign_id: str
    reached: str = ""
    readers: int = 0


class ReadCounter(RepeatingWorker):
    """Each process has its own; what one of them knows is as old as its last count."""

    def __init__(self, messages: MessageStore, clock: Callable[[], float] = monotonic) -> None:
        super().__init__("counting readers", StoreUnavailableError)
        self._messages = messages
        self._clock = clock
        # of the campaigns that were looked at most recently, the latest at the end
        self._known: OrderedDict[str, int] = OrderedDict()
        # in this order, each once
        self._queue: OrderedDict[str, None] = OrderedDict()
        self._current: _Count | None = None

    async def of(self, campaigns: Sequence[Campaign]) -> Mapping[str, int]:
        """By campaign id. 0 for a large one that has not been counted yet."""
        left = _INLINE_LIMIT
        inline = []
        for campaign in sorted(campaigns, key=lambda c: c.stats.messages_sent):
            if campaign.to_channels or not campaign.stats.messages_sent:
                continue
            left -= campaign.stats.messages_sent
            if left >= 0:
                inline.append(campaign.id)
            else:
                self._enqueue(campaign.id)
        counted = await self._messages.count_readers(inline) if inline else {}
        for campaign_id in inline:
            self._remember(campaign_id, counted.get(campaign_id, 0))
        return {c.id: self._known.get(c.id, 0) for c in campaigns}

    def _enqueue(self, campaign_id: str) -> None:
        self._remember(campaign_id, self._known.get(campaign_id, 0))
        self._queue[campaign_id] = None

    def _remember(self, campaign_id: str, count: int) -> None:
        self._known[campaign_id] = count
        self._known.move_to_end(campaign_id)
        while len(self._known) > _MAX_KNOWN:
            forgotten, _ = self._known.popitem(last=False)
            self._queue.pop(forgotten, None)

    async def step(self) -> float:
        begin = self._clock()
        pause = 0.0 if await self.count_next_batch() else _MIN_PAUSE_SECONDS
        return max(pause, (self._clock() - begin) / _MAX_CPU_SHARE)

    async def count_next_batch(self) -> bool:
        """Counts some more, for those who have asked first; false if nobody waits for more."""
        count = self._current or self._next()
        if count is None:
            return False
        # given up if it can't be counted, so that the next one is; kept while the database is away
        self._current = None
        try:
            more = await self._messages.count_readers_after(
                count.campaign_id, count.reached, _BATCH_SIZE
            )
        except StoreUnavailableError:
            self._current = count
            raise
        readers = count.readers + more.readers
        if more.reached is None:
            self._remember(count.campaign_id, readers)
        else:
            self._current = _Count(count.campaign_id, more.reached, readers)
        return bool(self._current or self._queue)

    def _next(self) -> _Count | None:
        if not self._queue:
            return None
        campaign_id, _ = self._queue.popitem(last=False)
        return _Count(campaign_id)
