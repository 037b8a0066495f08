"""The campaign service's ports to its database.

Each method is one transaction, durable when it returns. A crash before that changes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from campaign_service.campaigns.model import Campaign, CampaignSpec, Times
from campaign_service.campaigns.outcomes import Delivery, Outcome
from campaign_service.campaigns.progress import ProgressSnapshot
from campaign_service.planning.page import PlannedPage
from chat_store.filters.predicates import Predicate
from chat_store.models import User
from chat_store.paging import Page, PageRequest


class CampaignStore(Protocol):
    """Campaigns as their callers see them."""

    async def create(
        self, campaign_id: str, spec: CampaignSpec, now: datetime, *, to_channels: bool
    ) -> Campaign:
        """Creates a draft, or returns the stored campaign if the id has the same content.

        Raises `CampaignAlreadyExistsError`.
        """

    async def get(self, campaign_id: str) -> Campaign:
        """Returns the campaign, also a deleted one. Raises `CampaignNotFoundError`."""

    async def get_with_sender(self, campaign_id: str) -> tuple[Campaign, User | None]:
        """Does as `get`, with the sender; None if that user no longer exists."""

    async def query(self, predicate: Predicate, page: PageRequest) -> Page[Campaign]:
        """Returns campaigns without `user_ids` (up to 10,000 each). Skips deleted ones."""

    async def user_ids(self, campaign_id: str, page: PageRequest) -> Page[str]:
        """Returns the campaign's user ids, ascending."""


class DeliveryStore(Protocol):
    """The outcomes of a campaign's targets."""

    async def of_campaign(
        self, campaign_id: str, outcome: Outcome | None, page: PageRequest
    ) -> Page[Delivery]:
        """Returns deliveries in target order; ignores `page.sort`. None means any outcome.

        Also works for a deleted campaign. Raises `CampaignNotFoundError`.
        """


@dataclass(frozen=True, slots=True)
class DueTransition:
    """A campaign, as of `revision`, that is due to stop (`is_stop`) or else to start."""

    campaign_id: str
    revision: int
    is_stop: bool
    status_reason: str


class TransitionStore(Protocol):
    """Changes of a campaign's status or definition.

    Every change raises the `revision` and is recorded for watchers. If a `revision` is given, a
    campaign that has changed since stays as it is. All raise `CampaignNotFoundError`,
    `CampaignDeletedError` and, if the status does not allow the change, `StatusNotAllowedError`.
    """

    async def start(
        self,
        campaign_id: str,
        targets_total: int,
        now: datetime,
        *,
        times: Times | None = None,
        revision: int | None = None,
    ) -> None:
        """Starts or resumes; no effect on a campaign in progress. None keeps the times.

        Raises `QuotaExceededError` and `DatabaseHeldError`.
        """

    async def schedule(self, campaign_id: str, times: Times, now: datetime) -> None:
        """Schedules the campaign. Raises `DatabaseHeldError`."""

    async def stop(
        self, campaign_id: str, reason: str, now: datetime, *, revision: int | None = None
    ) -> None:
        """Stops the campaign. On return, all its pages are written and no other can follow."""

    async def update(
        self,
        campaign_id: str,
        spec: CampaignSpec,
        revision: int,
        now: datetime,
        *,
        to_channels: bool,
        audience_changed: bool,
    ) -> bool:
        """Writes the spec, unless the campaign has changed since `revision`.

        Returns whether it was written. If the audience changed, every shard restarts from the
        beginning.
        """

    async def delete(self, campaign_id: str, now: datetime) -> None:
        """Marks the campaign as deleted, for good. No effect on a deleted one."""

    async def due(self, now: datetime) -> Sequence[DueTransition]:
        """Returns at most 100 due transitions, the longest due first.

        Returns none while the database is held.
        """

    async def set_status_reason(self, campaign_id: str, reason: str, revision: int) -> None:
        """Sets the `status_reason` of a due campaign that can't be started yet."""

    async def refuse_if_held(self) -> None:
        """Raises `DatabaseHeldError` while the database is held."""


