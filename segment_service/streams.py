"""Target streams: page after page, each read at its own moment."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from segment_service.errors import ShuttingDownError
from segment_service.segments import Shard
from segment_service.store import TargetStore

# 4 MiB is what a gRPC client receives unless told otherwise; less room for the token.
_MOST_BYTES = 4 * 1024 * 1024 - 64 * 1024
# an id's tag and length in the message
_FRAME_BYTES = 4


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """A place in the targets of several segments together: after the id `after`."""

    segment_ids: tuple[str, ...]
    sender_id: str
    shard: Shard
    after: str


class TargetStreams:
    """`stopping` ends all of them with `ShuttingDownError`, each after the page in hand."""

    def __init__(self, targets: TargetStore, stopping: asyncio.Event) -> None:
        self._targets = targets
        self._stopping = stopping

    async def pages(
        self, place: StreamPlace, page_size: int, page_limit: int
    ) -> AsyncIterator[tuple[Sequence[str], StreamPlace]]:
        """Targets, at least one, and the place after them. The segments are read anew each time.

        A `page_limit` of 0 is none.
        """
        pages = 0
        at_the_end = False
        while not at_the_end and (pages < page_limit or not page_limit):
            if self._stopping.is_set():
                raise ShuttingDownError
            found = await self._targets.ids_after(
                place.segment_ids, place.sender_id, place.shard, place.after, page_size
            )
            page = _fitting(found.ids)
            whole = len(page) == len(found.ids)
            place = replace(place, after=found.after if whole else page[-1])
            if page:
                pages += 1
                yield page, place
            at_the_end = found.at_the_end and whole


def _fitting(ids: Sequence[str]) -> Sequence[str]:
    """The first ones that fit into one message."""
    if len("".join(ids).encode()) + _FRAME_BYTES * len(ids) <= _MOST_BYTES:
        return ids
    total = 0
    for count, id_ in enumerate(ids):
        total += len(id_.encode()) + _FRAME_BYTES
        if total > _MOST_BYTES:
            return ids[:count]
    return ids
