"""The port to segments. `segment_client` implements it with the segment service."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Waiting = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentInfo:
    """A segment as campaigns see it.

    `encoded` is the segment's own message, which campaigns only pass on.
    """

    id: str
    of_channels: bool
    is_deleted: bool
    encoded: bytes = field(repr=False)


def is_usable(found: Mapping[str, SegmentInfo], segment_id: str) -> bool:
    """Returns whether a campaign can be sent to the segment: it exists and is not deleted."""
    return segment_id in found and not found[segment_id].is_deleted


@dataclass(frozen=True, slots=True)
class AudiencePage:
    """Some targets in ascending order, maybe none, and the cursor after them.

    They were read at `read_at`, in seconds of `time.monotonic`, or later.
    """

    target_ids: Sequence[str]
    cursor: str
    read_at: float


@dataclass(frozen=True, slots=True)
class AudienceCursor:
    """A shard of an audience, and a position in it."""

    segment_ids: tuple[str, ...]
    sender_id: str
    shard: int
    shard_count: int
    cursor: str


class Segments(Protocol):
    """The segments of campaigns.

    The calls raise `ReferenceGoneError` for segments that are unusable, and
    `SegmentServiceUnavailableError` for errors that may pass. A call on behalf of a caller ends
    before that caller's deadline.
    """

    async def by_id(self, ids: Sequence[str]) -> dict[str, SegmentInfo]:
        """Returns the segments that exist, deleted ones included."""

    async def count(self, segment_ids: Sequence[str], sender_id: str) -> int:
        """Counts exactly, each target once."""

    async def among(
        self,
        segment_ids: Sequence[str],
        sender_id: str,
        target_ids: Sequence[str],
        waiting: Waiting,
    ) -> Sequence[str]:
        """Returns the given targets that are in the segments now; waits for an unavailable service.

        Calls `waiting` as `stream` does.
        """

    def stream(
        self, start: AudienceCursor, page_size: int, waiting: Waiting
    ) -> AsyncGenerator[AudiencePage, None]:
        """Yields the targets from the cursor on, through any number of outages of the service.

        Calls `waiting` before each retry. An overloaded service is not called again before its
        retry delay has passed.
        """
