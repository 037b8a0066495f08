"""What events ask of the database, in the service's own words."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from campaign_service.campaigns.events import LogEntry, Place
from campaign_service.campaigns.model import Campaign


@dataclass(frozen=True, slots=True)
class LogEnds:
    """The first entry that is kept, and the place behind the last one."""

    first: Place
    next: Place


class EventLog(Protocol):
    """What has happened, in an order in which nothing is ever put in behind a reader.

    Within a campaign it is the order of its changes, each before the pages that were sent under it.
    """

    async def ends(self) -> LogEnds:
        """Everything that was committed before this call is before `next`."""

    async def entries(
        self,
        start: Place,
        end: Place,
        limit: int,
        *,
        types: Collection[str] = (),
        campaign_id: str | None = None,
    ) -> Sequence[LogEntry]:
        """Those from `start` on that have events of the types, or of any; no muted ones."""

    async def revisions(
        self, wanted: Collection[tuple[str, int]]
    ) -> Mapping[tuple[str, int], Campaign]:
        """Campaigns as they were at these revisions, without `user_ids`."""

    async def forget(self, before: datetime, most: int) -> int:
        """Deletes the oldest entries, `most` of them, up to the first that is not older.

        Those that have no position yet are kept. How many they were.
        """
