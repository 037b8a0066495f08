"""The outcomes of targets, and previews of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from campaign_service.campaigns.model import CampaignSpec
from chat_store.models import Message


class Outcome(StrEnum):
    SENT = "sent"
    SKIPPED = "skipped"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a target got no message: it is unreachable (skipped), or its message invalid (failed)."""

    USER_NOT_FOUND = "user_not_found"
    USER_DEACTIVATED = "user_deactivated"
    USER_DELETED = "user_deleted"
    CHANNEL_NOT_FOUND = "channel_not_found"
    CHANNEL_FROZEN = "channel_frozen"
    TEAM_MISMATCH = "team_mismatch"
    RECEIVER_NOT_MEMBER = "receiver_not_member"
    CHANNEL_ID_INVALID = "channel_id_invalid"
    TEMPLATE_ERROR = "template_error"
    MESSAGE_TOO_LONG = "message_too_long"
    MESSAGE_ID_TAKEN = "message_id_taken"

    @property
    def outcome(self) -> Outcome:
        return Outcome.FAILED if self in _FAILURES else Outcome.SKIPPED


_FAILURES = frozenset(
    {
        Reason.CHANNEL_ID_INVALID,
        Reason.TEMPLATE_ERROR,
        Reason.MESSAGE_TOO_LONG,
        Reason.MESSAGE_ID_TAKEN,
    }
)


@dataclass(frozen=True, slots=True)
class NotSent:
    """A target without a message. `cid` is the channel that is the reason, if one is.

    `explanation` describes the error to the campaign's author if it differs by target.
    """

    target_id: str
    reason: Reason
    cid: str | None = None
    explanation: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A target with its outcome: a message, or the reason why there is none.

    `cid` is the channel of the message, or the channel that is the reason.
    """

    target_id: str
    outcome: Outcome
    reason: Reason | None = None
    message_id: str | None = None
    cid: str | None = None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PreviewRequest:
    """A request to preview a stored campaign, or an unwritten one if `spec` is given.

    Without `receiver_ids`, it is for the first `sample_size` targets of the audience.
    """

    campaign_id: str
    spec: CampaignSpec | None
    receiver_ids: Sequence[str]
    sample_size: int


@dataclass(frozen=True, slots=True)
class Preview:
    """The preview of one target: a `message` without `created_at`, or the `reason` for none."""

    target_id: str
    cid: str | None
    channel_would_be_created: bool = False
    message: Message | None = None
    reason: Reason | None = None
