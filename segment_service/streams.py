"""Target streams: each page is read when the reader takes it, not from one snapshot."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from herald_rpc.wire.budget import MAX_MESSAGE_BYTES
from segment_service.errors import ShuttingDownError
from segment_service.segments import Shard
from segment_service.store import TargetPage, TargetStore

# 64 KiB are left for the token
_MOST_BYTES = MAX_MESSAGE_BYTES - 64 * 1024
# what gRPC sends ahead of a reader; a page of 1,000 ids of 36 characters is 40 KiB
_LEAST_BYTES = 64 * 1024
# Pages that wait for slow readers: this much in all, then `_LEAST_BYTES` for each further stream.
# A page takes about three times its size in memory: the message, its encoding and gRPC's copy.
_WAITING_BYTES = 32 * 1024 * 1024
_SHARE_OF_THE_ROOM = 8
# half of the pool's connections; the others are left to calls, however many streams begin
_READS_AT_ONCE = 4
# an id's tag and length in the message
_FRAME_BYTES = 4


@dataclass(frozen=True, slots=True)
class TargetCursor:
    """A position in the merged targets of several segments: after the id `after`."""

    segment_ids: tuple[str, ...]
    sender_id: str
    shard: Shard
    after: str


class TargetStreams:
    """Streams that `stopping` ends with `ShuttingDownError`, each after its current page.

    Each stream holds one page in memory until its reader takes it. The more pages wait, the
    smaller the next ones are.
    """

    def __init__(self, targets: TargetStore, stopping: asyncio.Event) -> None:
        self._targets = targets
        self._stopping = stopping
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._waiting_bytes = 0

    async def pages(
        self, cursor: TargetCursor, page_size: int, page_limit: int = 0
    ) -> AsyncGenerator[tuple[Sequence[str], TargetCursor], None]:
        """Yields pages of at least one target, each with the cursor after it.

        The segments are read again for each page. A `page_limit` of 0 means no limit.
        """
        pages = 0
        at_the_end = False
        most = page_size
        while not at_the_end and (pages < page_limit or not page_limit):
            found = await self._read(cursor, most)
            page, size = _fitting(found.ids, self._room())
            whole = len(page) == len(found.ids)
            # targets that did not fit are read again, so read only as many as fitted next time
            most = min(page_size, most + most // 4 + 1) if whole else len(page)
            cursor = replace(cursor, after=found.after if whole else page[-1])
            at_the_end = found.at_the_end and whole
            if page:
                pages += 1
                # frees the ids while their message waits: they are half of its memory
                taken = [page]
                del found, page
                self._waiting_bytes += size
                try:
                    yield taken.pop(), cursor
                finally:
                    self._waiting_bytes -= size

    async def _read(self, cursor: TargetCursor, most: int) -> TargetPage:
        async with self._reads:
            if self._stopping.is_set():
                raise ShuttingDownError
            return await self._targets.ids_after(
                cursor.segment_ids, cursor.sender_id, cursor.shard, cursor.after, most
            )

    def _room(self) -> int:
        share = (_WAITING_BYTES - self._waiting_bytes) // _SHARE_OF_THE_ROOM
        return max(_LEAST_BYTES, min(_MOST_BYTES, share))


def _fitting(ids: Sequence[str], most_bytes: int) -> tuple[Sequence[str], int]:
    """Returns the first ids that fit into `most_bytes` of a message, and their size in bytes."""
    size = len("".join(ids).encode()) + _FRAME_BYTES * len(ids)
    if size <= most_bytes:
        return ids, size
    total = 0
    for count, id_ in enumerate(ids):
        size = len(id_.encode()) + _FRAME_BYTES
        if total + size > most_bytes:
            return ids[:count], total
        total += size
    return ids, total
