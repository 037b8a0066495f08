"""Each change leaves its audit entry, and so does each refused call; reading leaves none."""

import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from sqlalchemy import insert

from campaign_service.storage.event_tables import webhook_attempts
from chat_store.access.scopes import Scope
from chat_store.access.tokens import id_in
from chat_store.audit.verifying import verify
from herald.access.v1 import access_pb2, access_service_pb2_grpc
from herald.access.v1 import access_service_pb2 as pb
from herald_rpc.server.interceptor import REQUEST_ID_KEY
from tests.access.audited_calls import CALLS, WITHOUT_EFFECT, AuditedCall
from tests.access.guarded_pair import (
    GuardedPair,
    bearing,
    every_rpc,
    guarded_pair,
    path_of,
)

RPCS = {method.name: method for method in every_rpc()}
# what the names of methods that change something begin with
_CHANGES = (
    "Create Update Delete Upsert Add Remove Deactivate Reactivate Restore Set Mark Import Start Stop "
    "Rotate Redeliver Replay Revoke"
).split()


@pytest_asyncio.fixture(scope="module")
async def pair(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[GuardedPair]:
    file = shutil.copy(sqlite_template, tmp_path_factory.mktemp("audited") / "herald.db")
    async with guarded_pair(f"sqlite+aiosqlite:///{file}") as running:
        yield running


@dataclass
class Caller:
    """Calls with one token, each with a request id of its own, and reads the entries of each."""

    pair: GuardedPair
    text: str
    made_token: str = ""

    @classmethod
    async def with_scopes(cls, pair: GuardedPair, *scopes: Scope, **spec: Any) -> "Caller":
        return cls(pair, await pair.issue(*(scopes or Scope), **spec))

    async def call(self, call: AuditedCall, request_id: str) -> Any:
        method = RPCS[call.method]
        channel: Any = self.pair.channel_of(method.containing_service.full_name)
        kind = "_".join(
            "stream" if streams else "unary"
            for streams in (method.client_streaming, method.server_streaming)
        )
        read = GetMessageClass(method.output_type).FromString
        stub = getattr(channel, kind)(path_of(method), None, read)
        request = self._request(method, call).SerializeToString()
        made = stub(
            iter([request]) if method.client_streaming else request,
            metadata=(*bearing(self.text), (REQUEST_ID_KEY, request_id)),
            timeout=60,
        )
        if method.server_streaming:
            answer = await made.read()
            made.cancel()
            return answer
        return await made

    def _request(self, method: MethodDescriptor, call: AuditedCall) -> Message:
        given = call.request
        if given.get("id") == "$TOKEN":
            given = {"id": self.made_token}
        return ParseDict(given, GetMessageClass(method.input_type)())

    async def entries(self, **arguments: Any) -> list[access_pb2.AuditEntry]:
        request = ParseDict(arguments, pb.QueryAuditRequest())
        stub: Any = access_service_pb2_grpc.AccessServiceStub(self.pair.channels["campaign"])
        answer = await stub.QueryAudit(request, metadata=bearing(self.text), timeout=60)
        return list(answer.entries)


def test_the_calls_are_those_of_every_method() -> None:
    assert sorted(call.method for call in CALLS) == sorted(RPCS)
    assert {call.method for call in CALLS if call.resource is not None} == {
        name for name in RPCS if name.startswith(tuple(_CHANGES))
    }


async def test_each_method_that_changes_something_leaves_its_entry_and_no_other_method_does(
    pair: GuardedPair,
) -> None:
    caller = await Caller.with_scopes(pair, name="everything")
    began = datetime.now(UTC) - timedelta(seconds=1)
    for call in CALLS:
        if call.method == "RedeliverAttempt":
            await a_dead_attempt(pair)
        request_id = f"of-{call.method}"

        answer = await caller.call(call, request_id)
        found = await caller.entries(filter={"request_id": request_id})

        if call.resource is None:
            assert not found, call.method
            continue
        (entry,) = found
        resource = call.resource
        if resource == "tokens/":
            caller.made_token = answer.token.id
            resource = f"tokens/{answer.token.id}"
        before, after = call.revisions
        assert entry == access_pb2.AuditEntry(
            position=entry.position,
            created_at=entry.created_at,
            principal_id=id_in(caller.text) or "",
            principal_name="everything",
            method=path_of(RPCS[call.method]).removeprefix("/"),
            resource=resource,
            revision_before=before,
            revision_after=after,
            request_id=request_id,
            peer=entry.peer,
            hash=entry.hash,
        ), call.method
        assert began <= entry.created_at.ToDatetime(tzinfo=UTC) <= datetime.now(UTC), call.method
        assert entry.peer.startswith("ipv4:127.0.0.1:"), call.method
        # a server chooses another id if the caller's is not fit to be one
        assert len(entry.hash) == 64, call.method

    for number, call in enumerate(WITHOUT_EFFECT):
        request_id = f"without-effect-{number}"
        with suppress(grpc.aio.AioRpcError):
            await caller.call(call, request_id)
        assert not await caller.entries(filter={"request_id": request_id}), call.method
    assert (await verify(pair.database)).fault is None


async def a_dead_attempt(pair: GuardedPair) -> None:
    values = {
        "id": "dead",
        "webhook_id": "hook",
        "campaign_id": "spring",
        "event_id": "event",
        "event_type": "campaign.created",
        "events": 1,
        "attempt": 9,
        "attempted_at": datetime.now(UTC),
        "response_status": 500,
        "error": "",
        "outcome": "dead",
        "position": 1,
        "number": 0,
        "end_position": 2,
        "end_number": 0,
        "types": [],
    }
    async with pair.database.transaction() as connection:
        await connection.execute(insert(webhook_attempts).values(values))
