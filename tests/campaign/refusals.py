"""What a caller is told when a call fails."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details
from grpc_status import rpc_status


@dataclass(frozen=True)
class Refusal:
    """`fields` are the paths of the BadRequest, `preconditions` its types by subject."""

    code: grpc.StatusCode
    reason: str
    metadata: dict[str, str]
    fields: tuple[str, ...]
    preconditions: dict[str, str]
    resource: tuple[str, str] | None


async def refusal_of(call: Awaitable[Any]) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    error: Any = refused.value
    status = rpc_status.from_call(error)
    assert status is not None, error
    info, bad, failed, resource = (
        details.ErrorInfo(),
        details.BadRequest(),
        details.PreconditionFailure(),
        details.ResourceInfo(),
    )
    for detail in status.details:
        assert any(detail.Unpack(known) for known in (info, bad, failed, resource)), detail
    assert info.domain == "herald"
    assert all(violation.description for violation in bad.field_violations)
    return Refusal(
        code=refused.value.code(),
        reason=info.reason.removeprefix("ERROR_REASON_"),
        metadata=dict(info.metadata),
        fields=tuple(violation.field for violation in bad.field_violations),
        preconditions={violation.subject: violation.type for violation in failed.violations},
        resource=(resource.resource_type, resource.resource_name)
        if resource.resource_type
        else None,
    )
