"""Our own clients find the servers that are well, and try again when none was."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from herald.access.v1 import access_service_pb2
from herald.campaign.v1 import campaign_service_pb2
from herald.chat.v1 import chat_service_pb2
from herald.event.v1 import event_service_pb2
from herald.segment.v1 import segment_service_pb2
from herald_rpc.client.channels import SERVICE_CONFIG, TargetError, open_channels, target_uris
from herald_rpc.server.failures import Failure
from tests.rpc import raw_service
from tests.rpc.raw_service import RawService, RefusedError, running

AWAY = Failure(code=grpc.StatusCode.UNAVAILABLE, reason="ERROR_REASON_AWAY", message="not now")
CHANGED = Failure(code=grpc.StatusCode.ABORTED, reason="ERROR_REASON_ETAG", message="changed")
FULL = Failure(
    code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="ERROR_REASON_OVERLOADED", message="later"
)

SEGMENTS = "herald.segment.v1.SegmentService"

# Called twice, these do more than once, or refuse the second call though the first has worked.
FOR_THE_CALLER_TO_REPEAT = {
    "herald.access.v1.AccessService/CreateToken",
    "herald.campaign.v1.CampaignService/CreateCampaign",
    "herald.campaign.v1.CampaignService/UpdateCampaign",
    "herald.chat.v1.ChatService/Import",
    "herald.event.v1.EventService/CreateWebhook",
    "herald.event.v1.EventService/DeleteWebhook",
    "herald.event.v1.EventService/RedeliverAttempt",
    "herald.event.v1.EventService/ReplayEvents",
    "herald.event.v1.EventService/RotateWebhookSecret",
    "herald.segment.v1.SegmentService/CreateSegment",
}


@pytest.mark.parametrize(
    ("target", "uris"),
    [
        ("127.0.0.1:50051", ["ipv4:127.0.0.1:50051"]),
        ("10.0.0.1:1, 10.0.0.2:65535", ["ipv4:10.0.0.1:1,10.0.0.2:65535"]),
        ("[::1]:50051", ["ipv6:[::1]:50051"]),
        ("[::1]:1,[::2]:2", ["ipv6:[::1]:1,[::2]:2"]),
        ("10.0.0.1:1,[::1]:2", ["ipv4:10.0.0.1:1", "ipv6:[::1]:2"]),
        ("segment:50051", ["dns:///segment:50051"]),
        ("segment.chat.svc.cluster.local:50051", ["dns:///segment.chat.svc.cluster.local:50051"]),
        ("segment-1:50051,segment-2:50051", ["dns:///segment-1:50051", "dns:///segment-2:50051"]),
        ("segment:1, segment:2", ["dns:///segment:1", "dns:///segment:2"]),
        ("segment:1,segment:1", ["dns:///segment:1"]),
        (
            "a:1,10.0.0.1:1,[::1]:2,b:2,10.0.0.2:3",
            ["dns:///a:1", "ipv4:10.0.0.1:1,10.0.0.2:3", "ipv6:[::1]:2", "dns:///b:2"],
        ),
    ],
)
def test_a_target_is_named_so_that_every_address_is_used(target: str, uris: list[str]) -> None:
    assert list(target_uris(target).values()) == uris


@pytest.mark.parametrize(
    "target",
    [
        "",
        ",",
        "segment",
        ":50051",
        "segment:",
        "segment:0",
        "segment:65536",
        "segment:http",
        "a:1,b",
        "a:1,b:2,",
        ",a:1",
        "a:1;b:2",
        "a:1 b:2",
        "10.0.0.1:1,segment",
        "10.0.0.1:1,",
        "::1:50051",
        "[:::]:50051",
        "[segment]:50051",
        "http://segment:50051",
        "a:1,dns:///b:2",
    ],
    ids=repr,
)
def test_a_target_that_gives_no_addresses_is_refused_by_name(target: str) -> None:
    with pytest.raises(TargetError) as raised:
        target_uris(target)

    assert repr(target) in str(raised.value)


@asynccontextmanager
async def open_channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channels(address) as channels:
        (channel,) = channels.values()
        yield channel


def naming(name: bytes) -> dict[str, Any]:
    async def who(_request: bytes, _context: Any) -> bytes:
        return name

    return {"Who": raw_service.unary(who)}


async def two_servers(stack: AsyncExitStack) -> tuple[Any, Any, Any]:
    one = await stack.enter_async_context(running(naming(b"one")))
    two = await stack.enter_async_context(running(naming(b"two")))
    channel = await stack.enter_async_context(
        open_channel(f"{one.server.address},{two.server.address}")
    )
    return one, two, RawService(one.server, channel).unary("Who")


async def test_calls_are_spread_over_all_servers() -> None:
    async with AsyncExitStack() as stack:
        _, _, who = await two_servers(stack)

        async with asyncio.timeout(10):
            heard: set[bytes] = set()
            while heard != {b"one", b"two"}:
                heard.add(await who(b""))


async def test_a_server_that_is_not_serving_gets_no_calls() -> None:
    async with AsyncExitStack() as stack:
        one, _, who = await two_servers(stack)
        await one.server.set_serving(False)

        assert {await who(b"") for _ in range(20)} == {b"two"}


def test_every_method_is_either_repeated_or_left_to_its_caller() -> None:
    files: list[Any] = [
        access_service_pb2,
        campaign_service_pb2,
        chat_service_pb2,
        event_service_pb2,
        segment_service_pb2,
    ]
    methods = [
        f"{service.full_name}/{method.name}"
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    (policy,) = json.loads(SERVICE_CONFIG.read_text())["methodConfig"]
    repeated = [f"{name['service']}/{name['method']}" for name in policy["name"]]

    assert sorted([*repeated, *FOR_THE_CALLER_TO_REPEAT]) == sorted(methods)


class Trying:
    """Fails as it is told, at the first two tries."""

    def __init__(self, failure: Failure) -> None:
        self._failure = failure
        self.tries = 0

    async def unary(self, _request: bytes, _context: Any) -> bytes:
        self.tries += 1
        if self.tries < 3:
            raise RefusedError(self._failure)
        return b"here"

    async def pages(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await self.unary(request, context)


@pytest.mark.parametrize(
    ("kind", "method"),
    [("unary", "GetSegment"), ("unary", "AddTargets"), ("pages", "StreamTargets")],
)
async def test_a_call_is_tried_again_until_the_server_can_answer(kind: str, method: str) -> None:
    trying = Trying(AWAY)
    methods = {method: getattr(raw_service, kind)(getattr(trying, kind))}
    async with (
        running(methods, name=SEGMENTS) as service,
        open_channel(service.server.address) as channel,
    ):
        call = getattr(RawService(service.server, channel, SEGMENTS), kind)(method)(b"")
        assert await (call.read() if kind == "pages" else call) == b"here"

    assert trying.tries == 3


@pytest.mark.parametrize(
    ("method", "failure"),
    [("CreateSegment", AWAY), ("GetSegment", CHANGED), ("GetSegment", FULL)],
    ids=["it may have worked", "it needs a change", "the server asks for time"],
)
async def test_what_is_for_the_caller_to_decide_is_not_tried_again(
    method: str, failure: Failure
) -> None:
    trying = Trying(failure)
    async with (
        running({method: raw_service.unary(trying.unary)}, name=SEGMENTS) as service,
        open_channel(service.server.address) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await RawService(service.server, channel, SEGMENTS).unary(method)(b"")

    assert raised.value.code() is failure.code
    assert trying.tries == 1


async def test_a_stream_that_breaks_after_its_first_page_is_left_to_its_reader() -> None:
    tries = []

    async def breaking(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        tries.append(1)
        yield b"1"
        raise RefusedError(AWAY)

    methods = {"StreamTargets": raw_service.pages(breaking)}
    async with (
        running(methods, name=SEGMENTS) as service,
        open_channel(service.server.address) as channel,
    ):
        call = RawService(service.server, channel, SEGMENTS).pages("StreamTargets")(b"")
        assert await call.read() == b"1"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()

    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(tries) == 1


async def test_a_stream_is_64_kib_ahead_of_its_reader_and_no_more() -> None:
    page = b"x" * 16 * 1024
    given = 0

    async def endless(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 1
            yield page

    methods = {"StreamTargets": raw_service.pages(endless), **naming(b"one")}
    async with running(methods) as service, open_channel(service.server.address) as channel:
        called = RawService(service.server, channel)
        call = called.pages("StreamTargets")(b"")
        # in the course of which a window that grows would have grown to megabytes
        for _ in range(200):
            await call.read()
        # on the same connection, and so behind all that there is room for
        for _ in range(20):
            await called.unary("Who")(b"")

        # four are in the window; either side has some in hand
        assert given - 200 < 16
        call.cancel()


async def test_a_proxy_for_the_web_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    async with (
        running(naming(b"one")) as service,
        open_channel(service.server.address) as channel,
    ):
        assert await RawService(service.server, channel).unary("Who")(b"") == b"one"
