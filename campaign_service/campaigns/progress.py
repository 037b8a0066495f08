"""How far a campaign is, and how much of it a watcher has seen."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zlib import crc32

from campaign_service.campaigns.model import Campaign, Stats, Status


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a campaign's history: a change, and the progress since.

    `progress` tells nothing but whether there was some between two places of one revision.
    """

    revision: int
    progress: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What can be told of a campaign without its content. `counters` are fields of `Stats`."""

    campaign_id: str
    revision: int
    over: bool
    status_reason: str
    counters: Mapping[str, Any]

    @property
    def place(self) -> Place:
        return _place(self.revision, Stats(**self.counters), self.status_reason)

    def of(self, change: Campaign) -> Campaign:
        """The campaign that was as `change` says at this revision, and got further since."""
        return replace(
            change,
            status_reason=self.status_reason,
            stats=replace(change.stats, **self.counters),
        )


def place_of(change: Campaign) -> Place:
    return _place(change.revision, change.stats, change.status_reason)


def is_over(status: Status, deleted_at: datetime | None) -> bool:
    """Whether nothing more happens until a caller wants it."""
    return deleted_at is not None or status in (Status.COMPLETED, Status.STOPPED)


def _place(revision: int, stats: Stats, reason: str) -> Place:
    return Place(revision, f"{stats.targets_handled}:{crc32(reason.encode()):x}")
