"""Our own clients find the servers that are well, and try again when none was."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from herald_rpc.channels import TargetError, open_channel, target_uri
from herald_rpc.failures import Failure
from tests.rpc import raw_service
from tests.rpc.raw_service import RawService, RefusedError, running

AWAY = Failure(code=grpc.StatusCode.UNAVAILABLE, reason="ERROR_REASON_AWAY", message="not now")


@pytest.mark.parametrize(
    ("target", "uri"),
    [
        ("127.0.0.1:50051", "ipv4:127.0.0.1:50051"),
        ("10.0.0.1:1, 10.0.0.2:65535", "ipv4:10.0.0.1:1,10.0.0.2:65535"),
        ("[::1]:50051", "ipv6:[::1]:50051"),
        ("[::1]:1,[::2]:2", "ipv6:[::1]:1,[::2]:2"),
        ("segment:50051", "dns:///segment:50051"),
        ("segment.chat.svc.cluster.local:50051", "dns:///segment.chat.svc.cluster.local:50051"),
    ],
)
def test_a_target_is_named_so_that_every_address_is_used(target: str, uri: str) -> None:
    assert target_uri(target) == uri


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
        "a:1,b:2",
        "10.0.0.1:1,segment:2",
        "10.0.0.1:1,[::1]:2",
        "10.0.0.1:1,",
        "::1:50051",
        "[:::]:50051",
        "http://segment:50051",
    ],
    ids=repr,
)
def test_a_target_that_gives_no_addresses_is_refused_by_name(target: str) -> None:
    with pytest.raises(TargetError) as raised:
        target_uri(target)

    assert repr(target) in str(raised.value)


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


@pytest.mark.parametrize("kind", ["unary", "pages"])
async def test_a_call_is_tried_again_until_the_server_can_answer(kind: str) -> None:
    tries = []

    async def unary(_request: bytes, _context: Any) -> bytes:
        tries.append(1)
        if len(tries) < 3:
            raise RefusedError(AWAY)
        return b"here"

    async def pages(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await unary(request, context)

    methods = {"unary": raw_service.unary(unary), "pages": raw_service.pages(pages)}
    async with running(methods) as service, open_channel(service.server.address) as channel:
        call = getattr(RawService(service.server, channel), kind)(kind)(b"")
        assert await (call.read() if kind == "pages" else call) == b"here"

    assert len(tries) == 3


async def test_a_stream_that_breaks_after_its_first_page_is_left_to_its_reader() -> None:
    tries = []

    async def breaking(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        tries.append(1)
        yield b"1"
        raise RefusedError(AWAY)

    methods = {"Pages": raw_service.pages(breaking)}
    async with running(methods) as service, open_channel(service.server.address) as channel:
        call = RawService(service.server, channel).pages("Pages")(b"")
        assert await call.read() == b"1"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()

    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(tries) == 1


async def test_other_failures_are_not_tried_again() -> None:
    tries = []

    async def refuse(_request: bytes, _context: Any) -> bytes:
        tries.append(1)
        raise RefusedError(
            Failure(code=grpc.StatusCode.ABORTED, reason="ERROR_REASON_ETAG", message="changed")
        )

    methods = {"Try": raw_service.unary(refuse)}
    async with running(methods) as service, open_channel(service.server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await RawService(service.server, channel).unary("Try")(b"")

    assert len(tries) == 1


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
