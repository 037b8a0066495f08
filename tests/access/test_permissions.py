"""Every method of every service, with every scope and every kind of token, on the real servers."""

import re
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from chat_store.access.scopes import Scope, with_implied
from chat_store.access.tokens import id_in
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_pb2, campaign_service_pb2, campaign_service_pb2_grpc
from herald_rpc.access.permissions import PERMISSIONS
from tests.access.guarded_pair import (
    GuardedPair,
    answer_to,
    bearing,
    every_rpc,
    guarded_pair,
    path_of,
)
from tests.campaign.builders import a_campaign_message, a_user

RPCS = list(every_rpc())
_READS = re.compile(r"(Get|Query|Count|Filter|Explain|Stream|Watch)|.*Exists$")
_NAMES = {"segment": "segments", "campaign": "campaigns", "event": "events"}


def needed(method: MethodDescriptor) -> Scope:
    """What the contract says, told from the method's name."""
    package = method.containing_service.full_name.split(".")[1]
    resource = _NAMES.get(package, package)
    if method.name in ("StartCampaign", "StopCampaign"):
        return Scope.CAMPAIGNS_SEND
    return Scope(f"{resource}:{'read' if _READS.match(method.name) else 'write'}")


@pytest_asyncio.fixture(scope="module")
async def pair(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[GuardedPair]:
    file = shutil.copy(sqlite_template, tmp_path_factory.mktemp("guarded") / "herald.db")
    async with guarded_pair(f"sqlite+aiosqlite:///{file}") as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def by_scope(pair: GuardedPair) -> dict[Scope, str]:
    """A token with each scope alone."""
    return {scope: await pair.issue(scope) for scope in Scope}


def test_each_rpc_has_a_permission_and_no_other_method_has() -> None:
    assert set(PERMISSIONS) == {path_of(method) for method in RPCS}


@pytest.mark.parametrize("method", RPCS, ids=lambda method: method.name)
async def test_an_rpc_is_for_tokens_with_its_scope_alone(
    method: MethodDescriptor, pair: GuardedPair, by_scope: dict[Scope, str]
) -> None:
    for scope, text in by_scope.items():
        answer = await pair.call(method, text)

        if needed(method) in with_implied([scope]):
            assert not answer.is_refused, scope
            assert answer.code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT), answer
        else:
            assert answer.code is grpc.StatusCode.PERMISSION_DENIED, scope
            assert answer.reason == "ERROR_REASON_SCOPE_MISSING"
            assert answer.metadata == {"scope": needed(method), "token_id": id_in(text)}
            assert answer.text.endswith(f"lacks the scope '{needed(method).value}'")


@pytest.mark.parametrize("method", RPCS, ids=lambda method: method.name)
async def test_an_rpc_is_for_no_token_that_is_not_valid(
    method: MethodDescriptor, pair: GuardedPair
) -> None:
    good = await pair.issue(*Scope)
    revoked = await pair.issue(*Scope)
    await pair.tokens.revoke(id_in(revoked) or "", datetime.now(UTC))
    expired = await pair.expired(*Scope)
    cases = {
        None: "MISSING",
        "": "INVALID",
        "garbage": "INVALID",
        good[:-1]: "INVALID",
        f"{good[:-1]}{'1' if good.endswith('0') else '0'}": "INVALID",
        f"herald_{'0' * 16}_{'0' * 64}": "INVALID",
        # who has no secret is not told that the id is one of a revoked token
        f"{revoked[:-1]}{'1' if revoked.endswith('0') else '0'}": "INVALID",
        revoked: "REVOKED",
        expired: "EXPIRED",
    }
    for text, problem in cases.items():
        answer = await pair.call(method, text)

        assert answer.code is grpc.StatusCode.UNAUTHENTICATED, text
        assert answer.reason == f"ERROR_REASON_TOKEN_{problem}", text
        expected_metadata = (
            {"token_id": id_in(text or "")} if problem in ("REVOKED", "EXPIRED") else {}
        )
        assert answer.metadata == expected_metadata

    assert not (await pair.call(method, good)).is_refused


# whose calls change a campaign; a preview writes nothing
OF_SENDERS = {
    method.name
    for method in RPCS
    if needed(method) in (Scope.CAMPAIGNS_WRITE, Scope.CAMPAIGNS_SEND)
} - {"PreviewCampaign"}
OWN, OTHER = "maria", "otto"


