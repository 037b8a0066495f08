"""Clients without a token reach no handler, whatever they send, and leave nothing behind."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from typing import Any

import grpc
import psutil
import pytest

from chat_store.access.scopes import Scope
from chat_store.access.sql_tokens import SqlTokenStore
from chat_store.database.engine import open_database
from herald_rpc.access.guard import TokenGuard
from herald_rpc.wire.failures import chat_failure
from tests.access.guarded_pair import answer_to, bearing, issue
from tests.rpc import raw_service
from tests.rpc.raw_service import NAME, RawService, running

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
METHODS = ("Ask", "Pages", "Collect")


class House:
    """A server whose every method counts who has come in."""

    def __init__(self) -> None:
        self.came_in = 0
        self.service: RawService

    @property
    def methods(self) -> dict[str, Any]:
        async def ask(_request: bytes, _context: Any) -> bytes:
            self.came_in += 1
            return b"here"

        async def pages(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
            self.came_in += 1
            yield b"page"

        async def collect(requests: Any, _context: Any) -> bytes:
            self.came_in += 1
            return b"".join([request async for request in requests])

        return {
            "Ask": raw_service.unary(ask),
            "Pages": raw_service.pages(pages),
            "Collect": raw_service.collecting(collect),
        }

    @property
    def host_and_port(self) -> tuple[str, int]:
        host, _, port = self.service.server.address.rpartition(":")
        return host, int(port)


@pytest.fixture
async def text_and_house(sqlite_url: str) -> AsyncIterator[tuple[str, House]]:
    house = House()
    database = open_database(sqlite_url)
    guard = TokenGuard(
        SqlTokenStore(database),
        lambda: datetime.now(UTC),
        {f"/{NAME}/{method}": Scope.CHAT_READ for method in METHODS},
    )
    text = await issue(database, Scope.CHAT_READ)
    async with running(house.methods, guard=guard, failure_for=chat_failure) as service:
        house.service = service
        yield text, house
    await database.close()


async def _send(house: House, *parts: bytes) -> None:
    """Writes the parts to the port and reads until the server or a second ends it."""
    reader, writer = await asyncio.open_connection(*house.host_and_port)
    with suppress(ConnectionError, TimeoutError):
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(1):
            while await reader.read(4_096):
                pass
    writer.close()


async def garbage(house: House, chance: random.Random) -> None:
    await _send(house, chance.randbytes(chance.randrange(1, 5_000)))


async def garbage_frames(house: House, chance: random.Random) -> None:
    await _send(house, PREFACE, SETTINGS, chance.randbytes(chance.randrange(1, 5_000)))


async def slow_bytes(house: House, _chance: random.Random) -> None:
    await _send(house, *(bytes([byte]) for byte in PREFACE))


async def nothing_at_all(house: House, _chance: random.Random) -> None:
    await _send(house)


async def huge_metadata(house: House, chance: random.Random) -> None:
    value = "x" * chance.randrange(1_000, 200_000)
    metadata = (("x-filler", value), *bearing(value))
    with suppress(grpc.aio.AioRpcError):
        await house.service.unary("Ask")(b"", metadata=metadata, timeout=10)


async def bad_tokens(house: House, chance: random.Random) -> None:
    for _ in range(10):
        text = f"herald_{chance.getrandbits(64):016x}_{chance.getrandbits(256):064x}"
        answer = await answer_to(house.service.unary("Ask")(b"", metadata=bearing(text)))
        assert answer.code is grpc.StatusCode.UNAUTHENTICATED


async def half_open_streams(house: House, _chance: random.Random) -> None:
    never = asyncio.Event()

    async def requests() -> AsyncIterator[bytes]:
        yield b"first"
        await never.wait()

    calls = [house.service.collecting("Collect")(requests()) for _ in range(20)]
    for call in calls:
        answer = await answer_to(call)
        assert answer.code is grpc.StatusCode.UNAUTHENTICATED


INTRUSIONS = [
    garbage,
    garbage_frames,
    slow_bytes,
    nothing_at_all,
    huge_metadata,
    bad_tokens,
    half_open_streams,
]


@pytest.mark.nightly
@pytest.mark.parametrize("intrusion", INTRUSIONS, ids=lambda each: each.__name__)
async def test_an_intruder_reaches_no_handler_and_leaves_no_connection_behind(
    intrusion: Any, text_and_house: tuple[str, House]
) -> None:
    text, house = text_and_house
    call = house.service.unary("Ask")
    assert (await answer_to(call(b"", metadata=bearing(text)))).code is grpc.StatusCode.OK
    process = psutil.Process(os.getpid())
    before = process.num_fds()

    chances = map(random.Random, range(30))
    await asyncio.gather(*(intrusion(house, chance) for chance in chances))

    assert house.came_in == 1
    assert (await answer_to(call(b"", metadata=bearing(text)))).code is grpc.StatusCode.OK
    while process.num_fds() > before + 3:  # noqa: ASYNC110 - gRPC closes them in its own time
        await asyncio.sleep(0.05)


async def test_hundreds_of_idle_connections_do_not_keep_out_who_has_a_token(
    text_and_house: tuple[str, House],
) -> None:
    text, house = text_and_house
    async with AsyncExitStack() as stack:
        for _ in range(300):
            _, writer = await asyncio.open_connection(*house.host_and_port)
            stack.callback(writer.close)
            writer.write(PREFACE + SETTINGS)

        answer = await answer_to(house.service.unary("Ask")(b"", metadata=bearing(text)))
        assert answer.code is grpc.StatusCode.OK
