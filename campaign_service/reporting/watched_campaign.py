"""The state that all watchers of one campaign share."""

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
    """A message for watchers, and the position after it. `is_final`: no other message follows."""

    message: pb.WatchCampaignResponse
    position: WatchPosition
    is_final: bool


class WatchedCampaign:
    """The state of a watched campaign, and recently built updates.

    `snapshot` is from the last poll. `last_progress` is refreshed at most once a second, so that
    all watchers report the same numbers.
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
        """Stores the snapshot of a poll, and wakes the watchers if they have to send it."""
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
        """Returns at the next change, or after the given seconds."""
        await wait_at_most(self._changed, seconds)

    async def revision_after(self, revision: int) -> Update:
        """Returns the update of the first change after that revision."""
        return await self._shared(
            revision, partial(self._store.revision_after, self._campaign_id, revision)
        )

    async def progress(self, snapshot: ProgressSnapshot) -> Update:
        """Returns the update with the progress of the snapshot."""
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
        """Builds an update once for all watchers; reused for 1 s, as sender and segments change."""
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
