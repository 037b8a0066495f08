"""What events ask of the database, in the service's own words."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from campaign_service.campaigns.events import EventType, LogEntry, Place
from campaign_service.campaigns.model import Campaign
from campaign_service.campaigns.webhooks import (
    Attempt,
    AttemptOutcome,
    Backlog,
    Batch,
    Lane,
    Webhook,
)
from chat_store.paging import Page, PageRequest


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


class WebhookStore(Protocol):
    """Webhooks. Those that name one raise `WebhookNotFoundError`."""

    async def create(self, webhook: Webhook, now: datetime) -> Webhook:
        """What is stored under its id now: it, or what was there. It gets what happens from now on."""

    async def get(self, webhook_id: str) -> Webhook: ...

    async def all(self) -> Sequence[Webhook]: ...

    async def query(self, page: PageRequest) -> Page[Webhook]: ...

    async def update(
        self, webhook_id: str, change: Callable[[Webhook], Webhook], now: datetime
    ) -> Webhook:
        """What happens while it is disabled is not sent; what has happened before is kept for it."""

    async def delete(self, webhook_id: str) -> None: ...

    async def disable(self, webhook_id: str, reason: str, now: datetime) -> None:
        """Disables it with an event. No effect on one that is disabled or deleted."""

    async def is_being_sent_to(self, webhook_id: str, now: datetime) -> bool:
        """Whether a sender has the lease of one of its lanes."""

    async def backlogs(self, given: Collection[Webhook]) -> Mapping[str, Backlog]:
        """What each of them still has to get, by id."""


class LaneStore(Protocol):
    """What is to be sent to webhooks, and who sends it.

    What changes a lane raises `LaneLostError` unless the sender still has its lease.
    """

    async def distribute(self, end: Place) -> None:
        """Gives the lanes of enabled webhooks what is before `end` in the log."""

    async def claim(
        self, owner: str, now: datetime, until: datetime, *, most: int, most_of_webhook: int
    ) -> Sequence[Lane]:
        """Takes lanes that are due and in no one's lease.

        With those that others have, no more than `most_of_webhook` of one webhook are leased.
        """

    async def renew(self, lanes: Collection[Lane], until: datetime) -> None:
        """Those that the sender still has."""

    async def begin_batch(self, lane: Lane, end: Place) -> None:
        """Remembers where the batch ends, so that it is the same after a crash."""

    async def advance(self, lane: Lane, place: Place, attempts: Sequence[Attempt]) -> None:
        """What is before the place is done. There is no batch any more."""

    async def retry(
        self,
        lane: Lane,
        batch: Batch,
        attempt: Attempt,
        first_attempt_at: datetime,
        before: Sequence[Attempt],
    ) -> None:
        """Keeps the batch for the next attempt, and gives the lane back until then.

        `before` are attempts for earlier events that have not been written yet.
        """

    async def release(self, lane: Lane) -> None:
        """Lets any sender claim it, if there is anything left to send. No error for a lost lease."""


class AttemptStore(Protocol):
    """What came of attempts, and events that are sent again."""

    async def query(
        self, webhook_id: str, outcome: AttemptOutcome | None, page: PageRequest
    ) -> Page[Attempt]: ...

    async def redeliver(self, attempt_id: str, now: datetime) -> Attempt:
        """Raises `AttemptNotFoundError` and `AttemptNotDeadError`."""

    async def replay(
        self,
        webhook_id: str,
        types: Collection[EventType],
        not_before: datetime | None,
        not_after: datetime | None,
        request_id: str,
        now: datetime,
    ) -> int:
        """How many events, from the first time to before the second, are sent again.

        A `request_id` that is known has no effect; an empty one never is. Raises
        `WebhookNotFoundError`.
        """

    async def forget(self, before: datetime, most: int) -> int:
        """Deletes attempts from before the time, and replays; how many attempts."""
