"""Each change leaves its audit entry, and so does each refused call; reading leaves none."""

import asyncio
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
from chat_store.audit.callers import Caller as AuditedCaller
from chat_store.audit.chain import SqlAuditChain
from chat_store.audit.entries import Refusal
from chat_store.audit.verifying import verify
from herald.access.v1 import access_pb2, access_service_pb2_grpc
from herald.access.v1 import access_service_pb2 as pb
from herald.campaign.v1.campaign_pb2 import CAMPAIGN_STATUS_COMPLETED as COMPLETED
from herald_rpc.server.interceptor import REQUEST_ID_KEY
from tests.access.audited_calls import CALLS, WITHOUT_EFFECT, AuditedCall
from tests.access.guarded_pair import (
    GuardedPair,
    answer_to,
    bearing,
    every_rpc,
    guarded_pair,
    path_of,
)

GET_AUTHORED = AuditedCall("GetCampaign", {"id": "authored"})
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


async def test_refused_calls_leave_entries_with_their_reasons(pair: GuardedPair) -> None:
    reader = await Caller.with_scopes(pair)
    poor_text = await pair.issue(Scope.CHAT_READ, name="poor")
    expired = await pair.expired(Scope.CHAT_READ)
    for_ann = await pair.issue(Scope.CAMPAIGNS_WRITE, name="for ann", sender_ids=["ann"])
    upsert = "herald.chat.v1.ChatService/UpsertUsers"
    create = "herald.campaign.v1.CampaignService/CreateCampaign"
    cases = {
        "missing": (None, upsert, "", "", "TOKEN_MISSING"),
        "invalid": (f"herald_{'0' * 16}_{'0' * 64}", upsert, "", "", "TOKEN_INVALID"),
        "expired": (expired, upsert, id_in(expired), "expired", "TOKEN_EXPIRED"),
        "poor": (poor_text, upsert, id_in(poor_text), "poor", "SCOPE_MISSING"),
        "foreign": (for_ann, create, id_in(for_ann), "for ann", "SENDER_NOT_ALLOWED"),
        # any text may be called, and is not kept
        "unknown": (None, "herald.chat.v1.ChatService/Shout", "", "", "TOKEN_MISSING"),
    }
    request = ParseDict(
        {"campaign": {"sender_id": "bob", "user_ids": ["ann"], "message_template": {"text": "x"}}},
        GetMessageClass(RPCS["CreateCampaign"].input_type)(),
    ).SerializeToString()
    for name, (text, method, *_) in cases.items():
        channel: Any = pair.channel_of(method)
        stub = channel.unary_unary(f"/{method}", None, None)
        metadata = (*bearing(text), (REQUEST_ID_KEY, f"refused-{name}"))
        assert (await answer_to(stub(request, metadata=metadata, timeout=60))).is_refused, name

    for name, (_, method, token_id, token_name, reason) in cases.items():
        entry = await awaited_entry(reader, {"request_id": f"refused-{name}"})
        assert (entry.principal_id, entry.principal_name) == (token_id, token_name), name
        assert entry.refusal == f"ERROR_REASON_{reason}", name
        assert entry.method == ("" if name == "unknown" else method), name
        assert entry.resource == "", name
        assert entry.peer.startswith("ipv4:127.0.0.1:"), name


async def awaited_entry(reader: Caller, filter_: dict[str, Any]) -> access_pb2.AuditEntry:
    """The only entry, once the server has written it: refused calls do not wait for that."""
    async with asyncio.timeout(60):
        while not (found := await reader.entries(filter=filter_)):
            pass
    (entry,) = found
    return entry


async def test_entries_are_found_by_time_principal_resource_and_method_and_come_in_pages(
    pair: GuardedPair,
) -> None:
    caller = await Caller.with_scopes(pair, name="pages")
    principal = id_in(caller.text)
    for number in range(7):
        users = [{"id": f"page-{number % 2}"}]
        await caller.call(AuditedCall("UpsertUsers", {"users": users}), f"page-{number}")
    whole = await caller.entries(filter={"principal_id": principal}, page_size=1_000)
    third = whole[4].created_at.ToJsonString()

    assert [entry.request_id for entry in whole] == [f"page-{n}" for n in reversed(range(7))]
    for filter_, numbers in (
        ({"resource": "users/page-1"}, (5, 3, 1)),
        ({"created_at": {"$gt": third}}, (6, 5, 4, 3)),
        ({"created_at": {"$lte": third}, "resource": "users/page-0"}, (2, 0)),
        ({"method": "herald.chat.v1.ChatService/UpsertUsers"}, (6, 5, 4, 3, 2, 1, 0)),
        ({"method": "herald.chat.v1.ChatService/DeleteUsers"}, ()),
        ({"position": {"$gte": whole[1].position}}, (6, 5)),
    ):
        found = await caller.entries(filter={"principal_id": principal, **filter_})
        assert [entry.request_id for entry in found] == [f"page-{n}" for n in numbers], filter_
    oldest_first = await caller.entries(
        filter={"principal_id": principal},
        sort=[{"field": "created_at", "direction": "SORT_DIRECTION_ASC"}],
    )
    assert oldest_first == whole[::-1]

    stub: Any = access_service_pb2_grpc.AccessServiceStub(pair.channels["campaign"])
    request = ParseDict(
        {"filter": {"principal_id": principal}, "page_size": 3}, pb.QueryAuditRequest()
    )
    paged: list[access_pb2.AuditEntry] = []
    tokens = [""]
    while len(tokens) < 9 and (request.page_token or not paged):
        answer = await stub.QueryAudit(request, metadata=bearing(caller.text))
        paged += answer.entries
        tokens.append(answer.next_page_token)
        request.page_token = answer.next_page_token
        # between the pages
        await caller.call(AuditedCall("UpsertUsers", {"users": [{"id": "later"}]}), "later")
    assert paged == whole


