"""What a refused call tells its caller, unpacked."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import grpc
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc_status import rpc_status

CODES = grpc.StatusCode


@dataclass(frozen=True)
class Refusal:
    code: grpc.StatusCode
    reason: str
    metadata: Mapping[str, str]
    fields: tuple[str, ...]
    preconditions: tuple[tuple[str, str], ...]
    resource: tuple[str, str] | None


async def refused(call: Awaitable[Any]) -> Refusal:
    """The refusal that the call ends with; an error of the test if it does not."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return refusal_in(error)
    raise AssertionError(f"not refused: {answer}")


def refusal_in(error: grpc.aio.AioRpcError) -> Refusal:
    status = cast("status_pb2.Status", rpc_status.from_call(cast("Any", error)))
    info, bad, state, resource = (
        details.ErrorInfo(),
        details.BadRequest(),
        details.PreconditionFailure(),
        details.ResourceInfo(),
    )
    has_resource = False
    for detail in status.details:
        for message in (info, bad, state):
            detail.Unpack(message)
        has_resource = detail.Unpack(resource) or has_resource
    assert info.domain == "herald"
    return Refusal(
        code=error.code(),
        reason=info.reason.removeprefix("ERROR_REASON_"),
        metadata=dict(info.metadata),
        fields=tuple(violation.field for violation in bad.field_violations),
        preconditions=tuple((violation.type, violation.subject) for violation in state.violations),
        resource=(resource.resource_type, resource.resource_name) if has_resource else None,
    )
