"""The service's errors as statuses with the package's reasons."""

from dataclasses import replace

import grpc

from campaign_service import errors
from campaign_service.wire import status_name
from herald_rpc.failures import Failure, Precondition, Resource, Violation
from herald_wire.failures import chat_failure, invalid_input, not_found, unavailable

_CODE = grpc.StatusCode


def failure_for(error: Exception) -> Failure | None:
    """What a caller is told; None for an error that nobody foresaw."""
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
        case errors.CampaignDeletedError():
            return _precondition(
                error, "CAMPAIGN_DELETED", error.campaign_id, {"campaign_id": error.campaign_id}
            )
        case errors.StatusNotAllowedError():
            return _precondition(
                error,
                "STATUS_NOT_ALLOWED",
                error.campaign_id,
                {
                    "campaign_id": error.campaign_id,
                    "status": status_name(error.status),
                    "allowed": ",".join(map(status_name, error.allowed)),
                },
            )
        case errors.SegmentServiceUnavailableError():
            return unavailable("the segment service can't be reached")
        case _:
            return chat_failure(error)


def _unknown_reference(error: errors.UnknownReferenceError) -> Failure:
    return Failure(
        code=_CODE.INVALID_ARGUMENT,
        reason=_reference_reason(error.kind),
        message=str(error),
        metadata={_reference_key(error.kind): error.id, "field": error.field},
        violations=[Violation(error.field, error.problem)],
    )


def _gone(error: errors.ReferenceGoneError) -> Failure:
    metadata = {_reference_key(error.kind): error.id}
    return _precondition(error, f"{error.kind.upper()}_NOT_FOUND", error.id, metadata)


def _precondition(
    error: errors.CampaignError, reason: str, subject: str, metadata: dict[str, str]
) -> Failure:
    return Failure(
        code=_CODE.FAILED_PRECONDITION,
        reason=f"ERROR_REASON_{reason}",
        message=str(error),
        metadata=metadata,
        preconditions=[Precondition(reason, subject, str(error))],
    )


def _reference_reason(kind: str) -> str:
    return f"ERROR_REASON_{kind.upper()}_NOT_FOUND"


def _reference_key(kind: str) -> str:
    return "user_id" if kind == "member" else f"{kind}_id"
