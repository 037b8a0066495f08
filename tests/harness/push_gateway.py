"""A push gateway: a real HTTP server that takes and answers the JSON of gorush."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from tests.harness.processes import free_address

_MOST_NOTIFICATIONS = 100
_NAMES = {1: "ios", 2: "android", 3: "huawei"}
IOS, ANDROID, HUAWEI = _NAMES

Answering = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


async def take(_: web.Request) -> web.StreamResponse | None:
    return None


@dataclass
class Gateway:
    """`answer` gives a response of its own, or None: then the notifications are taken.

    Tokens among `errors` fail. Platforms that are not `enabled` are left out without a word, as
    gorush does. `hides` what gorush's `hide_token` hides.
    """

    address: str = field(default_factory=free_address)
    answer: Answering = take
    errors: Mapping[str, str] = field(default_factory=dict)
    enabled: Collection[int] = (IOS, ANDROID, HUAWEI)
    hides: bool = True
    taken: list[Any] = field(default_factory=list)
    requests: list[list[Any]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://{self.address}/api/push"

    @property
    def tokens(self) -> list[str]:
        """The devices that were pushed to, in order, each as often as it was."""
        return sorted(token for each in self.taken for token in each["tokens"])

    async def until(self, reached: Callable[[], bool]) -> None:
        """The test's own time-out is its bound."""
        while not reached():
            self.arrived.clear()
            await self.arrived.wait()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        notifications = orjson.loads(await request.read())["notifications"]
        assert 0 < len(notifications) <= _MOST_NOTIFICATIONS
        self.requests.append(notifications)
        self.arrived.set()
        response = await self.answer(request)
        if response is not None:
            return response
        served = [each for each in notifications if each["platform"] in self.enabled]
        logs = []
        for each in served:
            (token,) = each["tokens"]
            if token in self.errors:
                logs.append(self._failed(each, token))
            else:
                self.taken.append(each)
        self.arrived.set()
        return web.json_response({"success": "ok", "counts": len(served), "logs": logs})

    def _failed(self, notification: Any, token: str) -> Any:
        found = {
            "type": "failed-push",
            "platform": _NAMES[notification["platform"]],
            "token": "*" * len(token) if self.hides else token,
            "message": notification["message"],
            "error": self.errors[token],
        }
        return {"notif_id": notification["notif_id"], **found} if self.hides else found


@asynccontextmanager
async def serving(gateway: Gateway) -> AsyncIterator[Gateway]:
    """Listens at the gateway's address; may be done again and again."""
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/api/push", gateway.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    host, _, port = gateway.address.partition(":")
    await web.TCPSite(runner, host, int(port)).start()
    try:
        yield gateway
    finally:
        await runner.cleanup()
