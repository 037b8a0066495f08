"""A running ChatService, its store and its clock, and what its refusals say."""

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2 as details

from chat_store.database.engine import Database
from chat_store.store import ChatStore
from herald.chat.v1 import chat_service_pb2_grpc as pb_grpc
from tests.harness.manual_clock import ManualClock
from tests.rpc.raw_service import status_in

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CID = "messaging:general"


@dataclass(frozen=True)
class Chat:
    """A running ChatService: `call` by stub, `store` behind it, and its clock."""

    url: str
    database: Database
    call: "pb_grpc.ChatServiceAsyncStub"
    store: ChatStore
    clock: ManualClock


def time(moment: datetime) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(moment)
    return result


def struct(value: dict[str, Any]) -> Struct:
    return ParseDict(value, Struct())


@dataclass(frozen=True)
class Refusal:
    code: grpc.StatusCode
    reason: str
    metadata: dict[str, str]
    fields: list[str]
    resource: str


async def refusal(call: Awaitable[object]) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    info, bad, resource = details.ErrorInfo(), details.BadRequest(), details.ResourceInfo()
    for detail in status_in(caught.value).details:
        for known in (info, bad, resource):
            detail.Unpack(known)
    assert info.domain == "herald"
    return Refusal(
        caught.value.code(),
        info.reason.removeprefix("ERROR_REASON_"),
        dict(info.metadata),
        [violation.field for violation in bad.field_violations],
        resource.resource_name,
    )
