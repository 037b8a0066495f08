"""One campaign that somebody watches: what all its watchers share."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from campaign_service.campaigns.model import Campaign
from campaign_service.campaigns.progress import (
    ProgressSnapshot,
    WatchPosition,
    is_final,
    position_of,
)
from campaign_service.reporting.campaign_view import CampaignViews
from campaign_service.storage.ports import ProgressStore
from campaign_service.wire.watch import watch_response
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald_rpc.process.waiting import wait_at_most

PROGRESS_SECONDS = 1.0
_MAX_CACHED_UPDATES = 8


@dataclass(frozen=True, slots=True)
class Update:
    """A message for watchers, and the place after it. `over`: no other message follows."""

    message: pb.WatchCampaignResponse
    position: WatchPosition
    is_final: bool


class WatchedCampaign:
    """Where the campaign stands, and the messages that were made of it a moment ago.

    `standing` is as fresh as the last poll. `last_progress` follows it at most once a second: whoever
    tells progress by the pulse tells the same as everyone else.
    """

    def __init__(
        self,
        campaign_id: str,
        store: ProgressStore,
        views: CampaignViews,
        clock: Callable[[], float],
    ) -> None:
        self.watchers = 0
        self.snapshot: ProgressSnapshot | None = None
        self.last_progress: ProgressSnapshot | None = None
        self._progress_at = 0.0
        self._campaign_id = campaign_id
        self._store = store
        self._views = views
        self._clock = clock
        self._changed = asyncio.Event()
        self._making = asyncio.Lock()
        self._updates: dict[int | WatchPosition, tuple[float, Update]] = {}
        self._revision: Campaign | None = None

    def update(self, snapshot: ProgressSnapshot) -> None:
        """Takes what a poll has found, and wakes the watchers if it is news for them."""
        now, before = self._clock(), self.snapshot
        self.snapshot = snapshot
        if self.last_progress is None or (
            now - self._progress_at >= PROGRESS_SECONDS
            and snapshot.position != self.last_progress.position
        ):
            self.last_progress, self._progress_at = snapshot, now
            self.notify()
        elif before is None or snapshot.revision > before.revision:
            self.notify()

    def notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait_for_change(self, seconds: float | None) -> None:
        """Returns when there is some, or after the seconds."""
        await wait_at_most(self._changed, seconds)

    async def revision_after(self, revision: int) -> Update:
        """The first change after that revision, as it was."""
        return await self._shared(
            revision, partial(self._store.revision_after, self._campaign_id, revision)
        )

    async def progress(self, snapshot: ProgressSnapshot) -> Update:
        """The campaign at that standing."""
        return await self._shared(snapshot.position, partial(self._campaign_at, snapshot))

    async def _campaign_at(self, snapshot: ProgressSnapshot) -> Campaign:
        if self._revision is None or self._revision.revision != snapshot.revision:
            self._revision = await self._store.revision_after(
                self._campaign_id, snapshot.revision - 1
            )
        return snapshot.applied_to(self._revision)

    async def _shared(
        self, key: int | WatchPosition, read: Callable[[], Awaitable[Campaign]]
    ) -> Update:
        """Made once for all who want it at the same time; sender and segments may change later."""
        async with self._making:
            made = self._updates.pop(key, None)
            if made is None or self._clock() - made[0] >= PROGRESS_SECONDS:
                campaign = await read()
                position = position_of(campaign)
                message = watch_response(await self._views.of(campaign), position)
                is_last = is_final(campaign.status, campaign.deleted_at)
                made = self._clock(), Update(message, position, is_last)
            self._updates[key] = made
            if len(self._updates) > _MAX_CACHED_UPDATES:
                del self._updates[next(iter(self._updates))]
            return made[1]
