"""The segment service's ports to its database.

Each method is one transaction, durable when it returns. Every method that takes a segment's id
raises `SegmentNotFoundError` for an unknown one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from chat_store.filters.matching import Clause
from chat_store.filters.predicates import Predicate
from chat_store.paging import Page, PageRequest
from segment_service.segments import Change, Segment, SegmentSpec, Shard, Target


class SegmentStore(Protocol):
    """Segments, and the targets of those that list them."""

    async def create(self, segment_id: str, spec: SegmentSpec, now: datetime) -> Segment:
        """Returns the stored segment if the id exists with the same content.

        Raises `SegmentAlreadyExistsError` if the content differs or the segment was deleted.
        """

    async def get(self, segment_id: str) -> Segment:
        """Returns the segment, also a deleted one."""

    async def update(self, segment_id: str, change: Change, now: datetime) -> Segment:
        """Raises as `segments.changed`, and `SegmentDeletedError`."""

    async def delete(self, segment_id: str, now: datetime) -> None:
        """Marks the segment as deleted, for good. Deleting it again is no error."""

    async def query(
        self, predicate: Predicate, page: PageRequest, *, show_deleted: bool
    ) -> Page[Segment]: ...

    async def add_targets(
        self, segment_id: str, target_ids: Sequence[str], now: datetime
    ) -> tuple[int, Segment]:
        """Returns the number of new targets, and the segment with its exact size.

        `size_updated_at` grows with every change of the list, even if the clock stands still.
        Raises as `segments.check_listing` and `segments.check_targets`.
        """

    async def remove_targets(
        self, segment_id: str, target_ids: Sequence[str], now: datetime
    ) -> tuple[int, Segment]:
        """Returns the number of removed targets, and the segment. Otherwise as `add_targets`."""


@dataclass(frozen=True, slots=True)
class SizingClaim:
    """The right to count a segment, until `until` or its definition changes."""

    segment_id: str
    until: datetime


class SizingStore(Protocol):
    """Segments that are due to be counted. Nobody else claims a segment until its claim ends."""

    async def claim(self, now: datetime, until: datetime) -> SizingClaim | None:
        """Claims the segment that has been due longest. Returns None if none is due."""

    async def finish(self, claim: SizingClaim, size: int, now: datetime, due_at: datetime) -> None:
        """Writes the size. No effect if the definition changed or the claim was lost meanwhile."""

    async def give_back(self, claim: SizingClaim, due_at: datetime) -> None: ...


@dataclass(frozen=True, slots=True)
class Explanation:
    exists: bool
    clauses: Sequence[Clause]


@dataclass(frozen=True, slots=True)
class TargetPage:
    """The ids of one page, possibly none. The next page begins after `after`."""

    ids: Sequence[str]
    after: str
    at_the_end: bool


class TargetStore(Protocol):
    """The current targets of segments, in ascending bytewise order of their ids.

    Every method raises for unusable segments, as `segments.audience`.
    """

    async def exists(self, segment_id: str, target_id: str, sender_id: str) -> bool: ...

    async def explain(self, segment_id: str, target_id: str, sender_id: str) -> Explanation: ...

    async def query(
        self, segment_id: str, sender_id: str, predicate: Predicate, page: PageRequest
    ) -> Page[Target]: ...

    async def count(self, segment_ids: Sequence[str], sender_id: str) -> int:
        """Counts exactly, each target once."""

    async def among(
        self, segment_ids: Sequence[str], sender_id: str, target_ids: Sequence[str]
    ) -> Sequence[str]:
        """Returns the given targets that are in any of the segments, ascending, each once."""

    async def ids_after(
        self, segment_ids: Sequence[str], sender_id: str, shard: Shard, after: str, limit: int
    ) -> TargetPage:
        """Returns at most `limit` targets of the shard after `after`, from all the segments.

        Each target occurs once. The empty string is before all of them.
        """
