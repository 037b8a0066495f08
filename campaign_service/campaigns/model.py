"""What a campaign is, and how its status moves."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from campaign_service.campaigns.errors import StatusNotAllowedError

Json = Mapping[str, Any]


class Status(StrEnum):
    DRAFT = "draft"
    SCHEDULED = "scheduled"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    STOPPED = "stopped"


class Action(StrEnum):
    """What moves a campaign: its callers, the clock, and the sender."""

    START = "start"
    SCHEDULE = "schedule"
    STOP = "stop"
    UPDATE = "update"
    DELETE = "delete"
    COMPLETE = "complete"
    ABORT = "abort"


_D, _S, _P, _C, _X = Status

# Every move that exists. A status that maps to itself is an action without effect on the status.
TRANSITIONS: Mapping[Action, Mapping[Status, Status]] = {
    Action.START: {_D: _P, _S: _P, _P: _P, _X: _P},
    Action.SCHEDULE: {_D: _S, _S: _S, _X: _S},
    Action.STOP: {_S: _X, _P: _X, _X: _X},
    Action.UPDATE: {_D: _D, _S: _S, _X: _X},
    Action.DELETE: {_D: _D, _S: _S, _X: _X, _C: _C},
    Action.COMPLETE: {_P: _C},
    Action.ABORT: {_P: _X},
}


def next_status(campaign_id: str, status: Status, action: Action) -> Status:
    """Raises `StatusNotAllowedError`, which names both and what would have been allowed."""
    allowed = TRANSITIONS[action]
    if status not in allowed:
        raise StatusNotAllowedError(campaign_id, action, status, list(allowed))
    return allowed[status]


class SenderMode(StrEnum):
    """Unset, the sender joins new channels only."""

    EXCLUDE = "exclude"
    INCLUDE = "include"


class SenderVisibility(StrEnum):
    """How the sender's own membership of a new channel is marked."""

    HIDDEN = "hidden"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTemplate:
    text: str
    attachments: tuple[Json, ...] = ()
    poll_id: str | None = None
    custom: Json = field(default_factory=dict)
    searchable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberTemplate:
    user_id: str
    channel_role: str = "channel_member"
    custom: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTemplate:
    """`members` and `members_template` say the same in two ways; at most one of them is given."""

    type: str
    id: str | None = None
    team: str | None = None
    custom: Json = field(default_factory=dict)
    members: tuple[str, ...] = ()
    members_template: tuple[MemberTemplate, ...] = ()

    @property
    def extra_members(self) -> tuple[MemberTemplate, ...]:
        return self.members_template or tuple(
            MemberTemplate(user_id=user_id) for user_id in self.members
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignSpec:
    """All of a campaign that its caller writes."""

    name: str = ""
    description: str = ""
    sender_id: str
    segment_ids: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    sender_mode: SenderMode | None = None
    sender_visibility: SenderVisibility | None = None
    message_template: MessageTemplate
    create_channels: bool = False
    show_channels: bool = False
    channel_template: ChannelTemplate | None = None
    skip_push: bool = False
    skip_webhook: bool = False
    max_messages_per_second: int = 0

    def same_as(self, other: "CampaignSpec") -> bool:
        """The users are a set; a stored definition has them in order."""
        return replace(self, user_ids=()) == replace(other, user_ids=()) and set(
            self.user_ids
        ) == set(other.user_ids)

    def same_audience_as(self, other: "CampaignSpec") -> bool:
        """Whether a walk over the one can be taken up in the other.

        The order of segments counts: a place in a stream belongs to exactly its arguments. So does
        the sender, who gives a segment of all their channels its meaning.
        """
        return (
            self.segment_ids == other.segment_ids
            and set(self.user_ids) == set(other.user_ids)
            and (self.sender_id == other.sender_id or not self.segment_ids)
        )


@dataclass(frozen=True, slots=True)
class Times:
    """When a campaign is to start, and when to stop if it is not completed by then."""

    scheduled_for: datetime | None = None
    stop_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What the sender has done so far, summed over its shards, and what came of it.

    `users_read` is counted apart and fills in late.
    """

    started_at: datetime | None = None
    completed_at: datetime | None = None
    targets_total: int = 0
    messages_sent: int = 0
    users_read: int = 0
    channels_created: int = 0
    targets_skipped: int = 0
    targets_failed: int = 0

    @property
    def targets_handled(self) -> int:
        return self.messages_sent + self.targets_skipped + self.targets_failed

    @property
    def progress(self) -> float:
        """0 before the start, 1 when everyone has an outcome."""
        if self.completed_at is not None:
            return 1.0
        if self.targets_total == 0:
            return 0.0
        # targets may join a list while the campaign runs
        return min(1.0, self.targets_handled / self.targets_total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """`revision` grows with every change of the definition or the status.

    `to_channels`: the audience is channels and not users; its segments can't change that.
    """

    id: str
    spec: CampaignSpec
    to_channels: bool
    status: Status
    status_reason: str = ""
    scheduled_for: datetime | None = None
    stop_at: datetime | None = None
    stats: Stats
    revision: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None


def with_readers(campaign: Campaign, users_read: int) -> Campaign:
    return replace(campaign, stats=replace(campaign.stats, users_read=users_read))


def etag_of(campaign: Campaign) -> str:
    """Empty for a campaign that is not written."""
    return str(campaign.revision) if campaign.revision else ""
