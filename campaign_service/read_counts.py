"""How many receivers have read their message: counted at once where that is quick, else later.

Read positions move outside of any campaign, so the number can only be counted, message by
message. A campaign with few of them is counted whenever somebody looks. Of a large one the last
count is told, and a worker counts again for those who look next.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic

import structlog

from campaign_service.campaigns import Campaign
from chat_store.errors import StoreUnavailableError
from chat_store.store import MessageStore

logger = structlog.get_logger(__name__)

# so many messages are looked through in a few milliseconds, while somebody waits
_FEW = 1_000
_MOST_KNOWN = 10_000
_SHORTEST_PAUSE_SECONDS = 1.0
# at most so small a part of the time goes into counting
_SHARE = 0.05


class ReadCounts:
    """Each process has its own; what one of them knows is as old as its last count."""

    def __init__(self, messages: MessageStore, clock: Callable[[], float] = monotonic) -> None:
        self._messages = messages
        self._clock = clock
        # of the campaigns that were looked at most recently, the latest at the end
        self._known: OrderedDict[str, int] = OrderedDict()
        self._asked: set[str] = set()

    async def of(self, campaigns: Sequence[Campaign]) -> Mapping[str, int]:
        """By campaign id. 0 for a large one that has not been counted yet."""
        left = _FEW
        few = []
        for campaign in sorted(campaigns, key=lambda c: c.stats.messages_sent):
            if campaign.to_channels or not campaign.stats.messages_sent:
                continue
            left -= campaign.stats.messages_sent
            if left >= 0:
                few.append(campaign.id)
            else:
                self._ask(campaign.id)
        counted = await self._messages.count_readers(few) if few else {}
        for campaign_id in few:
            self._remember(campaign_id, counted.get(campaign_id, 0))
        return {c.id: self._known.get(c.id, 0) for c in campaigns}

    def _ask(self, campaign_id: str) -> None:
        self._remember(campaign_id, self._known.get(campaign_id, 0))
        self._asked.add(campaign_id)

    def _remember(self, campaign_id: str, count: int) -> None:
        self._known[campaign_id] = count
        self._known.move_to_end(campaign_id)
        while len(self._known) > _MOST_KNOWN:
            forgotten, _ = self._known.popitem(last=False)
            self._asked.discard(forgotten)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            begin = self._clock()
            try:
                await self.run_once()
            except StoreUnavailableError as error:
                logger.warning("database unavailable", error=str(error))
            spent = self._clock() - begin
            with suppress(TimeoutError):
                async with asyncio.timeout(max(_SHORTEST_PAUSE_SECONDS, spent / _SHARE)):
                    await stop.wait()

    async def run_once(self) -> None:
        """Counts every campaign that somebody has asked for since it was counted last."""
        for campaign_id in list(self._asked):
            self._asked.discard(campaign_id)
            counted = await self._messages.count_readers([campaign_id])
            self._remember(campaign_id, counted.get(campaign_id, 0))
