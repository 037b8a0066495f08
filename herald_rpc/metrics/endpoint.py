"""The HTTP port of a process: `/metrics`, `/livez` and `/readyz`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from herald_rpc.addresses import host_and_port
from herald_rpc.server.serving import CannotListenError

_CLOSE_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class Endpoint:
    """Says that the process is not ready until it follows something that is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._is_ready: Callable[[], bool] = lambda: False
        self.address = ""
        """The address it listens on, with the actual port."""

    def follow(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready

    async def metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
        # in a thread, because the text of all series takes several milliseconds
        text = await asyncio.to_thread(encode, self._registry)
        return web.Response(body=text, headers={hdrs.CONTENT_TYPE: content_type})

    async def livez(self, _: web.Request) -> web.Response:
        """Answers as long as the event loop does."""
        return web.Response(text="ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        if self._is_ready():
            return web.Response(text="ok\n")
        return web.Response(status=503, text="not ready\n")


@asynccontextmanager
async def metrics_endpoint(listen: str, registry: CollectorRegistry) -> AsyncIterator[Endpoint]:
    """Serves until the context ends. Raises `CannotListenError`."""
    endpoint = Endpoint(registry)
    application = web.Application()
    application.router.add_get("/metrics", endpoint.metrics)
    application.router.add_get("/livez", endpoint.livez)
    application.router.add_get("/readyz", endpoint.readyz)
    runner = web.AppRunner(
        application, access_log=None, handle_signals=False, shutdown_timeout=_CLOSE_SECONDS
    )
    await runner.setup()
    host, port = host_and_port(listen)
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise CannotListenError(listen) from error
        bound = runner.addresses[0]
        endpoint.address = (
            f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"
        )
        logger.info("metrics", address=endpoint.address)
        yield endpoint
    finally:
        await runner.cleanup()
