"""A stream whose client has stopped reading is cut, and its slot is free again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from herald_rpc.server.admission import DEFAULT_LIMITS, CallLimits
from tests.rpc import raw_service
from tests.rpc.raw_service import running, status_in

# more than HTTP/2 sends ahead of a reader
PAGE = b"x" * 1_000_000
PAGES = 30


async def test_a_stream_whose_client_takes_nothing_is_cut_with_a_reason_and_frees_its_slot() -> (
    None
):
    ended = asyncio.Event()

    async def endless(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        try:
            for _ in range(PAGES):
                yield PAGE
        finally:
            ended.set()

    async def short(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield b"1"

    methods = {"Endless": raw_service.pages(endless), "Short": raw_service.pages(short)}
    limits = CallLimits(streams=1, stalled_seconds=0.2)
    async with asyncio.timeout(60), running(methods, limits=limits) as service:
        stalled = service.pages("Endless")(b"")
        assert await stalled.read() == PAGE

        await ended.wait()

        assert [page async for page in service.pages("Short")(b"")] == [b"1"]
        received: list[bytes] = []
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await read_all(stalled, received)
    assert len(received) < PAGES - 1
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "has taken nothing for 0.2 seconds" in status_in(raised.value).message


async def read_all(call: Any, received: list[bytes]) -> None:
    while page := await call.read():
        received.append(page)


async def test_a_stream_that_has_nothing_to_send_is_not_cut() -> None:
    go_on = asyncio.Event()

    async def quiet(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        await go_on.wait()
        yield b"2"

    limits = CallLimits(stalled_seconds=0.05)
    methods = {"Quiet": raw_service.pages(quiet)}
    async with asyncio.timeout(60), running(methods, limits=limits) as service:
        call = service.pages("Quiet")(b"")
        assert await call.read() == b"1"
        # longer than a reader may take nothing
        asyncio.get_running_loop().call_later(0.2, go_on.set)
        assert await call.read() == b"2"
        assert await call.code() is grpc.StatusCode.OK


def test_a_client_may_take_nothing_for_five_minutes() -> None:
    assert DEFAULT_LIMITS.stalled_seconds == 300
