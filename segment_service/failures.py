"""Maps the service's errors to statuses with the package's reasons."""

from collections.abc import Mapping
from dataclasses import replace

import grpc

from herald_rpc.server.failures import Failure, Precondition, Resource
from herald_rpc.wire.failures import chat_failure, invalid_input, not_found, unavailable
from segment_service import errors


def failure_for(error: Exception) -> Failure | None:
    """Returns what the caller receives; None for an unexpected error."""
    match error:
        case errors.SegmentNotFoundError():
            return not_found(error, "SEGMENT", "segment_id", error.segment_id)
        case errors.SegmentAlreadyExistsError():
            return Failure(
                code=grpc.StatusCode.ALREADY_EXISTS,
                reason="ERROR_REASON_SEGMENT_ALREADY_EXISTS",
                message=str(error),
                metadata={"segment_id": error.segment_id},
                resource=Resource("herald.Segment", error.segment_id),
            )
        case errors.SegmentDeletedError():
            return _precondition(error, "SEGMENT_DELETED", {"segment_id": error.segment_id})
        case errors.SegmentFilterRefusedError():
            metadata = {
                "segment_id": error.segment_id,
                "field": error.field,
                "problem": error.problem,
            }
            return _precondition(error, "SEGMENT_FILTER_REFUSED", metadata)
        case errors.SegmentHasDefinitionError():
            metadata = {"segment_id": error.segment_id, "definition": error.definition}
            return _precondition(error, "SEGMENT_HAS_DEFINITION", metadata)
        case errors.SenderRequiredError():
            return _named(invalid_input(error, "ERROR_REASON_SENDER_REQUIRED"), error.segment_id)
        case errors.SegmentTypesMixedError():
            return _named(
                invalid_input(error, "ERROR_REASON_SEGMENT_TYPES_MIXED"), error.segment_id
            )
        case errors.ShuttingDownError():
            return unavailable(str(error))
        case _:
            return chat_failure(error)


def _named(failure: Failure, segment_id: str) -> Failure:
    return replace(failure, metadata={**failure.metadata, "segment_id": segment_id})


def _precondition(error: errors.SegmentError, kind: str, metadata: Mapping[str, str]) -> Failure:
    return Failure(
        code=grpc.StatusCode.FAILED_PRECONDITION,
        reason=f"ERROR_REASON_{kind}",
        message=str(error),
        metadata=metadata,
        preconditions=[Precondition(kind, metadata["segment_id"], str(error))],
    )
