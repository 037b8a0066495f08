"""Webhooks and attempts between their messages and the domain's values."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

from google.protobuf.duration_pb2 import Duration

from campaign_service.campaigns.webhooks import (
    DEFAULT_GRACE,
    DEFAULT_TIMEOUT,
    MAX_BATCH_EVENTS,
    MAX_GRACE,
    MAX_TIMEOUT,
    MIN_TIMEOUT,
    Attempt,
    AttemptOutcome,
    Backlog,
    Webhook,
    is_secret,
)
from campaign_service.wire.event import types_from_proto
from chat_store.errors import InvalidInputError
from chat_store.ids import MAX_ID
from herald.event.v1 import event_pb2 as pb
from herald.event.v1 import event_service_pb2 as service_pb
from herald_rpc.wire.fields import required, text, timestamp

_MAX_URL = 2_048
_FIELDS = ("url", "event_types", "secret", "enabled", "timeout", "max_batch_events")
_OUTCOMES: Mapping[AttemptOutcome, pb.WebhookAttemptOutcome.ValueType] = {
    outcome: pb.WebhookAttemptOutcome.Value(f"WEBHOOK_ATTEMPT_OUTCOME_{outcome.name}")
    for outcome in AttemptOutcome
}


def webhook_from_proto(message: pb.Webhook) -> Webhook:
    """Raises for the first field that breaks a rule. Output-only fields are passed over."""
    return Webhook(
        id=text(message.id, "webhook.id", MAX_ID),
        url=_url(message.url),
        event_types=types_from_proto(message.event_types, "webhook.event_types"),
        secret=secret_from_proto(message.secret, "webhook.secret"),
        enabled=message.enabled if message.HasField("enabled") else True,
        timeout=_timeout(message),
        max_batch_events=_batch_events(message.max_batch_events),
    )


def change_from_proto(request: service_pb.UpdateWebhookRequest) -> Callable[[Webhook], Webhook]:
    """Makes the changed webhook out of the stored one. Raises for a path that can't be."""
    message = request.webhook
    paths = list(request.update_mask.paths)
    for path in paths:
        if path not in (*_FIELDS, "*"):
            raise InvalidInputError("update_mask", f"{path!r} can't be changed")
    if not paths or "*" in paths:
        paths = [path for path in _FIELDS if path != "secret" or message.secret]
    elif "secret" in paths and not message.secret:
        raise InvalidInputError("webhook.secret", "is required")
    if "url" not in paths:
        message = pb.Webhook.FromString(message.SerializeToString())
        message.url = "http://unchanged"
    given = webhook_from_proto(message)
    values = {path: getattr(given, path) for path in paths}
    if "enabled" in values:
        values["disabled_reason"] = ""
    return lambda stored: replace(stored, **values)


def secret_from_proto(secret: str, field: str) -> str:
    text(secret, field, MAX_ID)
    if secret and not is_secret(secret):
        raise InvalidInputError(field, "after whsec_ it must be base64")
    return secret


def grace_from_proto(request: service_pb.RotateWebhookSecretRequest) -> timedelta:
    if not request.HasField("grace"):
        return DEFAULT_GRACE
    return _duration(request.grace, "grace", timedelta(0), MAX_GRACE)


def webhook_to_proto(
    webhook: Webhook, backlog: Backlog, *, with_secret: bool = False
) -> pb.Webhook:
    timeout = Duration()
    timeout.FromTimedelta(webhook.timeout)
    return pb.Webhook(
        id=webhook.id,
        url=webhook.url,
        event_types=webhook.event_types,
        secret=webhook.secret if with_secret else "",
        enabled=webhook.enabled,
        created_at=timestamp(webhook.created_at),
        updated_at=timestamp(webhook.updated_at),
        created_by=webhook.created_by,
        updated_by=webhook.updated_by,
        timeout=timeout,
        max_batch_events=webhook.max_batch_events,
        disabled_reason=webhook.disabled_reason,
        pending_events=backlog.events,
        oldest_pending_at=timestamp(backlog.oldest_at),
    )


def attempt_to_proto(attempt: Attempt) -> pb.WebhookAttempt:
    is_retrying = attempt.outcome is AttemptOutcome.RETRYING
    return pb.WebhookAttempt(
        id=attempt.id,
        webhook_id=attempt.webhook_id,
        event_id=attempt.event_id,
        event_type=attempt.event_type,
        attempt=attempt.attempt,
        attempted_at=timestamp(attempt.attempted_at),
        response_status=attempt.response_status,
        error=attempt.error,
        outcome=_OUTCOMES[attempt.outcome],
        next_attempt_at=timestamp(attempt.next_attempt_at if is_retrying else None),
        events=attempt.events,
    )


def outcome_name(outcome: AttemptOutcome) -> str:
    """An outcome as callers know it."""
    return pb.WebhookAttemptOutcome.Name(_OUTCOMES[outcome])


def outcome_from_proto(
    outcome: pb.WebhookAttemptOutcome.ValueType, field: str
) -> AttemptOutcome | None:
    if outcome == pb.WEBHOOK_ATTEMPT_OUTCOME_UNSPECIFIED:
        return None
    for known, value in _OUTCOMES.items():
        if value == outcome:
            return known
    raise InvalidInputError(field, f"no value {outcome}")


def _url(url: str) -> str:
    required(url, "webhook.url", _MAX_URL)
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or not url.isascii() or any(ord(letter) <= ord(" ") for letter in url):
        raise InvalidInputError("webhook.url", "must be an absolute http or https URL")
    if parts.username is not None or parts.password is not None:
        raise InvalidInputError("webhook.url", "must not hold a user or a password")
    return url


def _timeout(message: pb.Webhook) -> timedelta:
    if not message.HasField("timeout"):
        return DEFAULT_TIMEOUT
    return _duration(message.timeout, "webhook.timeout", MIN_TIMEOUT, MAX_TIMEOUT)


def _batch_events(given: int) -> int:
    if not 0 <= given <= MAX_BATCH_EVENTS:
        raise InvalidInputError("webhook.max_batch_events", f"must be 0 to {MAX_BATCH_EVENTS}")
    return given or 1


def _duration(message: Duration, field: str, least: timedelta, most: timedelta) -> timedelta:
    try:
        found = message.ToTimedelta()
    except (ValueError, OverflowError):
        found = None
    if found is None or not least <= found <= most:
        raise InvalidInputError(
            field, f"must be {least.total_seconds():g} to {most.total_seconds():g} seconds"
        )
    return found
