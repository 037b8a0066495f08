"""The refusals of calls, with their reasons."""

from datetime import timedelta
from math import ceil

import grpc

from chat_store.access.tokens import Token
from herald_rpc.access.rates import Allowance
from herald_rpc.server.failures import Failure, QuotaViolation
from herald_rpc.server.guarding import RefusedError
from herald_rpc.server.principals import Principal

_CODE = grpc.StatusCode


def token_missing() -> RefusedError:
    return _unauthenticated("MISSING", "the call needs a token in the metadata `authorization`")


def token_invalid() -> RefusedError:
    return _unauthenticated("INVALID", "there is no such token")


def token_expired(token: Token) -> RefusedError:
    return _unauthenticated("EXPIRED", f"token {token.id} has expired", token)


def token_revoked(token: Token) -> RefusedError:
    return _unauthenticated("REVOKED", f"token {token.id} is revoked", token)


def rate_limit_exceeded(principal: Principal, allowance: Allowance) -> RefusedError:
    text = f"token {principal.id} may make {allowance.limit} calls a second to this server"
    return RefusedError(
        Failure(
            code=_CODE.RESOURCE_EXHAUSTED,
            reason="ERROR_REASON_RATE_LIMIT_EXCEEDED",
            message=text,
            metadata={"token_id": principal.id, "limit": str(allowance.limit)},
            quota=[QuotaViolation(f"token:{principal.id}", text)],
            # a caller that comes a moment too early would be refused again
            retry_after=timedelta(milliseconds=ceil(1_000 * allowance.retry_seconds)),
        )
    )


def scope_missing(principal: Principal, scope: str) -> RefusedError:
    return _denied(
        principal,
        "SCOPE_MISSING",
        f"token {principal.id} lacks the scope '{scope}'",
        "scope",
        scope,
    )


def sender_not_allowed(principal: Principal, sender_id: str) -> RefusedError:
    return _denied(
        principal,
        "SENDER_NOT_ALLOWED",
        f"token {principal.id} is not for the sender {sender_id!r}",
        "sender_id",
        sender_id,
    )


def _denied(principal: Principal, reason: str, message: str, key: str, value: str) -> RefusedError:
    return RefusedError(
        Failure(
            code=_CODE.PERMISSION_DENIED,
            reason=f"ERROR_REASON_{reason}",
            message=message,
            metadata={key: value, "token_id": principal.id},
        )
    )


def _unauthenticated(problem: str, message: str, token: Token | None = None) -> RefusedError:
    return RefusedError(
        Failure(
            code=_CODE.UNAUTHENTICATED,
            reason=f"ERROR_REASON_TOKEN_{problem}",
            message=message,
            metadata={"token_id": token.id} if token else {},
        ),
        Principal(token.id, token.name) if token else None,
    )
