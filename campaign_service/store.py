"""What the campaign service asks of its database, in its own words.

One method is one transaction: what it promises is durable when it returns, and whatever crashes
before that leaves things as they were.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from campaign_service.campaigns import Campaign, Definition
from campaign_service.page import PlannedPage
from chat_store.paging import Page, PageRequest
from chat_store.predicates import Predicate


class CampaignStore(Protocol):
    """Campaigns as their callers see them."""

    async def create(
        self, campaign_id: str, definition: Definition, now: datetime, *, to_channels: bool
    ) -> Campaign:
        """A draft. The same id with the same content gives what is there.

        Raises `CampaignAlreadyExistsError`.
        """

    async def get(self, campaign_id: str) -> Campaign:
        """A deleted one too. Raises `CampaignNotFoundError`."""

    async def query(self, predicate: Predicate, page: PageRequest) -> Page[Campaign]:
        """Without `user_ids`, which may be 10,000 each. Deleted campaigns are never found."""

    async def user_ids(self, campaign_id: str, page: PageRequest) -> Page[str]:
        """The campaign's users, ascending."""

    async def start(self, campaign_id: str, targets_total: int, shards: int, now: datetime) -> None:
        """Starts or resumes. No effect on one that is in progress.

        Raises `StatusNotAllowedError`, `CampaignNotFoundError`, `CampaignDeletedError`.
        """

    async def stop(self, campaign_id: str, reason: str, now: datetime) -> None:
        """When it returns, every page of the campaign is in and no further one can follow.

        Raises as `start`.
        """


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


class RunStore(Protocol):
    """A campaign's run as its senders see it.

    Every write is guarded by the lease's fence and by the campaign being in progress;
    `RunEndedError` is raised when either is gone.
    """

    async def claim(self, owner: str, now: datetime, until: datetime) -> Lease | None:
        """Takes one shard of a campaign in progress that is unfinished and in no one's lease."""

    async def renew(self, lease: Lease, until: datetime) -> None: ...

    async def release(self, lease: Lease, claimable_from: datetime | None = None) -> None:
        """Lets any sender claim the shard, at once or only later. No error for a lost lease."""

    async def begin_pass(self, lease: Lease, audience_version: str) -> None:
        """Remembers which audience this walk set out with."""

    async def handled(self, campaign_id: str, target_ids: Sequence[str]) -> Collection[str]:
        """Those that have an outcome already."""

    async def commit_page(self, lease: Lease, page: PlannedPage, cursor: str) -> None:
        """The page's messages, channels, outcomes, counters and cursor, all or none.

        Raises `chat_store.errors.StalePageError` when the page must be planned again.
        """

    async def finish_pass(self, lease: Lease, audience_version: str, now: datetime) -> None:
        """Ends this shard's walk over the audience.

        When all shards have, those that set out with another audience than `audience_version`
        walk once more; if there are none, the campaign is completed.
        """

    async def abort(self, lease: Lease, reason: str, now: datetime) -> None:
        """Stops the campaign for a reason that no waiting will mend."""

    async def explain(self, lease: Lease, reason: str) -> None:
        """Sets the `status_reason` of a campaign that has to wait; empty when it goes on."""
