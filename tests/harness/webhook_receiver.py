"""A webhook's endpoint: a real HTTP server that answers as a test says, and keeps what it got."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web


@dataclass(frozen=True)
class Received:
    """One request. `accepted`: it was answered with 200."""

    headers: Mapping[str, str]
    body: bytes
    accepted: bool

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def events(self) -> list[Any]:
        content = orjson.loads(self.body)
        return content if isinstance(content, list) else [content]


Answering = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


async def accept(_: web.Request) -> web.StreamResponse | None:
    return None


def answering(*first: int, then: int = 200) -> Answering:
    """Answers with these statuses, one a request, and then with another for ever."""
    statuses = iter(first)

    async def answer(_: web.Request) -> web.StreamResponse | None:
        status = next(statuses, then)
        return None if status == 200 else web.Response(status=status)

    return answer


@dataclass
class Receiver:
    """`answer` gives the response, or None for 200."""

    url: str = ""
    answer: Answering = accept
    requests: list[Received] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        response = await self.answer(request)
        accepted = response is None
        self.requests.append(Received(dict(request.headers), body, accepted))
        self.arrived.set()
        return web.Response() if response is None else response

    @property
    def first_arrivals(self) -> list[Any]:
        """The events that were accepted, each once."""
        found: dict[str, Any] = {}
        for request in self.requests:
            if request.accepted:
                for event in request.events:
                    found.setdefault(event["id"], event)
        return list(found.values())

    async def until(self, reached: Callable[[], bool]) -> None:
        """The test's own time-out is its bound."""
        while not reached():
            self.arrived.clear()
            await self.arrived.wait()


@asynccontextmanager
async def receiving(answer: Answering = accept) -> AsyncIterator[Receiver]:
    receiver = Receiver(answer=answer)
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/{tail:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"http://{host}:{port}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()
