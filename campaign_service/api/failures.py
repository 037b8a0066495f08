"""Maps the service's errors to statuses with the package's reasons."""

from dataclasses import replace

import grpc

from campaign_service.api.access_failures import access_failure
from campaign_service.api.event_failures import event_failure
from campaign_service.campaigns import errors
from campaign_service.wire.campaign import status_name
from herald_rpc.server.failures import Failure, Precondition, QuotaViolation, Resource, Violation
from herald_rpc.wire.failures import chat_failure, invalid_input, not_found, unavailable

_CODE = grpc.StatusCode


def failure_for(error: Exception) -> Failure | None:
    """Returns what the caller receives; None for an unexpected error."""
    match error:
        case errors.InvalidTemplateError():
            failure = invalid_input(error, "ERROR_REASON_INVALID_TEMPLATE")
            return replace(failure, metadata={**failure.metadata, "problem": error.problem})
        case errors.UnknownReferenceError():
            return _unknown_reference(error)
        case errors.ReferenceGoneError():
            return _gone(error)
        case errors.CampaignNotFoundError():
            return not_found(error, "CAMPAIGN", "campaign_id", error.campaign_id)
        case errors.CampaignAlreadyExistsError():
            return Failure(
                code=_CODE.ALREADY_EXISTS,
                reason="ERROR_REASON_CAMPAIGN_ALREADY_EXISTS",
                message=str(error),
                metadata={"campaign_id": error.campaign_id},
                resource=Resource("herald.Campaign", error.campaign_id),
            )
        case (
            errors.CampaignDeletedError()
            | errors.StatusNotAllowedError()
            | errors.DatabaseHeldError()
        ):
            return _refused(error)
        case errors.EtagMismatchError():
            return _etag_mismatch(error)
        case errors.QuotaExceededError():
            return _quota_exceeded(error)
        case errors.SegmentServiceUnavailableError() | errors.ShuttingDownError():
            return unavailable(str(error))
        case _:
            return event_failure(error) or access_failure(error) or chat_failure(error)


def _unknown_reference(error: errors.UnknownReferenceError) -> Failure:
    return Failure(
        code=_CODE.INVALID_ARGUMENT,
        reason=_reference_reason(error.kind),
        message=str(error),
        metadata={_reference_key(error.kind): error.missing[error.field], "field": error.field},
        violations=[Violation(field, error.problem) for field in error.missing],
    )


def _gone(error: errors.ReferenceGoneError) -> Failure:
    return Failure(
        code=_CODE.FAILED_PRECONDITION,
        reason=_reference_reason(error.kind),
        message=str(error),
        metadata={_reference_key(error.kind): error.ids[0]},
        preconditions=[
            Precondition(f"{error.kind.upper()}_NOT_FOUND", id_, str(error)) for id_ in error.ids
        ],
    )


def _quota_exceeded(error: errors.QuotaExceededError) -> Failure:
    return Failure(
        code=_CODE.RESOURCE_EXHAUSTED,
        reason="ERROR_REASON_QUOTA_EXCEEDED",
        message=str(error),
        metadata={
            "campaign_id": error.campaign_id,
            "limit": str(error.limit),
            "used": str(error.used),
            "given": str(error.given),
        },
        quota=[QuotaViolation("herald:messages-per-month", str(error))],
    )


def _etag_mismatch(error: errors.EtagMismatchError) -> Failure:
    return Failure(
        code=_CODE.ABORTED,
        reason="ERROR_REASON_ETAG_MISMATCH",
        message=str(error),
        metadata={
            "campaign_id": error.campaign_id,
            "given": error.given,
            "current": error.current,
        },
    )


def _refused(
    error: errors.CampaignDeletedError | errors.StatusNotAllowedError | errors.DatabaseHeldError,
) -> Failure:
    if isinstance(error, errors.DatabaseHeldError):
        return Failure(
            code=_CODE.FAILED_PRECONDITION,
            reason="ERROR_REASON_DATABASE_HELD",
            message=str(error),
            metadata={"because": error.because},
            preconditions=[Precondition("DATABASE_HELD", "database", str(error))],
        )
    reason, metadata = "CAMPAIGN_DELETED", {"campaign_id": error.campaign_id}
    if isinstance(error, errors.StatusNotAllowedError):
        reason = "STATUS_NOT_ALLOWED"
        metadata["status"] = status_name(error.status)
        metadata["allowed"] = ",".join(map(status_name, error.allowed))
    return Failure(
        code=_CODE.FAILED_PRECONDITION,
        reason=f"ERROR_REASON_{reason}",
        message=str(error),
        metadata=metadata,
        preconditions=[Precondition(reason, error.campaign_id, str(error))],
    )


def _reference_reason(kind: str) -> str:
    return f"ERROR_REASON_{kind.upper()}_NOT_FOUND"


def _reference_key(kind: str) -> str:
    return "user_id" if kind == "member" else f"{kind}_id"