@pytest.mark.parametrize("method", RPCS, ids=lambda method: method.name)
async def test_an_rpc_that_changes_a_campaign_is_for_tokens_of_its_sender_alone(
    method: MethodDescriptor, pair: GuardedPair
) -> None:
    users = [a_user(id_) for id_ in (OWN, OTHER, "ann", "bob")]
    await sql_chat_store(pair.database).users.upsert(users, datetime.now(UTC))
    channel: Any = pair.channels["campaign"]
    theirs = a_campaign_message({"id": method.name, "sender_id": OTHER})
    request = campaign_service_pb2.CreateCampaignRequest(campaign=theirs)
    create = campaign_service_pb2_grpc.CampaignServiceStub(channel).CreateCampaign
    await create(request, metadata=bearing(await pair.issue(Scope.CAMPAIGNS_WRITE)))
    text = await pair.issue(*Scope, sender_ids=(OWN,))

    answer = await pair.call(method, text, _naming(method, theirs))

    if method.name in OF_SENDERS:
        assert answer.code is grpc.StatusCode.PERMISSION_DENIED
        assert answer.reason == "ERROR_REASON_SENDER_NOT_ALLOWED"
        assert answer.metadata == {"sender_id": OTHER, "token_id": id_in(text)}
    else:
        assert not answer.is_refused, answer
    of_its_sender = await pair.issue(*Scope, sender_ids=(OTHER,))
    assert not (await pair.call(method, of_its_sender, _naming(method, theirs))).is_refused


def _naming(method: MethodDescriptor, campaign: campaign_pb2.Campaign) -> bytes | None:
    """A request about the campaign, if the method is about one."""
    fields = method.input_type.fields_by_name
    request: Any = GetMessageClass(method.input_type)()
    if "campaign" in fields:
        request.campaign.CopyFrom(campaign)
    elif needed(method).startswith("campaigns:") and "id" in fields:
        request.id = campaign.id
    elif "campaign_id" in fields:
        request.campaign_id = campaign.id
    else:
        return None
    return bytes(request.SerializeToString())


@pytest.mark.parametrize("server", ["segment", "campaign"])
async def test_health_needs_no_token(server: str, pair: GuardedPair) -> None:
    stub: Any = health_pb2_grpc.HealthStub(pair.channels[server])

    answer = await stub.Check(health_pb2.HealthCheckRequest())

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("server", ["segment", "campaign"])
async def test_reflection_needs_any_token(server: str, pair: GuardedPair) -> None:
    channel: Any = pair.channels[server]
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")

    denied = await answer_to(stub.ServerReflectionInfo())
    text = await pair.issue(Scope.EVENTS_READ)
    call = stub.ServerReflectionInfo(iter([request]), metadata=bearing(text))
    found = {service.name for service in (await call.read()).list_services_response.service}

    assert denied.reason == "ERROR_REASON_TOKEN_MISSING"
    # whatever a server has is in the table, or is gRPC's own
    own = {name for name in found if not name.startswith("grpc.")}
    assert own
    assert own <= {path.split("/")[1] for path in PERMISSIONS}


@pytest.mark.parametrize("server", ["segment", "campaign"])
async def test_a_method_that_is_not_there_is_told_to_callers_with_a_token_alone(
    server: str, pair: GuardedPair
) -> None:
    call: Any = pair.channels[server].unary_unary("/herald.chat.v1.ChatService/Shout", None, None)
    text = await pair.issue(Scope.EVENTS_READ)

    assert (await answer_to(call(b""))).code is grpc.StatusCode.UNAUTHENTICATED
    answer = await answer_to(call(b"", metadata=bearing(text)))
    assert answer.code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", "herald_{id}_{secret}")],
        [("authorization", "Basic herald_{id}_{secret}")],
        [("authorization", "Bearer herald_{id}_{secret}"), ("authorization", "Bearer other")],
        [("authorization", "")],
    ],
)
async def test_a_token_comes_once_and_as_a_bearer_token(
    metadata: list[tuple[str, str]], pair: GuardedPair
) -> None:
    _, id_, secret = (await pair.issue(Scope.CHAT_READ)).split("_")
    given = [(key, value.format(id=id_, secret=secret)) for key, value in metadata]
    method: Any = pair.channels["segment"].unary_unary(
        "/herald.chat.v1.ChatService/QueryUsers", None, None
    )

    answer = await answer_to(method(b"", metadata=given))
    lower_case = [("authorization", f"bearer herald_{id_}_{secret}")]
    accepted = await answer_to(method(b"", metadata=lower_case))

    assert answer.reason == "ERROR_REASON_TOKEN_INVALID"
    assert accepted.code is grpc.StatusCode.OK
