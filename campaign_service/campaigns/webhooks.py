"""Webhooks, the lanes of events that are still to be sent to them, and the attempts."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from campaign_service.campaigns.events import EventType, Offset

DEFAULT_TIMEOUT = timedelta(seconds=6)
MIN_TIMEOUT, MAX_TIMEOUT = timedelta(seconds=1), timedelta(seconds=30)
MAX_BATCH_EVENTS = 500
MAX_BATCH_BYTES = 256_000
DEFAULT_GRACE, MAX_GRACE = timedelta(hours=24), timedelta(days=7)

SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix, not a secret

# how long a dispatcher uses a webhook that it has read
SETTINGS_SECONDS = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook. Log entries before `position` are in its lanes already."""

    id: str
    url: str
    event_types: tuple[EventType, ...] = ()
    secret: str = field(repr=False)
    previous_secret: str | None = field(default=None, repr=False)
    previous_secret_until: datetime | None = None
    enabled: bool = True
    disabled_reason: str = ""
    timeout: timedelta = DEFAULT_TIMEOUT
    max_batch_events: int = 1
    position: int = 0
    created_at: datetime | None = None
    created_by: str = ""
    updated_at: datetime | None = None
    updated_by: str = ""

    def secrets_at(self, moment: datetime) -> tuple[str, ...]:
        """Returns the secrets that sign requests at this moment, the newest first."""
        if self.previous_secret is None or self.previous_secret_until is None:
            return (self.secret,)
        is_over = self.previous_secret_until <= moment
        return (self.secret,) if is_over else (self.secret, self.previous_secret)

    def same_as(self, other: "Webhook") -> bool:
        """Returns whether all fields that a caller sets are the same, apart from the secret."""
        return (
            self.url == other.url
            and set(self.event_types) == set(other.event_types)
            and self.enabled == other.enabled
            and self.timeout == other.timeout
            and self.max_batch_events == other.max_batch_events
        )


@dataclass(frozen=True, slots=True)
class Backlog:
    """The events that a webhook still has to get."""

    events: int = 0
    oldest_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The events of one request; `body` is kept once an attempt has failed."""

    end: Offset
    event_id: str
    event_type: str
    events: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The events of one campaign that one webhook still has to get, and the lease to send them.

    `batch_end` is set if a batch was begun, and `failed` once an attempt for it has failed.
    """

    webhook_id: str
    campaign_id: str
    replay_id: str
    offset: Offset
    end: Offset
    types: tuple[str, ...] | None
    not_before: datetime | None
    not_after: datetime | None
    batch_end: Offset | None
    failed: Batch | None
    attempts: int
    first_attempt_at: datetime | None
    lease: str


def signing_key(secret: str) -> bytes:
    """Returns the key of Standard Webhooks. Raises `ValueError` for a secret that can't sign."""
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)


def is_secret(text: str) -> bool:
    """Returns whether the secret can sign: the text after the prefix is base64 and not empty."""
    try:
        return bool(signing_key(text))
    except ValueError:
        return False


class AttemptOutcome(StrEnum):
    DELIVERED = "delivered"
    RETRYING = "retrying"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt to send a batch. `start` and `end` are the offsets around its events."""

    id: str
    webhook_id: str
    campaign_id: str
    event_id: str
    event_type: str
    events: int
    attempt: int
    attempted_at: datetime
    response_status: int
    error: str
    outcome: AttemptOutcome
    next_attempt_at: datetime | None
    start: Offset
    end: Offset
    types: Sequence[str]


class WebhookError(Exception):
    """Root of the errors of webhooks."""


class WebhookNotFoundError(WebhookError):
    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"no webhook {webhook_id!r}")
        self.webhook_id = webhook_id


class WebhookAlreadyExistsError(WebhookError):
    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"webhook {webhook_id!r} exists with other content")
        self.webhook_id = webhook_id


class AttemptNotFoundError(WebhookError):
    def __init__(self, attempt_id: str) -> None:
        super().__init__(f"no attempt {attempt_id!r}")
        self.attempt_id = attempt_id


class AttemptNotDeadError(WebhookError):
    def __init__(self, attempt_id: str, outcome: AttemptOutcome) -> None:
        super().__init__(f"attempt {attempt_id!r} is {outcome}, and only a dead one is sent again")
        self.attempt_id = attempt_id
        self.outcome = outcome


class LaneLostError(WebhookError):
    """Another sender has the lane, or the webhook is deleted."""