@pytest.mark.parametrize(
    ("arguments", "reason", "field"),
    [
        ({"filter": {"who": "x"}}, "INVALID_FILTER", "filter.who"),
        ({"filter": {"created_at": "yesterday"}}, "INVALID_FILTER", "filter.created_at"),
        ({"sort": [{"field": "hash"}]}, "INVALID_SORT", "sort[0].field"),
        ({"page_size": -1}, "INVALID_FIELD", "page_size"),
        ({"page_token": "x"}, "INVALID_PAGE_TOKEN", "page_token"),
    ],
)
async def test_a_query_of_the_audit_log_that_breaks_a_rule_is_refused_by_its_field(
    arguments: dict[str, Any], reason: str, field: str, pair: GuardedPair
) -> None:
    caller = await Caller.with_scopes(pair)

    answer = await answer_to(caller.entries(**arguments))

    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert answer.reason == f"ERROR_REASON_{reason}"
    assert answer.metadata["field"].startswith(field)


async def test_the_largest_page_keeps_within_what_clients_receive(pair: GuardedPair) -> None:
    caller = await Caller.with_scopes(pair)
    longest = AuditedCaller(principal_id="large", request_id="r" * 64, method="m" * 4_000)
    chain = SqlAuditChain(pair.database)
    await chain.add_refusals([Refusal(longest, "x", datetime.now(UTC))] * 1_500)

    found = await caller.entries(filter={"principal_id": "large"}, page_size=1_000)

    assert 500 < len(found) < 1_000


async def test_segments_campaigns_and_webhooks_name_who_created_and_changed_them(
    pair: GuardedPair,
) -> None:
    maker = await Caller.with_scopes(pair, name="maker")
    changer = await Caller.with_scopes(pair, name="changer")
    made, changed = id_in(maker.text), id_in(changer.text)
    forged = {"created_by": "forged", "updated_by": "forged"}
    await maker.call(AuditedCall("UpsertUsers", {"users": [{"id": "author"}]}), "author")
    content = {"sender_id": "author", "user_ids": ["author"], "message_template": {"text": "x"}}
    segment = {"id": "authored", "type": "SEGMENT_TYPE_USER", **forged}
    campaign = {"id": "authored", **content, **forged}
    webhook = {"id": "authored", "url": "http://127.0.0.1:9/", "enabled": False, **forged}

    for kind, given in (("segment", segment), ("campaign", campaign), ("webhook", webhook)):
        name = kind.capitalize()
        new = await maker.call(AuditedCall(f"Create{name}", {kind: given}), f"new-{kind}")
        update = {kind: {**given, "name": "new"} if kind != "webhook" else given}
        await changer.call(AuditedCall(f"Update{name}", update), f"update-{kind}")
        read = getattr(await maker.call(AuditedCall(f"Get{name}", {"id": "authored"}), "get"), kind)
        listed = await maker.call(AuditedCall(f"Query{name}s", {}), "query")
        (same,) = (each for each in getattr(listed, f"{kind}s") if each.id == "authored")

        stored = getattr(new, kind)
        assert (stored.created_by, stored.updated_by) == (made, made), kind
        assert (read.created_by, read.updated_by) == (made, changed), kind
        assert (same.created_by, same.updated_by) == (made, changed), kind
    # the server's own changes do not move it
    deadline = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    start = AuditedCall("StartCampaign", {"id": "authored", "scheduled_for": deadline})
    await maker.call(start, "start")
    async with asyncio.timeout(60):
        while (found := await maker.call(GET_AUTHORED, "get")).campaign.status < COMPLETED:
            pass
    assert found.campaign.updated_by == made
    of_spring = await maker.entries(filter={"resource": "campaigns/authored"})
    assert [entry.method.partition("/")[2] for entry in of_spring] == [
        "StartCampaign",
        "UpdateCampaign",
        "CreateCampaign",
    ]
