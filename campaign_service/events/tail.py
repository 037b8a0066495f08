"""Follows the log for StreamEvents: one poll serves all streams."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from campaign_service.campaigns.errors import (
    EventsExpiredError,
    FuturePlaceError,
    ShuttingDownError,
)
from campaign_service.campaigns.events import Event, Place
from campaign_service.events.reader import EventReader, Selection
from campaign_service.storage.event_ports import LogEnds
from chat_store.errors import StoreUnavailableError
from herald_rpc.process.outages import Outages, repeat

BOOKMARK_SECONDS = 15.0
_POLL_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0
_EVENTS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class NextEvents:
    """Events, and the place behind them. Without events it is a bookmark."""

    events: Sequence[Event]
    place: Place


@dataclass(eq=False, slots=True)
class _Follower:
    """A stream; its client has taken everything before the place."""

    place: Place


class EventTail:
    """Polls for new events, but only while a stream is open.

    Each stream reads at its own speed; a slow one holds one page of events in memory.
    """

    def __init__(self, reader: EventReader, *, bookmark_seconds: float = BOOKMARK_SECONDS) -> None:
        self._reader = reader
        self._bookmark_seconds = bookmark_seconds
        self._followers: list[_Follower] = []
        self._end = Place(0)
        self._moved = asyncio.Event()
        self._followed = asyncio.Event()
        self._ended = False
        self._outages = Outages(StoreUnavailableError, longest_pause_seconds=_LONGEST_PAUSE_SECONDS)

    @property
    def is_well(self) -> bool:
        return not self._outages

    @property
    def reached(self) -> Place | None:
        """The place of the stream that is the farthest behind; None without a stream."""
        return min((follower.place for follower in self._followers), default=None)

    async def run(self, stop: asyncio.Event) -> None:
        """Polls until `stop` is set; then all streams end with `ShuttingDownError`."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._followed.set())
        try:
            await repeat("the poll for streams of events", self._step, stop, self._outages)
        finally:
            stopping.cancel()
            self._ended = True
            self._notify()

    async def run_once(self) -> None:
        """Reads the end of the log, and wakes the streams if it has moved."""
        end = (await self._reader.ends()).next
        if end != self._end:
            self._end = end
            self._notify()

    async def follow(
        self, start: Place | None, selection: Selection
    ) -> AsyncGenerator[NextEvents, None]:
        """Yields the events from the place on, or all that are kept, and then new ones without end.

        Raises `EventsExpiredError`, `FuturePlaceError` and `ShuttingDownError`.
        """
        ends = await self._reader.ends()
        place = ends.first if start is None else start
        if place > ends.next:
            raise FuturePlaceError
        last_yielded = place
        with self._following(place) as follower:
            while not self._ended:
                if place == ends.next:
                    is_idle = not await self._new_end(place)
                    ends = await self._reader.ends()
                    _check(place, ends)
                    if is_idle and place == ends.next:
                        last_yielded = place
                        yield NextEvents((), place)
                    continue
                begin = place
                events, place = await self._reader.read(
                    place, ends.next, selection, _EVENTS_AT_ONCE
                )
                ends = await self._reader.ends()
                # checked after reading, because entries may have been deleted meanwhile
                _check(begin, ends)
                if events or (place == ends.next and last_yielded != place):
                    last_yielded = place
                    yield NextEvents(events, place)
                follower.place = place
        raise ShuttingDownError

    async def _new_end(self, place: Place) -> bool:
        """Returns whether the log grows beyond the place before a bookmark is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._bookmark_seconds):
                while self._end <= place and not self._ended:
                    await self._moved.wait()
                return True
        return False

    @contextmanager
    def _following(self, place: Place) -> "Iterator[_Follower]":
        follower = _Follower(place)
        self._followers.append(follower)
        self._followed.set()
        try:
            yield follower
        finally:
            self._followers.remove(follower)

    def _notify(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _step(self) -> float:
        if not self._followers:
            self._followed.clear()
            await self._followed.wait()
        await self.run_once()
        return _POLL_SECONDS


def _check(place: Place, ends: LogEnds) -> None:
    if place < ends.first:
        raise EventsExpiredError
