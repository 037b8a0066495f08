"""The ports of events and webhooks to the database."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from campaign_service.campaigns.events import EventType, LogEntry, Offset
from campaign_service.campaigns.model import Campaign
from campaign_service.campaigns.pushes import PushCounts, PushResult
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
    """The first entry that is kept, and the offset after the last one.

    While the database is `held`, nothing may be delivered.
    """

    first: Offset
    next: Offset
    held: bool


class EventLog(Protocol):
    """The log of events. Entries are only added after those that a reader has seen.

    Entries of a campaign are in the order of its changes, each before the pages sent under it.
    """

    async def ends(self) -> LogEnds:
        """Returns both ends. All entries that were committed before this call are before `next`."""

    async def entries(
        self,
        start: Offset,
        end: Offset,
        limit: int,
        *,
        types: Collection[str] = (),
        campaign_id: str | None = None,
        pushed: bool = False,
    ) -> Sequence[LogEntry]:
        """Returns entries from `start` on that have events of the types, or of any.

        Entries that `skip_webhook` mutes are left out; if `pushed`, those that `skip_push` mutes.
        """

    async def revisions(
        self, wanted: Collection[tuple[str, int]]
    ) -> Mapping[tuple[str, int], Campaign]:
        """Returns campaigns as they were at these revisions, without `user_ids`."""

    async def forget(self, before: datetime, most: int) -> int:
        """Deletes up to `most` of the oldest entries, until the first that is not older.

        Keeps entries without a position. Returns how many it has deleted.
        """


class WebhookStore(Protocol):
    """Webhooks. Methods that take an id raise `WebhookNotFoundError`."""

    async def create(self, webhook: Webhook, now: datetime) -> Webhook:
        """Creates the webhook, or returns the stored one with its id. Later events are sent to it."""

    async def get(self, webhook_id: str) -> Webhook: ...

    async def all(self) -> Sequence[Webhook]: ...

    async def query(self, page: PageRequest) -> Page[Webhook]: ...

    async def update(
        self, webhook_id: str, change: Callable[[Webhook], Webhook], now: datetime
    ) -> Webhook:
        """Changes the webhook. Events during its disabled time are not sent; earlier ones are kept."""

    async def delete(self, webhook_id: str, now: datetime) -> bool:
        """Returns whether a sender had the lease of one of its lanes.

        Raises `WebhookNotFoundError`.
        """

    async def is_being_sent_to(self, webhook_id: str, now: datetime) -> bool:
        """Returns whether a sender has the lease of one of its lanes."""

    async def backlogs(self, given: Collection[Webhook]) -> Mapping[str, Backlog]:
        """Returns the events that each webhook still has to get, by webhook id."""


class LaneStore(Protocol):
    """The lanes of webhooks: events that are still to be sent, and the leases of their senders.

    Methods that change a lane raise `LaneLostError` if the sender has lost its lease.
    """

    async def distribute(self, end: Offset) -> None:
        """Adds the events before `end` in the log to the lanes of enabled webhooks."""

    async def claim(
        self, owner: str, now: datetime, until: datetime, *, most: int, most_of_webhook: int
    ) -> Sequence[Lane]:
        """Leases up to `most` lanes that are due and not leased.

        At most `most_of_webhook` lanes of one webhook are leased, by all senders together. Leases
        none while the database is held.
        """

    async def trace_of(self, campaign_id: str) -> str:
        """Returns the `traceparent` of the campaign's start; empty if there is none."""

    async def renew(self, lanes: Collection[Lane], until: datetime) -> None:
        """Extends the leases that the sender still has."""

    async def begin_batch(self, lane: Lane, end: Offset) -> None:
        """Stores the end of the batch, so that it is the same after a crash."""

    async def advance(self, lane: Lane, offset: Offset, attempts: Sequence[Attempt]) -> None:
        """Stores that everything before the offset is done, and ends the batch."""

    async def disable_webhook(
        self, lane: Lane, offset: Offset, attempts: Sequence[Attempt], reason: str, now: datetime
    ) -> None:
        """Does as `advance`, and in the same transaction disables the lane's webhook.

        Also records the event of that. No effect on a webhook that is disabled or deleted.
        """

    async def retry(
        self,
        lane: Lane,
        batch: Batch,
        attempt: Attempt,
        first_attempt_at: datetime,
        before: Sequence[Attempt],
    ) -> None:
        """Keeps the batch for the next attempt, and releases the lane until then.

        `before` are attempts for earlier events that are not stored yet.
        """

    async def release(self, lane: Lane) -> None:
        """Lets any sender claim the lane, or deletes it if nothing is left. A lost lease is no error."""


class AttemptStore(Protocol):
    """The outcomes of attempts, and events that are sent again."""

    async def query(
        self, webhook_id: str, outcome: AttemptOutcome | None, page: PageRequest
    ) -> Page[Attempt]: ...

    async def redeliver(self, attempt_id: str, now: datetime) -> Attempt:
        """Sends the batch of a dead attempt again.

        Raises `AttemptNotFoundError` and `AttemptNotDeadError`.
        """

    async def replay(
        self,
        webhook_id: str,
        types: Collection[EventType],
        not_before: datetime | None,
        not_after: datetime | None,
        request_id: str,
        now: datetime,
    ) -> int:
        """Sends events again, from the first time to before the second; returns their number.

        A known `request_id` has no effect, and an empty one is never known. Raises
        `WebhookNotFoundError`.
        """

    async def forget(self, before: datetime, most: int) -> int:
        """Deletes attempts from before the time, and replays; how many attempts."""


class PushStore(Protocol):
    """How far pushes are in the log, for all processes together, and the counts of pushes."""

    async def begin(self) -> None:
        """Lets pushes begin at the end of the log; no effect if they have begun before."""

    async def offset(self) -> Offset:
        """Returns the offset after the events that have been taken for pushing."""

    async def advance(self, offset: Offset, reached: Offset) -> bool:
        """Takes the events between the offsets. Returns whether the caller may push them.

        False if another process has taken events from `offset` on, or the database is held.
        """

    async def count(self, counts: Mapping[tuple[str, PushResult], int]) -> None:
        """Adds to the counts, each of a campaign and a result. There is at least one."""

    async def counts(self, campaign_ids: Collection[str]) -> Mapping[str, PushCounts]:
        """Returns the counts by campaign; campaigns without any are left out."""
