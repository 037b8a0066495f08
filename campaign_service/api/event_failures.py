"""The errors of EventService as statuses with the package's reasons."""

import grpc

from campaign_service.campaigns import errors, webhooks
from campaign_service.campaigns.addresses import AddressRefusedError
from campaign_service.wire.webhook import outcome_name
from herald_rpc.server.failures import Failure, Precondition, Resource, Violation
from herald_rpc.wire.failures import not_found


def event_failure(error: Exception) -> Failure | None:
    """Returns the failure for a caller; None for another error."""
    match error:
        case errors.EventsExpiredError():
            return Failure(
                code=grpc.StatusCode.FAILED_PRECONDITION,
                reason="ERROR_REASON_RESUME_TOKEN_EXPIRED",
                message=str(error),
                metadata={"field": "after"},
                preconditions=[Precondition("EVENTS_EXPIRED", "after", str(error))],
            )
        case webhooks.WebhookNotFoundError():
            return not_found(error, "WEBHOOK", "webhook_id", error.webhook_id)
        case webhooks.AttemptNotFoundError():
            return not_found(error, "ATTEMPT", "attempt_id", error.attempt_id)
        case webhooks.WebhookAlreadyExistsError():
            return Failure(
                code=grpc.StatusCode.ALREADY_EXISTS,
                reason="ERROR_REASON_WEBHOOK_ALREADY_EXISTS",
                message=str(error),
                metadata={"webhook_id": error.webhook_id},
                resource=Resource("herald.Webhook", error.webhook_id),
            )
        case webhooks.AttemptNotDeadError():
            return Failure(
                code=grpc.StatusCode.FAILED_PRECONDITION,
                reason="ERROR_REASON_ATTEMPT_NOT_DEAD",
                message=str(error),
                metadata={"attempt_id": error.attempt_id, "outcome": outcome_name(error.outcome)},
                preconditions=[Precondition("ATTEMPT_NOT_DEAD", error.attempt_id, str(error))],
            )
        case AddressRefusedError():
            return Failure(
                code=grpc.StatusCode.INVALID_ARGUMENT,
                reason="ERROR_REASON_ADDRESS_REFUSED",
                message=f"webhook.url: {error}",
                metadata={
                    "field": "webhook.url",
                    "address": error.address,
                    "rule": error.rule,
                },
                violations=[Violation("webhook.url", str(error))],
            )
        case _:
            return None