class ProgressStore(Protocol):
    """Campaigns as watchers see them: their changes, one by one."""

    async def snapshots(self, campaign_ids: Collection[str]) -> Sequence[ProgressSnapshot]:
        """Returns the progress of each, in one statement. Leaves out unknown campaigns."""

    async def revision_after(self, campaign_id: str, revision: int) -> Campaign:
        """Returns the first change after that revision, which must exist; without `user_ids`."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to send one shard of a campaign until `until`.

    `fence` grows with every claim: a sender with an older one is refused, however late it wakes.
    """

    campaign_id: str
    shard: int
    shard_count: int
    fence: int
    cursor: str
    pass_number: int
    audience_version: str


# the id of the limit of all campaigns together
GLOBAL_LIMIT = ""


class Reservation(NamedTuple):
    """Messages may be sent from `not_before` on. They were due at `scheduled_at`, maybe earlier."""

    scheduled_at: datetime
    not_before: datetime


class RunStore(Protocol):
    """A campaign's run as its senders see it.

    Every write is guarded by the lease's fence and by the campaign being in progress. It raises
    `RunEndedError` if either guard fails, or if the database is held.
    """

    async def claim(self, owner: str, now: datetime, until: datetime) -> Lease | None:
        """Claims an unfinished, unleased shard of a campaign in progress; None if there is none."""

    async def renew(self, lease: Lease, until: datetime) -> None: ...

    async def release(self, lease: Lease, claimable_from: datetime | None = None) -> None:
        """Lets any sender claim the shard, at once or from a time on. A lost lease is no error."""

    async def begin_pass(self, lease: Lease) -> None:
        """Records the audience version with which this pass begins.

        Raises `ReferenceGoneError` for a deleted segment.
        """

    async def targets_with_outcome(
        self, campaign_id: str, target_ids: Sequence[str]
    ) -> Collection[str]:
        """Returns the targets that have an outcome already."""

    async def reserve(
        self, limits: Mapping[str, int], messages: int, since: datetime, now: datetime
    ) -> Reservation:
        """Takes the next reservation for the messages. An unused reservation is lost.

        `limits` are messages per second by campaign id, or by `GLOBAL_LIMIT` for all campaigns
        together. Time missed after `since`, at most 1 s, is caught up gradually.
        """

    async def commit_page(self, lease: Lease, page: PlannedPage, cursor: str) -> None:
        """Writes the page's messages, channels, outcomes, counters and cursor, all or none.

        Raises `RunEndedError`, `chat_store.errors.StalePageError` if the page must be planned
        again, `QuotaReachedError` if it would pass the monthly quota, and `NobodySentToError` if
        the campaign has sent nothing and the page has a `first_failure`.
        """

    async def recount(self, lease: Lease) -> None:
        """Sets the campaign's counters to its messages and outcomes, counted one by one."""

    async def finish_pass(self, lease: Lease, now: datetime) -> None:
        """Ends this shard's pass over the audience.

        When the last shard ends, shards that began with another audience version make another
        pass; if there are none, the campaign is completed. Changes of lists are locked out
        meanwhile: each is either seen here, or acknowledged after the completion. Raises
        `ReferenceGoneError` for a deleted segment, because the pass may have missed its targets.
        """

    async def abort(self, lease: Lease, reason: str, now: datetime) -> None:
        """Stops the campaign for a permanent reason."""

    async def abort_unless_others_send(
        self, lease: Lease, reason: str, now: datetime, retried_at: datetime
    ) -> bool:
        """Stops the campaign after `NobodySentToError`. Returns whether it was stopped.

        It goes on if it has sent something meanwhile, or as long as an unfinished shard has not
        met the same. Then this shard can be claimed again from `retried_at` on.
        """

    async def set_status_reason(self, lease: Lease, reason: str) -> None:
        """Sets the `status_reason` of a campaign that waits; empty when it goes on."""
