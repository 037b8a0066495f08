"""What the campaign service asks of its database, in its own words.

One method is one transaction: what it promises is durable when it returns, and whatever crashes
before that leaves things as they were.
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
        """A draft. The same id with the same content gives what is there.

        Raises `CampaignAlreadyExistsError`.
        """

    async def get(self, campaign_id: str) -> Campaign:
        """A deleted one too. Raises `CampaignNotFoundError`."""

    async def get_with_sender(self, campaign_id: str) -> tuple[Campaign, User | None]:
        """As `get`; None if its sender is no user any more."""

    async def query(self, predicate: Predicate, page: PageRequest) -> Page[Campaign]:
        """Without `user_ids`, which may be 10,000 each. Deleted campaigns are never found."""

    async def user_ids(self, campaign_id: str, page: PageRequest) -> Page[str]:
        """The campaign's users, ascending."""


class DeliveryStore(Protocol):
    """What became of the targets of a campaign."""

    async def of_campaign(
        self, campaign_id: str, outcome: Outcome | None, page: PageRequest
    ) -> Page[Delivery]:
        """In target order, whatever `page.sort` says; None is any outcome.

        Of a deleted campaign, too. Raises `CampaignNotFoundError`.
        """


@dataclass(frozen=True, slots=True)
class DueTransition:
    """A campaign, as of `revision`, that the clock has to stop (`over`) or else to start."""

    campaign_id: str
    revision: int
    is_stop: bool
    status_reason: str


class TransitionStore(Protocol):
    """What changes a campaign's status or definition.

    Every change moves its `revision` and is kept for those who watch. With a `revision` given,
    nothing happens to a campaign that has changed since. All raise `CampaignNotFoundError`,
    `CampaignDeletedError` and, where the status does not allow it, `StatusNotAllowedError`.
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
        """Starts or resumes. No effect on one that is in progress. None: the times stay.

        Raises `QuotaExceededError` and `DatabaseHeldError`.
        """

    async def schedule(self, campaign_id: str, times: Times, now: datetime) -> None:
        """From now on the clock starts it. Raises `DatabaseHeldError`."""

    async def stop(
        self, campaign_id: str, reason: str, now: datetime, *, revision: int | None = None
    ) -> None:
        """When it returns, every page of the campaign is in and no further one can follow."""

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
        """Whether it was written: not if the campaign is not at `revision` any more.

        With another audience, a resumed run walks it from the beginning.
        """

    async def delete(self, campaign_id: str, now: datetime) -> None:
        """Softly and for good. No effect on one that is deleted."""

    async def due(self, now: datetime) -> Sequence[DueTransition]:
        """What the clock has to move now, the longest due first; at most 100.

        Nothing while the database is held.
        """

    async def set_status_reason(self, campaign_id: str, reason: str, revision: int) -> None:
        """Sets the `status_reason` of a campaign that the clock can't move yet."""

    async def refuse_if_held(self) -> None:
        """Raises `DatabaseHeldError` while the database is held."""


class ProgressStore(Protocol):
    """Campaigns as those who watch them see them: their changes, one by one."""

    async def snapshots(self, campaign_ids: Collection[str]) -> Sequence[ProgressSnapshot]:
        """How far each of them is, in one statement. Those that do not exist are left out."""

    async def revision_after(self, campaign_id: str, revision: int) -> Campaign:
        """The first change after that revision, of which there is one; without `user_ids`."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to send one shard of a campaign until `until`.

    `fence` grows with every claim: whoever holds an older one is refused, however late it wakes.
    """

    campaign_id: str
    shard: int
    shard_count: int
    fence: int
    cursor: str
    pass_number: int
    audience_version: str


# what stands for all campaigns together among the limits of a single one
GLOBAL_LIMIT = ""


class Reservation(NamedTuple):
    """Messages may be sent from `not_before` on. They were due before that if the sender is late."""

    scheduled_at: datetime
    not_before: datetime


class RunStore(Protocol):
    """A campaign's run as its senders see it.

    Every write is guarded by the lease's fence and by the campaign being in progress;
    `RunEndedError` is raised when either is gone, or when the database is held.
    """

    async def claim(self, owner: str, now: datetime, until: datetime) -> Lease | None:
        """Takes one shard of a campaign in progress that is unfinished and in no one's lease."""

    async def renew(self, lease: Lease, until: datetime) -> None: ...

    async def release(self, lease: Lease, claimable_from: datetime | None = None) -> None:
        """Lets any sender claim the shard, at once or only later. No error for a lost lease."""

    async def begin_pass(self, lease: Lease) -> None:
        """Remembers which audience this walk sets out with.

        Raises `ReferenceGoneError` for a segment that has been deleted.
        """

    async def targets_with_outcome(
        self, campaign_id: str, target_ids: Sequence[str]
    ) -> Collection[str]:
        """Those that have an outcome already."""

    async def reserve(
        self, limits: Mapping[str, int], messages: int, since: datetime, now: datetime
    ) -> Reservation:
        """Takes the next turn for so many messages. One that is not used is lost.

        `limits` are messages a second by the id of the campaign that has to keep them, or
        `GLOBAL_LIMIT` for all together. Turns that were missed after `since`, a second's at
        most, are made up little by little.
        """

    async def commit_page(self, lease: Lease, page: PlannedPage, cursor: str) -> None:
        """The page's messages, channels, outcomes, counters and cursor, all or none.

        Raises `chat_store.errors.StalePageError` when the page must be planned again,
        `QuotaReachedError` when it would pass the monthly quota, and `NobodySentToError` when
        nobody of it gets a message, some would fail, and the campaign has sent nothing.
        """

    async def recount(self, lease: Lease) -> None:
        """Makes the campaign's counters what its messages and outcomes are, counted one by one."""

    async def finish_pass(self, lease: Lease, now: datetime) -> None:
        """Ends this shard's walk over the audience.

        When all shards have, those that set out with another audience than there is now walk once
        more; if there are none, the campaign is completed. Lists wait for that: a change of one is
        seen here, or answered when the campaign is completed. Raises `ReferenceGoneError` for a
        segment that has been deleted, because the walk may have been past it.
        """

    async def abort(self, lease: Lease, reason: str, now: datetime) -> None:
        """Stops the campaign for a reason that no waiting will mend."""

    async def abort_unless_others_send(
        self, lease: Lease, reason: str, now: datetime, retried_at: datetime
    ) -> bool:
        """After `NobodySentToError`: whether the campaign was stopped.

        It goes on if it has sent something meanwhile, or has other shards that may send: those
        that are not tried yet, or that someone works on. The shard is then claimable again from
        `retried_at`.
        """

    async def set_status_reason(self, lease: Lease, reason: str) -> None:
        """Sets the `status_reason` of a campaign that has to wait; empty when it goes on."""
