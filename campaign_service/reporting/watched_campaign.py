"""One campaign that somebody watches: what all its watchers share."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from campaign_service.campaigns.model import Campaign
from campaign_service.campaigns.progress import Place, Standing, is_over, place_of
from campaign_service.reporting.campaign_view import Presentation
from campaign_service.storage.ports import WatchStore
from campaign_service.wire.watch import watch_response
from herald.campaign.v1 import campaign_service_pb2 as pb

PULSE_SECONDS = 1.0
_MOST_KEPT = 8


@dataclass(frozen=True, slots=True)
class Update:
    """A message for watchers, and the place after it. `over`: no other message follows."""

    message: pb.WatchCampaignResponse
    place: Place
    over: bool


class Watched:
    """Where the campaign stands, and the messages that were made of it a moment ago.

    `standing` is as fresh as the last poll. `pulse` follows it at most once a second: whoever
    tells progress by the pulse tells the same as everyone else.
    """

    def __init__(
        self,
        campaign_id: str,
        store: WatchStore,
        presentation: Presentation,
        clock: Callable[[], float],
    ) -> None:
        self.watchers = 0
        self.standing: Standing | None = None
        self.pulse: Standing | None = None
        self._pulse_at = 0.0
        self._campaign_id = campaign_id
        self._store = store
        self._presentation = presentation
        self._clock = clock
        self._news = asyncio.Event()
        self._making = asyncio.Lock()
        self._made: dict[int | Place, tuple[float, Update]] = {}
        self._change: Campaign | None = None

    def learn(self, standing: Standing) -> None:
        """Takes what a poll has found, and wakes the watchers if it is news for them."""
        now, before = self._clock(), self.standing
        self.standing = standing
        if self.pulse is None or (
            now - self._pulse_at >= PULSE_SECONDS and standing.place != self.pulse.place
        ):
            self.pulse, self._pulse_at = standing, now
            self.tell()
        elif before is None or standing.revision > before.revision:
            self.tell()

    def tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def news(self, seconds: float | None) -> None:
        """Returns when there is some, or after the seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    async def change_after(self, revision: int) -> Update:
        """The first change after that revision, as it was."""
        return await self._shared(
            revision, partial(self._store.change_after, self._campaign_id, revision)
        )

    async def progress(self, standing: Standing) -> Update:
        """The campaign at that standing."""
        return await self._shared(standing.place, partial(self._at, standing))

    async def _at(self, standing: Standing) -> Campaign:
        if self._change is None or self._change.revision != standing.revision:
            self._change = await self._store.change_after(self._campaign_id, standing.revision - 1)
        return standing.of(self._change)

    async def _shared(self, key: int | Place, read: Callable[[], Awaitable[Campaign]]) -> Update:
        """Made once for all who want it at the same time; sender and segments may change later."""
        async with self._making:
            made = self._made.pop(key, None)
            if made is None or self._clock() - made[0] >= PULSE_SECONDS:
                campaign = await read()
                place = place_of(campaign)
                message = watch_response(await self._presentation.one(campaign), place)
                over = is_over(campaign.status, campaign.deleted_at)
                made = self._clock(), Update(message, place, over)
            self._made[key] = made
            if len(self._made) > _MOST_KEPT:
                del self._made[next(iter(self._made))]
            return made[1]
