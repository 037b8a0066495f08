"""A server has so many calls in hand at once, and tells all others when to come again."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from herald_rpc.server.admission import CallLimits
from tests.rpc import raw_service
from tests.rpc.raw_service import RawService, running, status_in

LIMIT = 3
LIMITS = CallLimits(calls=LIMIT, streams=LIMIT)
KINDS = ("unary", "pages", "collecting")


class Work:
    """Calls of every kind that last until they are told to end, and how many there are."""

    def __init__(self) -> None:
        self.in_hand = 0
        self.most_in_hand = 0
        self.begun = asyncio.Event()
        self.full = asyncio.Event()
        self.end = asyncio.Event()

    async def unary(self, _request: Any, _context: Any) -> bytes:
        self.in_hand += 1
        self.most_in_hand = max(self.most_in_hand, self.in_hand)
        self.begun.set()
        if self.in_hand == LIMIT:
            self.full.set()
        try:
            await self.end.wait()
        finally:
            self.in_hand -= 1
        return b"done"

    async def pages(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        yield await self.unary(request, context)

    def methods(self) -> dict[str, Any]:
        return {
            "unary": raw_service.unary(self.unary),
            "pages": raw_service.pages(self.pages),
            "collecting": raw_service.collecting(self.unary),
        }


def begun(service: RawService, kind: str, **options: Any) -> Any:
    call = getattr(service, kind)(kind)
    return call(iter([b""]) if kind == "collecting" else b"", **options)


async def outcome(service: RawService, kind: str) -> Any:
    """What the call came to: its one answer or its error."""
    call = begun(service, kind)
    try:
        return await (call.read() if kind == "pages" else call)
    except grpc.aio.AioRpcError as error:
        return error


def assert_overloaded(error: Any) -> None:
    assert isinstance(error, grpc.aio.AioRpcError), error
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    status = status_in(error)
    assert status.details[0].Unpack(info)
    assert info.reason == "ERROR_REASON_OVERLOADED"
    assert status.details[1].Unpack(retry)
    assert 0 < retry.retry_delay.ToTimedelta().total_seconds() < 5


@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_is_served_as_far_as_there_are_slots_and_refused_otherwise(kind: str) -> None:
    work = Work()
    async with running(work.methods(), limits=LIMITS) as service:
        calls = [asyncio.create_task(outcome(service, kind)) for _ in range(300)]
        with capture_logs() as records:
            _, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            while len(waiting) > LIMIT:
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        work.end.set()
        outcomes = [await call for call in calls]
        afterwards = [await outcome(service, kind) for _ in range(2 * LIMIT)]

    assert outcomes.count(b"done") == work.most_in_hand == LIMIT
    for refused in outcomes:
        if refused != b"done":
            assert_overloaded(refused)
    assert afterwards == [b"done"] * (2 * LIMIT)
    # an operator is told, and not 297 times
    assert Counter(record["log_level"] for record in records)["warning"] == 1


@pytest.mark.parametrize(("full", "other"), [("unary", "pages"), ("pages", "unary")])
async def test_calls_and_streams_take_no_slots_from_each_other(full: str, other: str) -> None:
    work = Work()
    async with running(work.methods(), limits=LIMITS) as service:
        calls = [asyncio.create_task(outcome(service, full)) for _ in range(LIMIT)]
        await work.full.wait()
        assert_overloaded(await outcome(service, full))

        work.begun.clear()
        admitted = asyncio.create_task(outcome(service, other))
        running_too = asyncio.create_task(work.begun.wait())
        await asyncio.wait([admitted, running_too], return_when=asyncio.FIRST_COMPLETED)
        running_too.cancel()
        work.end.set()

        assert await admitted == b"done"
        assert [await call for call in calls] == [b"done"] * LIMIT


async def test_a_full_server_still_answers_health_checks_and_watches() -> None:
    work = Work()
    async with running(work.methods(), limits=LIMITS) as service:
        calls = [
            asyncio.create_task(outcome(service, kind)) for kind in KINDS for _ in range(LIMIT)
        ]
        await work.full.wait()
        assert_overloaded(await outcome(service, "unary"))
        assert_overloaded(await outcome(service, "pages"))

        stub: Any = health_pb2_grpc.HealthStub(service.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        checked = await stub.Check(health_pb2.HealthCheckRequest())
        watched = await watch.read()

        watch.cancel()
        work.end.set()
        await asyncio.wait(calls)

    assert checked.status == watched.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.nightly_on("deadline-pages", "deadline-collecting")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["its caller", "its deadline"])
async def test_a_call_that_is_cut_gives_its_slot_back(kind: str, by: str) -> None:
    work = Work()
    async with running(work.methods(), limits=LIMITS) as service:
        for _ in range(2 * LIMIT):
            call = begun(service, kind, timeout=0.2 if by == "its deadline" else None)
            if by == "its caller":
                await work.begun.wait()
                work.begun.clear()
                call.cancel()
            with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)) as raised:
                await (call.read() if kind == "pages" else call)
            if isinstance(raised.value, grpc.aio.AioRpcError):
                assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        work.end.set()
        assert await outcome(service, kind) == b"done"
