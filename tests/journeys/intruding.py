"""Clients without a token that try everything, to be run as a process of their own.

`python -m tests.journeys.intruding <address> <connections>`: says when all connections are open,
goes on until standard input ends, and then says how its calls have ended.
"""

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import grpc

from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as pb
from herald.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from herald_rpc.process.runtime import allow_all_descriptors
from tests.journeys.flooding import refusal_text

BAD_TOKEN = f"herald_{'0' * 16}_{'0' * 64}"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_READ_SECONDS = 1.0
_PAUSE_SECONDS = 0.05
_AT_ONCE = 5


class Intruder:
    def __init__(self, address: str, channel: grpc.aio.Channel, stop: asyncio.Event) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port)
        self._stub = ChatServiceStub(channel)
        self._chance = random.Random(7)  # noqa: S311 - no secret
        self._stop = stop
        self.ended: Counter[str] = Counter()

    async def garbage(self) -> None:
        await self._send(self._chance.randbytes(self._chance.randrange(1, 5_000)))

    async def garbage_frames(self) -> None:
        await self._send(PREFACE, SETTINGS, self._chance.randbytes(2_000))

    async def slow_bytes(self) -> None:
        await self._send(*(bytes([byte]) for byte in PREFACE + SETTINGS), pause=_PAUSE_SECONDS)

    async def huge_metadata(self) -> None:
        value = "x" * self._chance.randrange(1_000, 200_000)
        await self._call(("x-filler", value), ("authorization", f"Bearer {value}"))

    async def no_token(self) -> None:
        await self._call()

    async def bad_token(self) -> None:
        await self._call(("authorization", f"Bearer {BAD_TOKEN}"))

    async def half_open_stream(self) -> None:
        async def requests() -> AsyncIterator[pb.ImportRequest]:
            yield pb.ImportRequest()
            await self._stop.wait()

        await self._note(self._stub.Import(requests(), timeout=60))

    async def go_on(self, intrusion: Callable[[], Awaitable[None]]) -> None:
        while not self._stop.is_set():
            await intrusion()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _call(self, *metadata: tuple[str, str]) -> None:
        """Would write a user, if it were let in."""
        request = pb.UpsertUsersRequest(users=[chat_pb2.User(id="intruder")])
        await self._note(self._stub.UpsertUsers(request, metadata=metadata, timeout=60))

    async def _note(self, call: Any) -> None:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            self.ended[refusal_text(error)] += 1
        else:
            self.ended["OK"] += 1

    async def _send(self, *parts: bytes, pause: float = 0.0) -> None:
        """Writes the parts, and reads until the server or a second ends it."""
        with suppress(ConnectionError, TimeoutError):
            reader, writer = await asyncio.open_connection(self._host, self._port)
            try:
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(pause)
                async with asyncio.timeout(_READ_SECONDS):
                    while await reader.read(4_096):
                        pass
            finally:
                writer.close()

    async def hold(self, stack: AsyncExitStack) -> None:
        """Opens a connection that does nothing but begin."""
        _, writer = await asyncio.open_connection(self._host, self._port)
        stack.callback(writer.close)
        writer.write(PREFACE + SETTINGS)


async def intrude(address: str, connections: int) -> Counter[str]:
    stop = asyncio.Event()
    async with grpc.aio.insecure_channel(address) as channel, AsyncExitStack() as stack:
        intruder = Intruder(address, channel, stop)
        for _ in range(connections):
            await intruder.hold(stack)
        print("open", flush=True)
        kinds = [
            intruder.garbage,
            intruder.garbage_frames,
            intruder.slow_bytes,
            intruder.huge_metadata,
            intruder.no_token,
            intruder.bad_token,
            intruder.half_open_stream,
        ]
        async with asyncio.TaskGroup() as group:
            for kind in kinds * _AT_ONCE:
                group.create_task(intruder.go_on(kind))
            await asyncio.to_thread(sys.stdin.read)
            stop.set()
    return intruder.ended


if __name__ == "__main__":
    # as if it were on another machine
    os.nice(19)
    allow_all_descriptors()
    print(json.dumps(asyncio.run(intrude(sys.argv[1], int(sys.argv[2])))), flush=True)
