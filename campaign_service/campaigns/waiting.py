"""The cause for which a campaign waits, judged by what the database says of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from campaign_service.campaigns.model import Status

# beginnings of `status_reason`
FOR_SEGMENT_SERVICE = "waiting for the segment service"
RETRYING = "retrying: "
INTERNAL_ERROR = "internal error"
TO_START = "waiting to start: "

# A sender renews its lease when a third of it is over. If less than a third is left, the renewal is
# late by as much, and the sender is gone or stuck.
_STALE = 1 / 3


class Cause(StrEnum):
    """Why a campaign that is scheduled or in progress does not go on at full speed.

    LIMIT: its messages wait for a limit, its own or that of all campaigns. DATABASE: the database
    is down or refuses a page. SEGMENT_SERVICE: the audience can't be read. LEASE: no sender works
    on it, because the one that had its lease is gone, or because all are busy. SCHEDULE: its time
    has not come. HOLD: an operator has not decided about a restored database. ERROR: an error of
    Herald's own, which the log has.
    """

    LIMIT = "limit"
    DATABASE = "database"
    SEGMENT_SERVICE = "segment_service"
    LEASE = "lease"
    SCHEDULE = "schedule"
    HOLD = "hold"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCampaign:
    """A campaign that is scheduled or in progress.

    `leased_until`: the end of the lease of the shard that is leased longest; None without one.
    `reserved_until`: when the limiter lets its next message be sent; None without a limit.
    """

    campaign_id: str
    status: Status
    status_reason: str
    targets_total: int
    handled: Mapping[str, int]
    leased_until: datetime | None
    reserved_until: datetime | None
    is_held: bool


def cause_of(campaign: RunningCampaign, now: datetime, lease_time: timedelta) -> Cause | None:
    """Returns the one cause that holds; None if the campaign goes on."""
    reason = campaign.status_reason
    if campaign.is_held:
        return Cause.HOLD
    if campaign.status is Status.SCHEDULED:
        if not reason.startswith(TO_START):
            return Cause.SCHEDULE
        return Cause.ERROR if reason.endswith(INTERNAL_ERROR) else Cause.SEGMENT_SERVICE
    alive_after = now + lease_time * _STALE
    if reason.startswith(RETRYING):
        # its shards are left alone until the next try, which another sender may make
        if campaign.leased_until is None or campaign.leased_until < now - lease_time * _STALE:
            return Cause.LEASE
        return Cause.ERROR if reason.endswith(INTERNAL_ERROR) else Cause.DATABASE
    if campaign.leased_until is None or campaign.leased_until < alive_after:
        return Cause.LEASE
    if reason.startswith(FOR_SEGMENT_SERVICE):
        return Cause.SEGMENT_SERVICE
    if campaign.reserved_until is not None and campaign.reserved_until > now:
        return Cause.LIMIT
    return None
