"""A call that has ended holds no memory: its request is gone without the garbage collector."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import grpc
import pytest

from herald_rpc.server.failures import Failure
from tests.rpc import raw_service
from tests.rpc.raw_service import RawService, RefusedError, running

GONE = Failure(code=grpc.StatusCode.NOT_FOUND, reason="ERROR_REASON_GONE", message="it is gone")


class Request:
    """A decoded request; `alive` are those in memory."""

    alive: "ClassVar[weakref.WeakSet[Request]]"
    begun: ClassVar[asyncio.Event]


def decoded(_raw: bytes) -> Request:
    request = Request()
    Request.alive.add(request)
    Request.begun.set()
    return request


def undecodable(raw: bytes) -> Request:
    request = decoded(raw)
    raise ValueError(f"{request} is none")


async def refuse(_request: Request, _context: Any) -> bytes:
    raise RefusedError(GONE)


async def fail(_request: Request, _context: Any) -> bytes:
    raise KeyError("nobody foresaw this")


async def abort(_request: Request, context: Any) -> bytes:
    await context.abort(grpc.StatusCode.NOT_FOUND, "by gRPC's own means")
    return b""


async def answer(_request: Request, _context: Any) -> bytes:
    return b"done"


async def hang(_request: Request, _context: Any) -> bytes:
    await asyncio.get_running_loop().create_future()
    return b""


async def refuse_later(_request: Request, _context: Any) -> AsyncIterator[bytes]:
    yield b"first"
    raise RefusedError(GONE)


METHODS = {
    "answered": raw_service.unary(answer, decoded),
    "refused": raw_service.unary(refuse, decoded),
    "failed": raw_service.unary(fail, decoded),
    "aborted": raw_service.unary(abort, decoded),
    "malformed": raw_service.unary(answer, undecodable),
    "hanging": raw_service.unary(hang, decoded),
    "stream": raw_service.pages(refuse_later, decoded),
}


def unary(method: str, **options: Any) -> Callable[[RawService], Awaitable[object]]:
    return lambda service: service.unary(method)(b"request", **options)


async def streamed(service: RawService) -> None:
    async for _ in service.pages("stream")(b"request"):
        pass


async def cancelled(service: RawService) -> None:
    call = service.unary("hanging")(b"request")
    await Request.begun.wait()
    call.cancel()
    await call


ENDS: dict[str, Callable[[RawService], Awaitable[object]]] = {
    "answered": unary("answered"),
    "refused": unary("refused"),
    "failed": unary("failed"),
    "aborted": unary("aborted"),
    "malformed": unary("malformed"),
    "past its deadline": unary("hanging", timeout=0.3),
    "cancelled": cancelled,
    "a stream that is refused": streamed,
}


@contextmanager
def uncollected() -> Iterator[None]:
    Request.alive, Request.begun = weakref.WeakSet(), asyncio.Event()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("end", ENDS)
async def test_the_request_of_an_ended_call_is_freed_at_once(end: str) -> None:
    async with running(METHODS) as service:
        with uncollected():
            with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
                await ENDS[end](service)
            assert Request.begun.is_set()
            async with asyncio.timeout(30):
                # a call ends on the server a moment after its caller knows
                while Request.alive:  # noqa: ASYNC110 - memory sets no event
                    await asyncio.sleep(0)
