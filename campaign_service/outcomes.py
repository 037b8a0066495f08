"""What became of a target."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Outcome(StrEnum):
    SENT = "sent"
    SKIPPED = "skipped"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a target got no message. Skipped: it can't be reached. Failed: the campaign's fault."""

    USER_NOT_FOUND = "user_not_found"
    USER_DEACTIVATED = "user_deactivated"
    USER_DELETED = "user_deleted"
    CHANNEL_NOT_FOUND = "channel_not_found"
    CHANNEL_FROZEN = "channel_frozen"
    TEAM_MISMATCH = "team_mismatch"
    CHANNEL_ID_INVALID = "channel_id_invalid"
    TEMPLATE_ERROR = "template_error"
    MESSAGE_TOO_LONG = "message_too_long"

    @property
    def outcome(self) -> Outcome:
        return Outcome.FAILED if self in _FAILURES else Outcome.SKIPPED


_FAILURES = frozenset({Reason.CHANNEL_ID_INVALID, Reason.TEMPLATE_ERROR, Reason.MESSAGE_TOO_LONG})


@dataclass(frozen=True, slots=True)
class NotSent:
    """A target without a message, and why; `cid` is the channel that is the reason, if one is."""

    target_id: str
    reason: Reason
    cid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A target that has an outcome: a message, or the reason why not.

    `cid` is the channel that the message is in, or that is the reason.
    """

    target_id: str
    outcome: Outcome
    reason: Reason | None = None
    message_id: str | None = None
    cid: str | None = None
    created_at: datetime
