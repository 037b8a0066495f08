"""Maps the chat store's errors to statuses, the same for both servers."""

from dataclasses import replace

import grpc

from chat_store import errors
from herald_rpc.server.failures import Failure, Resource, Violation
from herald_rpc.wire.queries import InvalidTokenError

_REASONS_BY_TYPE: dict[type[errors.InvalidInputError], str] = {
    errors.InvalidFilterError: "ERROR_REASON_INVALID_FILTER",
    errors.InvalidSortError: "ERROR_REASON_INVALID_SORT",
    errors.LimitExceededError: "ERROR_REASON_LIMIT_EXCEEDED",
}


def chat_failure(error: Exception) -> Failure | None:
    """Returns what a caller receives for an error of the chat store; None for other errors."""
    match error:
        case errors.InvalidInputError():
            return invalid_input(error, _reason(error))
        case errors.UserNotFoundError():
            return not_found(error, "USER", "user_id", error.user_id)
        case errors.ChannelNotFoundError():
            return not_found(error, "CHANNEL", "cid", error.cid)
        case errors.MemberNotFoundError():
            failure = not_found(error, "MEMBER", "user_id", error.user_id)
            return replace(
                failure,
                metadata={**failure.metadata, "cid": error.cid},
                resource=Resource("herald.Member", f"{error.cid}/{error.user_id}"),
            )
        case errors.StoreUnavailableError():
            return unavailable("the database can't be reached")
        case errors.RequestTooLargeError():
            return Failure(
                code=grpc.StatusCode.INVALID_ARGUMENT,
                reason="ERROR_REASON_LIMIT_EXCEEDED",
                message=str(error),
            )
        case _:
            return None


def invalid_input(error: errors.InvalidInputError, reason: str) -> Failure:
    metadata = {"field": error.field}
    if isinstance(error, errors.LimitExceededError):
        metadata |= {"limit": str(error.limit), "given": str(error.given)}
    return Failure(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason=reason,
        message=str(error),
        metadata=metadata,
        violations=[Violation(error.field, error.problem)],
    )


def not_found(error: Exception, kind: str, key: str, id_: str) -> Failure:
    """Returns a NOT_FOUND failure. The kind `USER` gives ERROR_REASON_USER_NOT_FOUND."""
    return Failure(
        code=grpc.StatusCode.NOT_FOUND,
        reason=f"ERROR_REASON_{kind}_NOT_FOUND",
        message=str(error),
        metadata={key: id_},
        resource=Resource(f"herald.{kind.capitalize()}", id_),
    )


def unavailable(message: str) -> Failure:
    return Failure(
        code=grpc.StatusCode.UNAVAILABLE, reason="ERROR_REASON_UNAVAILABLE", message=message
    )


def _reason(error: errors.InvalidInputError) -> str:
    if isinstance(error, InvalidTokenError):
        kind = "PAGE" if error.field.endswith("page_token") else "RESUME"
        return f"ERROR_REASON_INVALID_{kind}_TOKEN"
    for type_, reason in _REASONS_BY_TYPE.items():
        if isinstance(error, type_):
            return reason
    return "ERROR_REASON_INVALID_FIELD"
