"""The campaign, and the transitions of its status."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from campaign_service.campaigns.errors import StatusNotAllowedError
from campaign_service.campaigns.pushes import PushCounts

Json = Mapping[str, Any]


class Status(StrEnum):
    DRAFT = "draft"
    SCHEDULED = "scheduled"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    STOPPED = "stopped"


class Action(StrEnum):
    """An action of a caller, of the clock or of the sender that moves a campaign."""

    START = "start"
    SCHEDULE = "schedule"
    STOP = "stop"
    UPDATE = "update"
    DELETE = "delete"
    COMPLETE = "complete"
    ABORT = "abort"


_D, _S, _P, _C, _X = Status

# All transitions. Where a status maps to itself, the action has no effect on the status.
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
    """Returns the status after the action. Raises `StatusNotAllowedError`."""
    allowed = TRANSITIONS[action]
    if status not in allowed:
        raise StatusNotAllowedError(campaign_id, action, status, list(allowed))
    return allowed[status]


class SenderMode(StrEnum):
    """The channels that the sender joins. Unset means new channels only."""

    EXCLUDE = "exclude"
    INCLUDE = "include"


class SenderVisibility(StrEnum):
    """The mark of the sender's own membership of a new channel."""

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
    """The channel of a message. At most one of `members` and `members_template` is given."""

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
    """The part of a campaign that its caller writes."""

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
        """Returns whether both are equal up to the order of `user_ids`."""
        return replace(self, user_ids=()) == replace(other, user_ids=()) and set(
            self.user_ids
        ) == set(other.user_ids)

    def same_audience_as(self, other: "CampaignSpec") -> bool:
        """Returns whether a run over one audience can be resumed over the other.

        The order of segments matters, because a cursor is bound to its arguments. So does the
        sender, because `all_sender_channels` means the sender's channels.
        """
        return (
            self.segment_ids == other.segment_ids
            and set(self.user_ids) == set(other.user_ids)
            and (self.sender_id == other.sender_id or not self.segment_ids)
        )


@dataclass(frozen=True, slots=True)
class Times:
    """When a campaign starts, and when it stops if it is not completed by then."""

    scheduled_for: datetime | None = None
    stop_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The sender's progress, summed over the shards.

    `users_read` and the pushes are counted separately and lag behind.
    """

    started_at: datetime | None = None
    completed_at: datetime | None = None
    targets_total: int = 0
    messages_sent: int = 0
    users_read: int = 0
    channels_created: int = 0
    targets_skipped: int = 0
    targets_failed: int = 0
    pushes_sent: int = 0
    pushes_failed: int = 0
    pushes_skipped: int = 0

    @property
    def targets_handled(self) -> int:
        return self.messages_sent + self.targets_skipped + self.targets_failed

    @property
    def progress(self) -> float:
        """0 before the start, 1 when every target has an outcome."""
        if self.completed_at is not None:
            return 1.0
        if self.targets_total == 0:
            return 0.0
        # at most 1, although targets may join a list while the campaign runs
        return min(1.0, self.targets_handled / self.targets_total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A campaign as stored. `revision` grows with every change of the definition or the status.

    `to_channels`: the audience consists of channels and not of users. Segments never change that.
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
    created_by: str = ""
    updated_at: datetime
    updated_by: str = ""
    deleted_at: datetime | None = None


def with_late_counts(campaign: Campaign, users_read: int, pushes: PushCounts) -> Campaign:
    """Adds the counts that are not the sender's."""
    stats = replace(
        campaign.stats,
        users_read=users_read,
        pushes_sent=pushes.sent,
        pushes_failed=pushes.failed,
        pushes_skipped=pushes.skipped,
    )
    return replace(campaign, stats=stats)


def etag_of(campaign: Campaign) -> str:
    """Returns the campaign's etag; empty for a campaign that is not stored."""
    return str(campaign.revision) if campaign.revision else ""
