"""With several host names, each call goes to one whose server answers."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

from herald_rpc.client.channels import open_channels
from herald_rpc.client.picker import ChannelPicker
from tests.rpc import raw_service
from tests.rpc.raw_service import RawService, running

# a label that is empty, so that no resolver asks a server for it
UNKNOWN = "no..name:50051"
# far more than a connection on this machine takes
PATIENCE_SECONDS = 60.0


def naming(name: str) -> dict[str, Any]:
    async def who(_request: bytes, _context: Any) -> bytes:
        return name.encode()

    return {"Who": raw_service.unary(who)}


def by_name(service: RawService) -> str:
    return f"localhost:{service.server.address.rpartition(':')[2]}"


@asynccontextmanager
async def picker_of(*names: str) -> AsyncIterator[ChannelPicker]:
    async with open_channels(",".join(names)) as channels:
        assert len(channels) == len(names)
        yield ChannelPicker(channels.values())


async def answer(picker: ChannelPicker) -> str:
    channel = await picker.pick(PATIENCE_SECONDS)
    who: Any = channel.unary_unary(f"/{raw_service.NAME}/Who", None, None)
    return bytes(await who(b"", timeout=PATIENCE_SECONDS)).decode()


async def all_ready(picker: ChannelPicker, servers: Sequence[str]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while {await answer(picker) for _ in servers} != set(servers):
            pass


async def only(picker: ChannelPicker, server: str, servers: Sequence[str]) -> None:
    """Returns when the picker has seen that the others are lost."""
    answers: set[str] = set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while answers != {server}:
            with suppress(grpc.aio.AioRpcError):
                answers = {await answer(picker) for _ in servers}


async def test_calls_go_to_all_host_names_in_turn() -> None:
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(running(naming(name)))
            for name in ("one", "two", "three")
        ]
        picker = await stack.enter_async_context(picker_of(*map(by_name, servers)))
        await all_ready(picker, ["one", "two", "three"])

        answers = Counter([await answer(picker) for _ in range(30)])

    assert answers == {"one": 10, "two": 10, "three": 10}


async def test_a_host_whose_server_is_not_serving_gets_no_calls_until_it_is() -> None:
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(running(naming(n))) for n in ("one", "two")]
        picker = await stack.enter_async_context(picker_of(by_name(one), by_name(two)))
        await all_ready(picker, ["one", "two"])

        await one.server.set_serving(False)
        await only(picker, "two", ["one", "two"])
        assert {await answer(picker) for _ in range(10)} == {"two"}

        await one.server.set_serving(True)
        await all_ready(picker, ["one", "two"])


async def test_a_host_that_went_away_gets_no_calls_until_it_is_back() -> None:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(running(naming("one")))
        async with running(naming("two")) as two:
            picker = await stack.enter_async_context(picker_of(by_name(one), by_name(two)))
            await all_ready(picker, ["one", "two"])
        await only(picker, "one", ["one", "two"])
        assert {await answer(picker) for _ in range(10)} == {"one"}

        await stack.enter_async_context(running(naming("two"), address=two.server.address))
        await all_ready(picker, ["one", "two"])


@asynccontextmanager
async def silent_host() -> AsyncIterator[str]:
    """A port that takes connections, but never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"localhost:{listener.getsockname()[1]}"


@pytest.mark.parametrize("bad", ["unknown name", "closed port", "silent host"])
async def test_a_host_that_can_not_be_reached_harms_no_call_not_even_the_first(bad: str) -> None:
    async with AsyncExitStack() as stack:
        silent = await stack.enter_async_context(silent_host())
        host = {"unknown name": UNKNOWN, "closed port": "localhost:1", "silent host": silent}[bad]
        good = await stack.enter_async_context(running(naming("good")))
        for names in ((host, by_name(good)), (by_name(good), host)):
            picker = await stack.enter_async_context(picker_of(*names))

            answers = [await answer(picker) for _ in range(10)]

            assert answers == ["good"] * 10


async def test_a_call_that_times_out_on_one_host_is_made_on_another() -> None:
    async def never(_request: bytes, _context: Any) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(running(naming("good")))
        stuck = await stack.enter_async_context(running({"Who": raw_service.unary(never)}))
        channels = await stack.enter_async_context(
            open_channels(f"{by_name(stuck)},{by_name(good)}")
        )
        picker = ChannelPicker(channels.values())
        stub: Any = {
            each: each.unary_unary(f"/{raw_service.NAME}/Who", None, None)
            for each in channels.values()
        }

        calls = [picker.call(stub.__getitem__, b"", seconds=4, attempts=2) for _ in range(9)]
        answers = await asyncio.gather(*calls)

    assert answers == [b"good"] * 9


async def test_if_no_host_can_be_reached_a_call_fails_instead_of_waiting() -> None:
    async with picker_of(UNKNOWN, "localhost:1") as picker:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await answer(picker)

    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_host_that_may_still_answer_is_waited_for_no_longer_than_the_time_given() -> None:
    async with silent_host() as silent, open_channels(f"{UNKNOWN},{silent}") as channels:
        picker = ChannelPicker(channels.values())
        async with asyncio.timeout(PATIENCE_SECONDS):
            picked = await picker.pick(0.5)

    assert picked is channels[silent]
