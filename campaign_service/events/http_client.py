"""Requests to webhooks, only to allowed addresses and within a time limit."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from campaign_service.campaigns.addresses import AddressPolicy, AddressRefusedError

# bytes of an answer's body that are read, so that its connection can be used again
_MOST_READ_BYTES = 64 * 1024
_KEEPALIVE_SECONDS = 30.0
_DIED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionResetError)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. `status` is 0 if none came. `error` is empty for 2xx, and never holds a secret."""

    status: int
    error: str = ""
    retry_after: str | None = None
    refused: bool = False


class WebhookClient:
    """Posts to webhooks; `open_client` opens and closes it."""

    def __init__(self, session: aiohttp.ClientSession, policy: AddressPolicy) -> None:
        self._session = session
        self._policy = policy

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout_seconds: float
    ) -> Answer:
        """Makes one attempt. Repeats the request at once if it used a kept connection that was dead."""
        try:
            async with asyncio.timeout(timeout_seconds):
                try:
                    return await self._post(url, headers, body)
                except _RepeatableError:
                    return await self._post(url, headers, body, repeated=True)
        except TimeoutError:
            return Answer(0, f"no answer within {timeout_seconds:g} s")
        except AddressRefusedError as error:
            return Answer(0, str(error), refused=True)
        except aiohttp.InvalidURL:
            return Answer(0, "the URL can't be used", refused=True)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(0, described(error))

    async def _post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, repeated: bool = False
    ) -> Answer:
        target = URL(url)
        # aiohttp resolves no literal address
        self._policy.check_host(target.host or "")
        trace = SimpleNamespace(reused=False)
        try:
            async with self._session.post(
                target,
                data=body,
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=trace,
            ) as response:
                status, after = response.status, response.headers.get("Retry-After")
                with suppress(aiohttp.ClientError, TimeoutError):
                    await response.content.read(_MOST_READ_BYTES)
        except _DIED as error:
            if trace.reused and not repeated:
                raise _RepeatableError from error
            raise
        return Answer(status, "" if 200 <= status < 300 else f"HTTP {status}", after)  # noqa: PLR2004


@asynccontextmanager
async def open_client(policy: AddressPolicy) -> AsyncIterator[WebhookClient]:
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reuse)
    connector = aiohttp.TCPConnector(
        # each webhook has its own limit
        limit=0,
        resolver=_CheckedResolver(policy),
        # each connection is to an address that was checked for it
        use_dns_cache=False,
        keepalive_timeout=_KEEPALIVE_SECONDS,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trace_configs=[trace],
        auto_decompress=False,
        trust_env=False,
    ) as session:
        yield WebhookClient(session, policy)


class _RepeatableError(Exception):
    """The connection was kept from an earlier request, and had died meanwhile."""


class _CheckedResolver(AbstractResolver):
    """Returns only allowed addresses; aiohttp connects to exactly these."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        allowed, refusal = [], None
        for found in await self._resolver.resolve(host, port, family):
            try:
                self._policy.check(host, found["host"])
            except AddressRefusedError as error:
                refusal = error
            else:
                allowed.append(found)
        if refusal is not None and not allowed:
            raise refusal
        return allowed

    async def close(self) -> None:
        await self._resolver.close()


async def _note_reuse(_: aiohttp.ClientSession, context: Any, __: Any) -> None:
    context.trace_request_ctx.reused = True


def described(error: Exception) -> str:
    """Describes the error without the URL, because that may hold a password."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"can't connect: {error.os_error.strerror or type(error).__name__}"
    if isinstance(error, aiohttp.ClientSSLError):
        return "the certificate can't be verified"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"the connection failed: {type(error).__name__}"
