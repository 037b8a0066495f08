"""What the segment service asks of its database.

One method is one transaction: what it promises is durable when it returns. Every method that
takes the id of a segment raises `SegmentNotFoundError` for an unknown one.
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
        """The same id with the same content gives what is there.

        Raises `SegmentAlreadyExistsError`.
        """

    async def get(self, segment_id: str) -> Segment:
        """A deleted one, too."""

    async def update(self, segment_id: str, change: Change, now: datetime) -> Segment:
        """Raises as `segments.changed`, and `SegmentDeletedError`."""

    async def delete(self, segment_id: str, now: datetime) -> None:
        """For good, but soft. Twice is no error."""

    async def query(
        self, predicate: Predicate, page: PageRequest, *, show_deleted: bool
    ) -> Page[Segment]: ...

    async def add_targets(
        self, segment_id: str, target_ids: Sequence[str], now: datetime
    ) -> tuple[int, Segment]:
        """How many were not in yet, and the segment with its exact size.

        `size_updated_at` grows whenever the list changes, also when the clock does not. Raises as
        `segments.check_listing` and `segments.check_targets`.
        """

    async def remove_targets(
        self, segment_id: str, target_ids: Sequence[str], now: datetime
    ) -> tuple[int, Segment]:
        """How many were in, otherwise as `add_targets`."""


@dataclass(frozen=True, slots=True)
class SizingClaim:
    """The right to count a segment, until `until` or its definition changes."""

    segment_id: str
    until: datetime


class SizingStore(Protocol):
    """Segments that are due to be counted: one that is claimed by no one else until then."""

    async def claim(self, now: datetime, until: datetime) -> SizingClaim | None:
        """The one that has been due for the longest time. None: there is none."""

    async def finish(self, claim: SizingClaim, size: int, now: datetime, due_at: datetime) -> None:
        """Writes the size; no effect if the definition changed or the claim was lost meanwhile."""

    async def give_back(self, claim: SizingClaim, due_at: datetime) -> None: ...


@dataclass(frozen=True, slots=True)
class Explanation:
    exists: bool
    clauses: Sequence[Clause]


@dataclass(frozen=True, slots=True)
class TargetPage:
    """Ids of one page, maybe none, and the place to go on from unless it is the end."""

    ids: Sequence[str]
    after: str
    at_the_end: bool


class TargetStore(Protocol):
    """Who is in segments now. Targets order ascending bytewise by id.

    Every method raises for segments that can't be asked, as `segments.audience`.
    """

    async def exists(self, segment_id: str, target_id: str, sender_id: str) -> bool: ...

    async def explain(self, segment_id: str, target_id: str, sender_id: str) -> Explanation: ...

    async def query(
        self, segment_id: str, sender_id: str, predicate: Predicate, page: PageRequest
    ) -> Page[Target]: ...

    async def count(self, segment_ids: Sequence[str], sender_id: str) -> int:
        """Exactly, each target once."""

    async def among(
        self, segment_ids: Sequence[str], sender_id: str, target_ids: Sequence[str]
    ) -> Sequence[str]:
        """Those of the given targets that are in any of the segments, ascending, each once."""

    async def ids_after(
        self, segment_ids: Sequence[str], sender_id: str, shard: Shard, after: str, limit: int
    ) -> TargetPage:
        """The shard's next targets of all the segments together, each once, at most `limit`.

        The empty string is before all of them.
        """
