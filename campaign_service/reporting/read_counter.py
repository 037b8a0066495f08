"""Counts the receivers who have read their message: at once if that is quick, else later.

Read positions move independently of campaigns, so the number can only be counted message by
message. A small campaign is counted for every request. For a large one, the response has the last
count, and a worker counts again for the next request, in small batches, because calls compete with
it for a core.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from campaign_service.campaigns.model import Campaign
from chat_store.errors import StoreUnavailableError
from chat_store.store import MessageStore
from herald_rpc.process.outages import RepeatingWorker

# messages counted inline, while the caller waits: about 3 ms
_INLINE_LIMIT = 1_000
# messages in a batch of the background count: a few milliseconds
_BATCH_SIZE = 2_000
_MAX_KNOWN = 10_000
_MIN_PAUSE_SECONDS = 1.0
# the background count uses at most 5 % of the time
_MAX_CPU_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class _Count:
    """An unfinished count: the readers among the targets up to `reached`."""

    campaign_id: str
    reached: str = ""
    readers: int = 0


class ReadCounter(RepeatingWorker):
    """The counts that one process knows, each as old as its last count."""

    def __init__(self, messages: MessageStore, clock: Callable[[], float] = monotonic) -> None:
        super().__init__("counting readers", StoreUnavailableError)
        self._messages = messages
        self._clock = clock
        # counts of the most recently requested campaigns, the latest last
        self._known: OrderedDict[str, int] = OrderedDict()
        # campaigns to count in this order, each once
        self._queue: OrderedDict[str, None] = OrderedDict()
        self._current: _Count | None = None

    async def of(self, campaigns: Sequence[Campaign]) -> Mapping[str, int]:
        """Returns counts by campaign id; 0 for a large campaign not counted yet."""
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
        """Counts the next batch, first come, first served. Returns false if no campaign waits."""
        count = self._current or self._next()
        if count is None:
            return False
        # dropped if it can't be counted, so that others are; kept while the database is unavailable
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
