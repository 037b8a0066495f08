"""What a caller sees, and what the log says, when a servicer raises."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs
from structlog.typing import EventDict

from herald_rpc.server.failures import DOMAIN, Failure
from tests.rpc import raw_service
from tests.rpc.raw_service import RefusedError, running, status_in

GONE = Failure(code=grpc.StatusCode.NOT_FOUND, reason="ERROR_REASON_GONE", message="it is gone")


async def error_of(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


def error_info(error: Any) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert status_in(error).details[0].Unpack(info)
    assert info.domain == DOMAIN
    return info


def logged() -> Any:
    return capture_logs(processors=[structlog.contextvars.merge_contextvars])


def only(records: list[EventDict], level: str) -> EventDict:
    (record,) = [record for record in records if record["log_level"] == level]
    return record


async def forget_the_password(_request: bytes, _context: Any) -> bytes:
    raise ConnectionError("postgresql://herald:hunter2@db")


async def test_an_unforeseen_exception_tells_the_caller_nothing_and_the_log_everything() -> None:
    methods = {"Fail": raw_service.unary(forget_the_password)}
    async with running(methods) as service:
        with logged() as records:
            error = await error_of(service.unary("Fail")(b""))

    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert "hunter2" not in str(error.trailing_metadata())
    info = error_info(error)
    assert info.reason == "ERROR_REASON_INTERNAL"
    record = only(records, "error")
    assert isinstance(record["exc_info"], ConnectionError)
    assert record["method"] == "/tests.v1.Service/Fail"
    assert {record["request_id"], info.metadata["request_id"]} == set(
        error.trailing_metadata().get_all("x-request-id")
    )


async def test_a_mapping_that_fails_leaks_no_more_than_what_it_could_not_map() -> None:
    def broken(_error: Exception) -> Failure | None:
        raise AssertionError("hunter2 as well")

    methods = {"Fail": raw_service.unary(forget_the_password)}
    async with running(methods, failure_for=broken) as service:
        with logged() as records:
            error = await error_of(service.unary("Fail")(b""))

    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    cause = only(records, "error")["exc_info"]
    assert isinstance(cause, AssertionError)
    assert isinstance(cause.__context__, ConnectionError)


async def test_a_dependency_that_is_down_is_logged_with_its_cause() -> None:
    down = Failure(
        code=grpc.StatusCode.UNAVAILABLE, reason="ERROR_REASON_DOWN", message="try again"
    )
    methods = {"Fail": raw_service.unary(forget_the_password)}
    async with running(methods, failure_for=lambda _error: down) as service:
        with logged() as records:
            error = await error_of(service.unary("Fail")(b""))

    assert error_info(error).reason == "ERROR_REASON_DOWN"
    assert isinstance(only(records, "warning")["exc_info"], ConnectionError)


async def tell_the_request_id(_request: bytes, _context: Any) -> bytes:
    return str(structlog.contextvars.get_contextvars()["request_id"]).encode()


async def test_a_caller_s_request_id_is_bound_to_the_call_and_sent_back() -> None:
    methods = {"Tell": raw_service.unary(tell_the_request_id)}
    async with running(methods) as service:
        call = service.unary("Tell")(b"", metadata=(("x-request-id", "req-1.A_b"),))

        assert await call == b"req-1.A_b"
        assert (await call.trailing_metadata())["x-request-id"] == "req-1.A_b"


@pytest.mark.parametrize("given", ["", "two words", "x" * 65, "line;drop", None], ids=repr)
async def test_a_request_id_that_is_missing_or_odd_is_replaced(given: str | None) -> None:
    methods = {"Tell": raw_service.unary(tell_the_request_id)}
    metadata = () if given is None else (("x-request-id", given),)
    async with running(methods) as service:
        call = service.unary("Tell")(b"", metadata=metadata)
        request_id = (await call).decode()

        assert request_id not in {"", given}
        assert (await call.trailing_metadata())["x-request-id"] == request_id
        assert (await service.unary("Tell")(b"", metadata=metadata)).decode() != request_id


@pytest.mark.parametrize("pages_before", [0, 1, 3])
async def test_an_error_in_a_stream_comes_after_the_pages_before_it(pages_before: int) -> None:
    async def pages(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for number in range(pages_before):
            yield bytes([number])
        raise RefusedError(GONE)

    async with running({"Pages": raw_service.pages(pages)}) as service:
        received = aiter(service.pages("Pages")(b""))
        before = [await anext(received) for _ in range(pages_before)]
        error = await error_of(anext(received))

    assert before == [bytes([number]) for number in range(pages_before)]
    assert error.code() is GONE.code
    assert error_info(error).reason == GONE.reason


async def test_an_unforeseen_error_in_a_stream_leaks_nothing() -> None:
    async def pages(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        raise ConnectionError("hunter2")

    async with running({"Pages": raw_service.pages(pages)}) as service:
        with logged() as records:
            call = service.pages("Pages")(b"")
            assert await call.read() == b"1"
            error = await error_of(call.read())

    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert error_info(error).metadata["request_id"] == only(records, "error")["request_id"]


async def test_a_client_that_leaves_closes_the_generator() -> None:
    """It stands at a yield. Left to the garbage collector, another task would close it, later.

    The client leaves at any moment of a write, which then fails before the call is cancelled.
    """
    closings: asyncio.Queue[tuple[Any, Any]] = asyncio.Queue()

    async def pages(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        reader = asyncio.current_task()
        try:
            while True:
                yield b"x" * 100_000
        finally:
            await asyncio.to_thread(bool)
            closings.put_nowait((reader, asyncio.current_task()))

    async with running({"Pages": raw_service.pages(pages)}) as service:
        with logged() as records:
            for _ in range(200):
                call = service.pages("Pages")(b"")
                await call.read()
                call.cancel()
                reader, closer = await asyncio.wait_for(closings.get(), 10)
                assert reader is closer

    assert records == []


async def test_a_generator_that_waits_is_cancelled_when_the_client_leaves() -> None:
    left = asyncio.Event()

    async def pages(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            left.set()
            raise

    async with running({"Pages": raw_service.pages(pages)}) as service:
        call = service.pages("Pages")(b"")
        await call.read()
        call.cancel()

        await asyncio.wait_for(left.wait(), 10)


async def joined(requests: AsyncIterator[bytes], _context: Any) -> bytes:
    return b"+".join([request async for request in requests])


async def test_a_stream_of_requests_is_answered_once() -> None:
    async with running({"Join": raw_service.collecting(joined)}) as service:
        assert await service.collecting("Join")(iter([b"a", b"b"])) == b"a+b"


async def test_a_stream_of_requests_is_refused_in_its_middle() -> None:
    async def refuse_b(requests: AsyncIterator[bytes], _context: Any) -> bytes:
        async for request in requests:
            if request == b"b":
                raise RefusedError(GONE)
        return b""

    async with running({"Take": raw_service.collecting(refuse_b)}) as service:
        error = await error_of(service.collecting("Take")(iter([b"a", b"b", b"c"])))

    assert error_info(error).reason == GONE.reason


async def test_an_aborted_call_keeps_its_status() -> None:
    async def abort(_request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.DATA_LOSS, "as the servicer says")
        return b""

    async with running({"Abort": raw_service.unary(abort)}) as service:
        with logged() as records:
            error = await error_of(service.unary("Abort")(b""))

    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "as the servicer says")
    assert records == []


async def test_an_rpc_that_its_servicer_leaves_out_is_unimplemented() -> None:
    generated: Any = health_pb2_grpc.HealthServicer()
    methods = {
        "Check": raw_service.unary(generated.Check),
        "Watch": raw_service.pages(generated.Watch),
    }
    async with running(methods) as service:
        with logged() as records:
            unary = await error_of(service.unary("Check")(b""))
            stream = await error_of(service.pages("Watch")(b"").read())

    for error in (unary, stream):
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert error.details() == "this server does not have this method"
        assert error_info(error).reason == "ERROR_REASON_UNIMPLEMENTED"
    assert {record["log_level"] for record in records} == {"debug"}


@pytest.mark.parametrize("kind", ["unary", "pages", "collecting"])
async def test_a_method_that_no_service_has_is_unimplemented(kind: str) -> None:
    async with running({}) as service:
        call = getattr(service, kind)("Nowhere")(iter([b""]) if kind == "collecting" else b"")
        error = await error_of(call.read() if kind == "pages" else call)

    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert error_info(error).metadata["method"] == "/tests.v1.Service/Nowhere"


async def test_a_gap_deep_in_our_code_is_no_unimplemented_rpc() -> None:
    async def gap(_request: bytes, _context: Any) -> bytes:
        raise NotImplementedError("hunter2")

    async with running({"Gap": raw_service.unary(gap)}) as service:
        with logged() as records:
            error = await error_of(service.unary("Gap")(b""))

    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert isinstance(only(records, "error")["exc_info"], NotImplementedError)


async def test_bytes_that_are_no_request_are_the_caller_s_mistake() -> None:
    check = raw_service.unary(tell_the_request_id, health_pb2.HealthCheckRequest.FromString)
    join = raw_service.collecting(joined, health_pb2.HealthCheckRequest.FromString)
    async with running({"Check": check, "Join": join}) as service:
        unary = await error_of(service.unary("Check")(b"\xff"))
        stream = await error_of(service.collecting("Join")(iter([b"\xff"])))

    for error in (unary, stream):
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error_info(error).reason == "ERROR_REASON_MALFORMED_REQUEST"


@pytest.mark.parametrize("kind", ["unary", "pages"])
async def test_an_answer_that_cannot_be_encoded_leaks_nothing(kind: str) -> None:
    def encode(_answer: Any) -> bytes:
        raise TypeError("hunter2")

    async def answer(_request: bytes, _context: Any) -> bytes:
        return b"hunter2"

    async def pages(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield b"hunter2"

    methods = {
        "unary": raw_service.unary(answer, None, encode),
        "pages": raw_service.pages(pages, None, encode),
    }
    async with running(methods) as service:
        call = getattr(service, kind)(kind)(b"")
        error = await error_of(call.read() if kind == "pages" else call)

    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
