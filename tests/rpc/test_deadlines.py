"""A caller's deadline bounds what is done for it, here and in the servers behind."""

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from structlog.testing import capture_logs

from herald_rpc.server import deadlines
from herald_rpc.server.deadlines import seconds_left
from tests.rpc import raw_service
from tests.rpc.raw_service import running, status_in


async def test_a_call_on_behalf_of_another_ends_a_little_before_it() -> None:
    left: list[float] = []

    async def ask(_request: bytes, _context: Any) -> bytes:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(lambda: left.append(seconds_left(at_most=100))))
        return b""

    async with running({"Ask": raw_service.unary(ask)}) as service:
        await service.unary("Ask")(b"", timeout=30)
        await service.unary("Ask")(b"", timeout=1_000)
        await service.unary("Ask")(b"")

    assert 25 < left[0] < 30
    assert left[1:] == [100, 100]


async def test_there_is_never_less_than_no_time_left() -> None:
    with deadlines.call_deadline(0):
        assert seconds_left(at_most=10) == 0
    assert seconds_left(at_most=10) == 10


async def test_a_call_whose_deadline_has_passed_is_worked_on_no_more() -> None:
    ended = asyncio.Event()

    async def work(_request: bytes, _context: Any) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    async with running({"Work": raw_service.unary(work)}) as service:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await service.unary("Work")(b"", timeout=0.2)
        await asyncio.wait_for(ended.wait(), 5)

    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_who_waits_for_an_impaired_server_is_told_before_giving_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # this machine may be too busy to answer within the half second that is kept otherwise
    monkeypatch.setattr(deadlines, "_MOST_KEPT_SECONDS", 29.5)
    monkeypatch.setattr(deadlines, "_KEPT_SHARE", 1.0)
    begun = asyncio.Event()

    async def wait(_request: bytes, _context: Any) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    async with running({"Wait": raw_service.unary(wait)}) as service:
        call = service.unary("Wait")(b"", timeout=30)
        await begun.wait()
        await service.server.set_serving(False)
        with pytest.raises(grpc.aio.AioRpcError) as raised, capture_logs():
            await call

    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    info = error_details_pb2.ErrorInfo()
    assert status_in(raised.value).details[0].Unpack(info)
    assert info.reason == "ERROR_REASON_UNAVAILABLE"


async def test_a_time_out_of_a_handler_itself_is_none_of_the_caller() -> None:
    async def work(_request: bytes, _context: Any) -> bytes:
        raise TimeoutError

    async with running({"Work": raw_service.unary(work)}) as service:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await service.unary("Work")(b"", timeout=10)

    assert raised.value.code() is grpc.StatusCode.INTERNAL
