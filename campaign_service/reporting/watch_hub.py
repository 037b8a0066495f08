"""Watching campaigns: one poll of the database for all watched campaigns and all watchers."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from campaign_service.campaigns.errors import CampaignNotFoundError, ShuttingDownError
from campaign_service.campaigns.progress import ProgressSnapshot, WatchPosition
from campaign_service.reporting.campaign_view import CampaignViews
from campaign_service.reporting.watched_campaign import PROGRESS_SECONDS, Update, WatchedCampaign
from campaign_service.storage.ports import ProgressStore
from chat_store.errors import StoreUnavailableError
from herald_rpc.process.outages import RepeatingWorker
from herald_rpc.process.waiting import wait_at_most
from herald_rpc.wire.queries import InvalidTokenError

_TICK_SECONDS = 0.2


class WatchHub(RepeatingWorker):
    """Polls while anybody watches, and not at all otherwise.

    Each watcher pulls the next update at its own speed. A slow watcher costs nothing; it misses
    progress, but no change.
    """

    def __init__(
        self,
        store: ProgressStore,
        views: CampaignViews,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        # the longest time after which new watchers get the error of a failing poll
        super().__init__(
            "the poll for watchers", StoreUnavailableError, longest_pause_seconds=PROGRESS_SECONDS
        )
        self._store = store
        self._views = views
        self._clock = clock
        self._watched: dict[str, WatchedCampaign] = {}
        self._wake = asyncio.Event()
        self._next_poll: asyncio.Future[None] = asyncio.Future()
        self._ended = False

    async def run(self, stop: asyncio.Event) -> None:
        """Polls until `stop` is set; then all watchers end with `ShuttingDownError`."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            await super().run(stop)
        finally:
            stopping.cancel()
            self._end()

    async def run_once(self) -> None:
        """Polls the campaigns of all watchers that were there before the call.

        Raises what the poll raises: `StoreUnavailableError` while the database is unreachable.
        Watchers that wait for their first snapshot get the same error; all others go on.
        """
        poll, self._next_poll = self._next_poll, asyncio.Future()
        try:
            snapshots = await self._store.snapshots(list(self._watched))
        except Exception as error:
            _fail(poll, error)
            raise
        for snapshot in snapshots:
            if watched := self._watched.get(snapshot.campaign_id):
                watched.update(snapshot)
        poll.set_result(None)

    def poll_now(self, campaign_id: str) -> None:
        """Polls at once if the campaign is watched, instead of at the next interval."""
        if campaign_id in self._watched:
            self._wake.set()

    async def updates(
        self, campaign_id: str, seen: WatchPosition | None
    ) -> AsyncGenerator[Update, None]:
        """Yields the campaign as it is, or the updates after `seen`, and then all further ones.

        Raises `CampaignNotFoundError`, `InvalidTokenError`, `ShuttingDownError`.
        """
        with self._subscribe(campaign_id) as watched:
            latest = await self._next_snapshot(watched, campaign_id)
            if seen and seen.revision > latest.revision:
                raise InvalidTokenError(
                    "resume_token", "does not belong to a change of this campaign"
                )
            if seen and seen.revision == latest.revision and latest.is_final:
                return
            last_progress, sent_at = watched.last_progress, self._clock() - PROGRESS_SECONDS
            while not self._ended:
                if watched.last_progress and watched.last_progress is not last_progress:
                    latest = last_progress = watched.last_progress
                update, wait = None, None
                if seen is None:
                    update = await watched.progress(latest)
                elif watched.snapshot and watched.snapshot.revision > seen.revision:
                    update = await watched.revision_after(seen.revision)
                elif latest.revision == seen.revision and latest.position != seen:
                    wait = sent_at + PROGRESS_SECONDS - self._clock()
                    update = await watched.progress(latest) if wait <= 0 else None
                if update is None:
                    await watched.wait_for_change(wait)
                    continue
                seen, sent_at = update.position, self._clock()
                yield update
                if update.is_final:
                    return
            raise ShuttingDownError

    @contextmanager
    def _subscribe(self, campaign_id: str) -> Iterator[WatchedCampaign]:
        watched = self._watched.get(campaign_id)
        if watched is None:
            watched = WatchedCampaign(campaign_id, self._store, self._views, self._clock)
            self._watched[campaign_id] = watched
        watched.watchers += 1
        try:
            yield watched
        finally:
            watched.watchers -= 1
            if watched.watchers == 0:
                del self._watched[campaign_id]

    async def _next_snapshot(self, watched: WatchedCampaign, campaign_id: str) -> ProgressSnapshot:
        """Returns the campaign's state from a poll that begins after this call."""
        self._wake.set()
        # shielded, because all waiting watchers share the poll, and one may be cancelled
        await asyncio.shield(self._next_poll)
        if watched.snapshot is None:
            raise CampaignNotFoundError(campaign_id)
        return watched.snapshot

    async def step(self) -> float:
        await self._pause()
        if self._watched:
            await self.run_once()
        return 0.0

    async def _pause(self) -> None:
        await wait_at_most(self._wake, _TICK_SECONDS if self._watched else None)
        self._wake.clear()

    def _end(self) -> None:
        self._ended = True
        _fail(self._next_poll, ShuttingDownError())
        for watched in self._watched.values():
            watched.notify()


def _fail(poll: "asyncio.Future[None]", error: Exception) -> None:
    poll.set_exception(error)
    # marks the exception as retrieved, because possibly nobody waits for it
    poll.exception()
