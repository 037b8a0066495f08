"""Tokens are made, shown, listed and revoked; nobody gives more than they have."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from campaign_service import segment_client
from campaign_service.__main__ import app
from campaign_service.settings import CampaignSettings
from chat_store.access.scopes import Scope
from chat_store.access.tokens import id_in
from chat_store.sql.stores import sql_chat_store
from herald.access.v1 import access_pb2, access_service_pb2_grpc
from herald.access.v1 import access_service_pb2 as pb
from herald.campaign.v1 import campaign_service_pb2, campaign_service_pb2_grpc
from herald.segment.v1 import segment_pb2, segment_service_pb2, segment_service_pb2_grpc
from tests.access.guarded_pair import (
    Answer,
    GuardedPair,
    answer_to,
    bearing,
    guarded_pair,
    start_campaign_server,
)
from tests.campaign.builders import SENDER_ID, a_campaign_message, a_user
from tests.campaign.server_pair import start_pair

pytestmark = pytest.mark.nightly_on("postgresql")

MASTER = tuple(Scope)


@pytest.fixture
async def pair(database_url: str) -> AsyncIterator[GuardedPair]:
    async with guarded_pair(database_url) as running:
        yield running


class Access:
    """AccessService with one token."""

    def __init__(self, channel: grpc.aio.Channel, text: str | None) -> None:
        self._stub: Any = access_service_pb2_grpc.AccessServiceStub(channel)
        self._metadata = bearing(text)

    async def call(self, request: Any) -> Any:
        method = type(request).__name__.removesuffix("Request")
        return await getattr(self._stub, method)(request, metadata=self._metadata, timeout=60)

    async def create(self, **token: Any) -> Any:
        return await self.call(pb.CreateTokenRequest(token=a_token(**token)))

    async def refusal(self, request: Any) -> Answer:
        return await answer_to(self.call(request))


def a_token(**changes: Any) -> access_pb2.Token:
    return access_pb2.Token(**{"name": "CRM", "scopes": ["chat:read"], **changes})


async def access(pair: GuardedPair, *scopes: Scope, **spec: Any) -> Access:
    return Access(pair.channels["campaign"], await pair.issue(*scopes, **spec))


async def test_a_token_is_made_shown_and_listed_without_its_secret(pair: GuardedPair) -> None:
    giver_text = await pair.issue(*MASTER)
    giver = Access(pair.channels["campaign"], giver_text)
    expires_at = datetime.now(UTC) + timedelta(days=1)

    made = await giver.create(
        scopes=["chat:write", "chat:read", "chat:read"],
        sender_ids=["maria", "maria"],
        expires_at=expires_at,
    )
    shown = (await giver.call(pb.GetTokenRequest(id=made.token.id))).token
    listed = (await giver.call(pb.QueryTokensRequest())).tokens

    assert made.secret.startswith(f"herald_{made.token.id}_")
    assert len(made.secret.rpartition("_")[2]) * 4 >= 256
    assert made.token.scopes == ["chat:read", "chat:write"]
    assert made.token.sender_ids == ["maria"]
    assert made.token.created_by == id_in(giver_text)
    assert made.token.expires_at.ToDatetime(UTC) == expires_at
    assert shown == made.token
    assert listed[0] == made.token
    secret = made.secret.rpartition("_")[2]
    assert secret not in str([shown, *listed])
    stored = await pair.tokens.get(made.token.id)
    assert secret not in repr(stored)
    assert secret.encode() not in stored.digest


async def test_a_new_token_works_at_once_on_both_servers(pair: GuardedPair) -> None:
    giver = await access(pair, *MASTER)

    made = await giver.create(scopes=["chat:read", "events:read"])

    for server, method in (
        ("segment", "/herald.chat.v1.ChatService/QueryUsers"),
        ("campaign", "/herald.event.v1.EventService/QueryWebhooks"),
    ):
        stub: Any = pair.channels[server].unary_unary(method, None, None)
        answer = await answer_to(stub(b"", metadata=bearing(made.secret)))
        assert answer.code is grpc.StatusCode.OK


@pytest.mark.parametrize("lacked", sorted({*Scope} - {Scope.ACCESS_READ, Scope.ACCESS_WRITE}))
async def test_nobody_gives_a_scope_that_they_lack(lacked: Scope, pair: GuardedPair) -> None:
    # writing would include reading
    implying = Scope(lacked.replace(":read", ":write"))
    text = await pair.issue(*{*Scope} - {lacked, implying})
    giver = Access(pair.channels["campaign"], text)

    for wanted in (lacked, implying):
        answer = await giver.refusal(
            pb.CreateTokenRequest(token=a_token(scopes=["access:read", wanted]))
        )

        assert answer.code is grpc.StatusCode.PERMISSION_DENIED
        assert answer.reason == "ERROR_REASON_SCOPE_MISSING"
        assert answer.metadata == {"scope": lacked, "token_id": id_in(text)}


@pytest.mark.parametrize(
    ("own", "wanted", "lacked"),
    [
        (("maria",), ["maria"], None),
        (("maria", "otto"), ["otto"], None),
        ((), ["maria"], None),
        ((), [], None),
        (("maria",), ["otto"], "otto"),
        (("maria",), ["maria", "otto"], "otto"),
        (("maria",), [], ""),
    ],
)
async def test_nobody_gives_senders_that_they_lack(
    own: tuple[str, ...], wanted: list[str], lacked: str | None, pair: GuardedPair
) -> None:
    giver = await access(pair, *MASTER, sender_ids=own)

    answer = await giver.refusal(pb.CreateTokenRequest(token=a_token(sender_ids=wanted)))

    if lacked is None:
        assert answer.code is grpc.StatusCode.OK
    else:
        assert answer.code is grpc.StatusCode.PERMISSION_DENIED
        assert answer.reason == "ERROR_REASON_SENDER_NOT_ALLOWED"
        assert answer.metadata["sender_id"] == lacked


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"name": ""}, "token.name", "INVALID_FIELD"),
        ({"name": "n" * 129}, "token.name", "LIMIT_EXCEEDED"),
        ({"name": "a\0b"}, "token.name", "INVALID_FIELD"),
        ({"scopes": []}, "token.scopes", "INVALID_FIELD"),
        ({"scopes": ["chat:read", "chat"]}, "token.scopes[1]", "INVALID_FIELD"),
        ({"scopes": ["CHAT:READ"]}, "token.scopes[0]", "INVALID_FIELD"),
        ({"scopes": ["chat:read"] * 12}, "token.scopes", "LIMIT_EXCEEDED"),
        ({"sender_ids": [""]}, "token.sender_ids[0]", "INVALID_FIELD"),
        ({"sender_ids": ["ann", "a,b"]}, "token.sender_ids[1]", "INVALID_FIELD"),
        ({"sender_ids": ["s" * 256]}, "token.sender_ids[0]", "LIMIT_EXCEEDED"),
        ({"sender_ids": ["s"] * 1_001}, "token.sender_ids", "LIMIT_EXCEEDED"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "token.expires_at", "INVALID_FIELD"),
    ],
)
async def test_a_token_that_can_not_be_is_refused_at_its_field(
    changes: dict[str, Any], field: str, reason: str, pair: GuardedPair
) -> None:
    giver = await access(pair, *MASTER)

    answer = await giver.refusal(pb.CreateTokenRequest(token=a_token(**changes)))

    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert answer.reason == f"ERROR_REASON_{reason}"
    assert answer.metadata["field"] == field


@pytest.mark.parametrize("request_class", [pb.GetTokenRequest, pb.RevokeTokenRequest])
async def test_an_unknown_token_is_not_found(request_class: Any, pair: GuardedPair) -> None:
    giver = await access(pair, *MASTER)

    answer = await giver.refusal(request_class(id="0123456789abcdef"))

    assert answer == Answer(
        grpc.StatusCode.NOT_FOUND,
        "ERROR_REASON_TOKEN_NOT_FOUND",
        {"token_id": "0123456789abcdef"},
    )


async def test_a_revoked_token_is_refused_everywhere_and_its_streams_end(
    pair: GuardedPair,
) -> None:
    giver = await access(pair, *MASTER)
    text = await pair.issue(*MASTER)
    events: Any = pair.channels["campaign"].unary_stream(
        "/herald.event.v1.EventService/StreamEvents", None, None
    )
    stream = events(b"", metadata=bearing(text))
    calls: list[Any] = [
        pair.channels[server].unary_unary(f"/herald.{method}", None, None)
        for server, method in (
            ("segment", "chat.v1.ChatService/QueryUsers"),
            ("campaign", "event.v1.EventService/QueryWebhooks"),
        )
    ]
    for call in calls:
        assert (await answer_to(call(b"", metadata=bearing(text)))).code is grpc.StatusCode.OK

    revocation = pb.RevokeTokenRequest(id=id_in(text) or "")
    first = (await giver.call(revocation)).token
    again = (await giver.call(revocation)).token

    assert first.HasField("revoked_at")
    assert again == first
    assert (await answer_to(stream)).reason == "ERROR_REASON_TOKEN_REVOKED"
    for call in calls:
        answer = Answer(grpc.StatusCode.OK)
        while answer.code is grpc.StatusCode.OK:
            answer = await answer_to(call(b"", metadata=bearing(text)))
        assert answer.reason == "ERROR_REASON_TOKEN_REVOKED"


async def test_revoked_tokens_are_listed_on_request_and_pages_hold_each_token_once(
    pair: GuardedPair,
) -> None:
    giver = await access(pair, *MASTER)
    made = [(await giver.create(name=f"n{number}")).token.id for number in range(7)]
    await giver.call(pb.RevokeTokenRequest(id=made[3]))

    async def listed(*, show_revoked: bool) -> list[str]:
        request = pb.QueryTokensRequest(page_size=2, show_revoked=show_revoked)
        found = []
        while True:
            page = await giver.call(request)
            found += [token.id for token in page.tokens if token.id in made]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    assert sorted(await listed(show_revoked=True)) == sorted(made)
    assert sorted(await listed(show_revoked=False)) == sorted({*made} - {made[3]})


async def test_a_server_that_demands_no_tokens_takes_calls_with_and_without_and_gives_tokens(
    sqlite_url: str,
) -> None:
    async with start_pair(sqlite_url) as services:
        channel = await services.channels.enter_async_context(
            grpc.aio.insecure_channel(services.campaign.address)
        )
        for text in (None, "garbage"):
            made = await Access(channel, text).create(scopes=list(Scope))
            assert made.token.created_by == "local"


def run(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(app, arguments, env=variables)


async def test_the_command_line_makes_the_first_token_and_revokes_it(sqlite_url: str) -> None:
    at = ("--database-url", sqlite_url)

    async with guarded_pair(sqlite_url) as pair:
        made = await asyncio.to_thread(
            run, "token", "create", "Maria", "--scope", "access:write", "--sender-id", "maria", *at
        )
        assert made.exit_code == 0, made.output
        text = made.stdout.strip()
        id_ = id_in(text) or ""
        found = await Access(pair.channels["campaign"], text).call(pb.GetTokenRequest(id=id_))
        listed = await asyncio.to_thread(run, "token", "list", *at)
        revoked = await asyncio.to_thread(run, "token", "revoke", id_, *at)
        unknown = await asyncio.to_thread(run, "token", "revoke", "0" * 16, *at)
        left = await asyncio.to_thread(run, "token", "list", *at)
        everything = await asyncio.to_thread(run, "token", "list", "--revoked", *at)

    assert found.token.name == "Maria"
    assert found.token.created_by == "local"
    assert f"{id_}  Maria  access:write  senders maria  last used never" in listed.stdout
    assert text.rpartition("_")[2] not in listed.output + revoked.output + everything.output
    assert (revoked.exit_code, unknown.exit_code) == (0, 1)
    assert "revoked" in revoked.stdout
    assert id_ not in left.stdout
    assert id_ in everything.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["Maria"],
        ["Maria", "--scope", "chat"],
        ["", "--scope", "chat:read"],
        ["m" * 129, "--scope", "chat:read"],
        ["Maria", "--scope", "chat:read", "--expires-in-days", "0"],
        ["Maria", "--scope", "chat:read", "--sender-id", ""],
        ["Maria", "--scope", "chat:read", "--sender-id", "s" * 256],
        ["Maria", "--scope", "chat:read", "--sender-id", "ann", "--sender-id", "a,b"],
    ],
)
def test_the_command_line_refuses_a_token_that_can_not_be(
    arguments: list[str], sqlite_url: str
) -> None:
    result = run("token", "create", *arguments, "--database-url", sqlite_url)

    assert result.exit_code == 2


def test_the_command_line_makes_no_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none.db'}"

    result = run("token", "create", "Maria", "--scope", "chat:read", "--database-url", url)

    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


async def with_segment(pair: GuardedPair) -> None:
    users = [a_user(id_) for id_ in (SENDER_ID, "ann", "bob")]
    await sql_chat_store(pair.database).users.upsert(users, datetime.now(UTC))
    metadata = bearing(await pair.issue(Scope.SEGMENTS_WRITE))
    stub: Any = segment_service_pb2_grpc.SegmentServiceStub(pair.channels["segment"])
    segment = segment_pb2.Segment(id="vips", type=segment_pb2.SEGMENT_TYPE_USER)
    await stub.CreateSegment(
        segment_service_pb2.CreateSegmentRequest(segment=segment), metadata=metadata
    )
    await stub.AddTargets(
        segment_service_pb2.AddTargetsRequest(segment_id="vips", target_ids=["ann", "bob"]),
        metadata=metadata,
    )


def creation() -> campaign_service_pb2.CreateCampaignRequest:
    campaign = a_campaign_message({"id": "spring", "user_ids": None, "segment_ids": ["vips"]})
    return campaign_service_pb2.CreateCampaignRequest(campaign=campaign)


async def test_a_campaign_runs_with_the_token_of_its_server_and_is_watched_with_another(
    pair: GuardedPair,
) -> None:
    await with_segment(pair)
    text = await pair.issue(Scope.CAMPAIGNS_WRITE, Scope.CAMPAIGNS_SEND)
    stub: Any = campaign_service_pb2_grpc.CampaignServiceStub(pair.channels["campaign"])
    await stub.CreateCampaign(creation(), metadata=bearing(text))
    request = campaign_service_pb2.StartCampaignRequest(id="spring")
    await stub.StartCampaign(request, metadata=bearing(text))

    watch = ("watch", "spring", "--target", pair.campaign.address)
    watched = await asyncio.to_thread(run, *watch, HERALD_TOKEN=text)
    denied = await asyncio.to_thread(run, *watch, HERALD_TOKEN="")

    assert watched.exit_code == 0, watched.output
    assert watched.stdout.splitlines()[-1].startswith("completed, 2 of 2 (100%)")
    assert denied.exit_code == 1
    assert "ERROR_REASON_TOKEN_MISSING: " in denied.output


@pytest.mark.parametrize("scope", [None, Scope.CAMPAIGNS_WRITE])
async def test_a_campaign_server_whose_token_is_refused_logs_that_and_answers_unavailable(
    scope: Scope | None, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_client, "_refusal_logged_at", None)
    async with guarded_pair(sqlite_url, auth="none", token="") as pair:
        await with_segment(pair)
        text = await pair.issue(scope) if scope else ""
        other = await start_campaign_server(
            sqlite_url, pair.segment.address, auth="none", token=text
        )
        try:
            with capture_logs() as logs:
                async with grpc.aio.insecure_channel(other.address) as channel:
                    stub: Any = campaign_service_pb2_grpc.CampaignServiceStub(channel)
                    answer = await answer_to(stub.CreateCampaign(creation(), timeout=60))
        finally:
            await other.stop()

    assert answer.code is grpc.StatusCode.UNAVAILABLE
    refusals = [line for line in logs if line["event"].endswith("refuses HERALD_TOKEN")]
    (reason,) = [line["reason"] for line in refusals]
    assert reason == f"ERROR_REASON_{'SCOPE' if scope else 'TOKEN'}_MISSING"
    assert not text or text not in str(logs)


def test_a_token_among_the_settings_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"herald_{'a' * 16}_{'b' * 64}"
    monkeypatch.setenv("HERALD_TOKEN", text)

    settings = CampaignSettings()

    assert settings.channel_security.token == text
    shown = f"{settings!r}{settings.described()}{settings.channel_security!r}"
    assert "b" * 64 not in shown
    monkeypatch.setenv("HERALD_TOKEN", f"{text}\n")
    with pytest.raises(ValidationError) as raised:
        CampaignSettings()
    assert "b" * 64 not in str(raised.value)


@pytest.mark.parametrize(
    ("target", "variables", "is_refused"),
    [
        ("segment.internal:50051", {}, True),
        ("127.0.0.1:1,10.0.0.1:2", {}, True),
        ("127.0.0.1:1, 127.0.0.2:2", {}, False),
        ("[::1]:1", {}, False),
        ("localhost:1", {}, False),
        ("segment.internal:50051", {"HERALD_TLS_CA": "ca.pem"}, False),
        ("segment.internal:50051", {"HERALD_INSECURE": "true"}, False),
    ],
)
def test_a_token_goes_beyond_loopback_with_tls_alone(
    target: str, variables: dict[str, str], *, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "HERALD_TOKEN": f"herald_{'a' * 16}_{'b' * 64}",
        "HERALD_SEGMENT_TARGET": target,
        **variables,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    if is_refused:
        with pytest.raises(ValidationError, match="in plain text: set HERALD_TLS_CA"):
            CampaignSettings()
        watched = run("watch", "spring", "--target", target, HERALD_INSECURE="")
        assert (watched.exit_code, "in plain text" in watched.output) == (2, True)
    else:
        assert CampaignSettings().channel_security.token
