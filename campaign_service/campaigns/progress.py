"""The progress of a campaign, and the position of a watcher in its history."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zlib import crc32

from campaign_service.campaigns.model import Campaign, Stats, Status


@dataclass(frozen=True, slots=True)
class WatchPosition:
    """A position in a campaign's history: a revision, and the progress since.

    `progress` is opaque: only equality is meaningful, and only within one revision.
    """

    revision: int
    progress: str


@dataclass(frozen=True, slots=True)
class ProgressSnapshot:
    """The state of a campaign without its content. `counters` are fields of `Stats`."""

    campaign_id: str
    revision: int
    is_final: bool
    status_reason: str
    counters: Mapping[str, Any]

    @property
    def position(self) -> WatchPosition:
        return _position(self.revision, Stats(**self.counters), self.status_reason)

    def applied_to(self, revision: Campaign) -> Campaign:
        """Returns the campaign of this revision with the progress since."""
        return replace(
            revision,
            status_reason=self.status_reason,
            stats=replace(revision.stats, **self.counters),
        )


def position_of(revision: Campaign) -> WatchPosition:
    return _position(revision.revision, revision.stats, revision.status_reason)


def is_final(status: Status, deleted_at: datetime | None) -> bool:
    """Returns whether nothing more happens without a caller's action."""
    return deleted_at is not None or status in (Status.COMPLETED, Status.STOPPED)


def _position(revision: int, stats: Stats, reason: str) -> WatchPosition:
    return WatchPosition(revision, f"{stats.targets_handled}:{crc32(reason.encode()):x}")
