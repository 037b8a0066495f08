"""A small TCP relay in front of a server: connections through it can be cut, held up and lied to."""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK = 65_536
# close() then sends RST: to the other side, the machine is gone
_NO_LINGER = struct.pack("ii", 1, 0)


class Proxy:
    """Relays to `upstream`, an `ip:port` or the path of a Unix socket, from an address of its own.

    A connection that the upstream refuses is accepted here, and closed at once.
    """

    def __init__(self, upstream: str) -> None:
        self.address = ""
        self._upstream = upstream
        self._connections: set[_Connection] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._to_lose = 0
        self._refusing = False
        self.refused = 0
        """Connections that were not let in."""
        self.held_bytes = 0
        """What came while everything was held up."""
        self.lost_commits = 0
        """COMMITs that PostgreSQL has carried out, and whose answer nobody got."""

    def cut(self, choose: random.Random, share: float = 1.0) -> int:
        """Breaks so many of the connections, and returns their number."""
        there = sorted(self._connections, key=id)
        chosen = choose.sample(there, k=max(1, round(share * len(there)))) if there else []
        for connection in chosen:
            connection.cut()
        return len(chosen)

    def refuse(self) -> None:
        """Breaks all connections, and lets nobody in."""
        self._refusing = True
        for connection in list(self._connections):
            connection.cut()

    def hold(self) -> None:
        """Nothing gets through any more, and nothing breaks."""
        self._open.clear()

    def let_go(self) -> None:
        """Ends `refuse` and `hold`."""
        self._refusing = False
        self._open.set()

    def lose_commit(self) -> None:
        """The next COMMIT is passed on, its answer is thrown away, and its connection cut."""
        self._to_lose += 1

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.create_task(self._serve(reader, writer))
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)

    async def close(self) -> None:
        """Breaks everything, for good."""
        self.refuse()
        self._open.set()
        await asyncio.gather(*self._handlers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            self.refused += 1
            writer.transport.abort()
            return
        try:
            there = await _connect(self._upstream)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection((reader, writer), there)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._up(connection))
                group.create_task(self._down(connection))
        finally:
            self._connections.discard(connection)
            connection.cut()

    async def _up(self, connection: "_Connection") -> None:
        frames = _Frames()
        async for data in connection.from_client():
            await self._gate(data)
            if frames.has_commit(data) and self._to_lose:
                self._to_lose -= 1
                connection.loses_answer = True
            connection.to_server(data)

    async def _down(self, connection: "_Connection") -> None:
        async for data in connection.from_server():
            await self._gate(data)
            if connection.loses_answer:
                self.lost_commits += 1
                connection.cut()
                return
            connection.to_client(data)

    async def _gate(self, data: bytes) -> None:
        if not self._open.is_set():
            self.held_bytes += len(data)
            await self._open.wait()


@asynccontextmanager
async def relayed(upstream: str) -> AsyncIterator[Proxy]:
    """A proxy on a free port of this machine; in the end it breaks what goes through it."""
    proxy = Proxy(upstream)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    proxy.address = f"{host}:{port}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


class _Connection:
    """Both ends; either one's end is the other's, too."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._client_reader, self._client_writer = client
        self._server_reader, self._server_writer = server
        self.loses_answer = False

    def from_client(self) -> AsyncIterator[bytes]:
        return self._chunks(self._client_reader)

    def from_server(self) -> AsyncIterator[bytes]:
        return self._chunks(self._server_reader)

    def to_client(self, data: bytes) -> None:
        self._client_writer.write(data)

    def to_server(self, data: bytes) -> None:
        self._server_writer.write(data)

    def cut(self) -> None:
        for writer in (self._client_writer, self._server_writer):
            wire = writer.get_extra_info("socket")
            if wire is not None and not writer.transport.is_closing():
                with suppress(OSError):
                    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            writer.transport.abort()

    async def _chunks(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                yield data
        self.cut()


class _Frames:
    """Finds the COMMITs in what a PostgreSQL client says."""

    def __init__(self) -> None:
        self._rest = b""
        self._started = False

    def has_commit(self, data: bytes) -> bool:
        self._rest += data
        found = False
        while (frame := self._next()) is not None:
            found = found or frame.startswith(b"QCOMMIT")
        return found

    def _next(self) -> bytes | None:
        """A whole message: its kind, and what it says."""
        # the very first one has no kind
        kind = 1 if self._started else 0
        if len(self._rest) < kind + 4:
            return None
        end = kind + int.from_bytes(self._rest[kind : kind + 4])
        if len(self._rest) < end:
            return None
        frame, self._rest = self._rest[:kind] + self._rest[kind + 4 : end], self._rest[end:]
        self._started = True
        return frame


async def _connect(upstream: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if "/" in upstream:
        return await asyncio.open_unix_connection(upstream)
    host, _, port = upstream.rpartition(":")
    return await asyncio.open_connection(host, int(port))
