"""Follows the log for StreamEvents: one poll serves all streams."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from campaign_service.campaigns.errors import (
    EventsExpiredError,
    FutureOffsetError,
    ShuttingDownError,
)
from campaign_service.campaigns.events import Event, Offset
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
    """Events, and the offset after them. Without events it is a bookmark."""

    events: Sequence[Event]
    offset: Offset


@dataclass(eq=False, slots=True)
class _Follower:
    """A stream; its client has taken everything before the offset."""

    offset: Offset


class EventTail:
    """Polls for new events, but only while a stream is open.

    Each stream reads at its own speed; a slow one holds one page of events in memory.
    """

    def __init__(self, reader: EventReader, *, bookmark_seconds: float = BOOKMARK_SECONDS) -> None:
        self._reader = reader
        self._bookmark_seconds = bookmark_seconds
        self._followers: list[_Follower] = []
        self._end = Offset(0)
        self._moved = asyncio.Event()
        self._followed = asyncio.Event()
        self._ended = False
        self._outages = Outages(StoreUnavailableError, longest_pause_seconds=_LONGEST_PAUSE_SECONDS)

    @property
    def is_well(self) -> bool:
        return not self._outages

    @property
    def reached(self) -> Offset | None:
        """The smallest offset of a stream; None without a stream."""
        return min((follower.offset for follower in self._followers), default=None)

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
        self, start: Offset | None, selection: Selection
    ) -> AsyncGenerator[NextEvents, None]:
        """Yields the events from the offset on, or all that are kept, and then new ones without end.

        Raises `EventsExpiredError`, `FutureOffsetError` and `ShuttingDownError`.
        """
        ends = await self._reader.ends()
        offset = ends.first if start is None else start
        if offset > ends.next:
            raise FutureOffsetError
        last_yielded = offset
        with self._following(offset) as follower:
            while not self._ended:
                if offset == ends.next:
                    is_idle = not await self._new_end(offset)
                    ends = await self._reader.ends()
                    _check(offset, ends)
                    if is_idle and offset == ends.next:
                        last_yielded = offset
                        yield NextEvents((), offset)
                    continue
                begin = offset
                events, offset = await self._reader.read(
                    offset, ends.next, selection, _EVENTS_AT_ONCE
                )
                ends = await self._reader.ends()
                # checked after reading, because entries may have been deleted meanwhile
                _check(begin, ends)
                if events or (offset == ends.next and last_yielded != offset):
                    last_yielded = offset
                    yield NextEvents(events, offset)
                follower.offset = offset
        raise ShuttingDownError

    async def _new_end(self, offset: Offset) -> bool:
        """Returns whether the log grows beyond the offset before a bookmark is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._bookmark_seconds):
                while self._end <= offset and not self._ended:
                    await self._moved.wait()
                return True
        return False

    @contextmanager
    def _following(self, offset: Offset) -> "Iterator[_Follower]":
        follower = _Follower(offset)
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


def _check(offset: Offset, ends: LogEnds) -> None:
    if offset < ends.first:
        raise EventsExpiredError
