"""A server tells how it is, what it has, and ends without cutting off those it can wait for."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from herald_rpc.server.serving import CannotListenError, stop_signal
from tests.rpc import raw_service
from tests.rpc.raw_service import NAME, RawService, running

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
STOP_SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


async def health_of(service: RawService, name: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(service.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
    return int(answer.status)


@pytest.mark.parametrize("name", ["", NAME], ids=["overall", "by service"])
async def test_health_follows_what_the_server_is_told(name: str) -> None:
    async with running({}) as service:
        assert await health_of(service, name) == SERVING

        await service.server.set_serving(False)
        assert await health_of(service, name) == NOT_SERVING

        await service.server.set_serving(True)
        assert await health_of(service, name) == SERVING


@pytest.mark.parametrize("name", ["", NAME], ids=["overall", "by service"])
async def test_a_draining_server_says_not_serving_for_good(name: str) -> None:
    async with running({}) as service:
        stub: Any = health_pb2_grpc.HealthStub(service.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=name))
        assert (await watch.read()).status == SERVING

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.server.drain(10))
            assert (await watch.read()).status == NOT_SERVING
            await service.server.set_serving(True)
            watch.cancel()

        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await health_of(service, name)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_stream_that_ends_within_the_grace_ends_well() -> None:
    go_on = asyncio.Event()

    async def pages(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        await go_on.wait()
        yield b"2"

    async with running({"Pages": raw_service.pages(pages)}) as service:
        stub: Any = health_pb2_grpc.HealthStub(service.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        call = service.pages("Pages")(b"")
        received = aiter(call)
        assert await anext(received) == b"1"

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.server.drain(10))
            assert (await watch.read()).status == NOT_SERVING
            watch.cancel()
            go_on.set()

        assert [page async for page in received] == [b"2"]
        assert await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("kind", ["unary", "pages"])
async def test_a_call_that_outlasts_the_grace_is_cut_as_unavailable_with_its_reason(
    kind: str,
) -> None:
    begun = asyncio.Event()

    async def wait(_request: bytes, _context: Any) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    async def pages(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        yield await wait(request, context)

    methods = {"unary": raw_service.unary(wait), "pages": raw_service.pages(pages)}
    async with running(methods) as service:
        call = getattr(service, kind)(kind)(b"")
        if kind == "pages":
            assert await call.read() == b"1"
        await begun.wait()

        await service.server.drain(0.01)

        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert (
            b"ERROR_REASON_UNAVAILABLE"
            in dict(await call.trailing_metadata())["grpc-status-details-bin"]
        )


@pytest.mark.parametrize("by_draining", [True, False], ids=["drained", "context left"])
@pytest.mark.parametrize("kind", ["unary", "pages"])
async def test_a_handler_that_was_cut_has_ended_when_the_server_has(
    kind: str,
    by_draining: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    begun = asyncio.Event()
    ended = []

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(100):
                await asyncio.to_thread(bool)
            ended.append(kind)

    async def unary(_request: bytes, _context: Any) -> bytes:
        await wait()
        return b""

    async def pages(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        await wait()

    methods = {"unary": raw_service.unary(unary), "pages": raw_service.pages(pages)}
    async with running(methods) as service:
        call = getattr(service, kind)(kind)(b"")
        await begun.wait()
        if by_draining:
            await service.server.drain(0)
            assert ended == [kind]

    assert ended == [kind]
    assert await call.code() is not grpc.StatusCode.OK


async def listed_by_reflection(service: RawService) -> set[str]:
    channel: Any = service.channel
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    )
    answer = await call.read()
    return {listed.name for listed in answer.list_services_response.service}


async def test_reflection_lists_all_services() -> None:
    async with running({}) as service:
        assert await listed_by_reflection(service) == {
            NAME,
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        }


async def test_reflection_can_be_off() -> None:
    async with running({}, reflection=False) as service:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await listed_by_reflection(service)

    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_the_address_has_the_port_that_was_free(host: str) -> None:
    async with running({}, address=f"{host}:0") as service:
        bound_host, _, port = service.server.address.rpartition(":")

        assert bound_host == host
        assert int(port) > 0
        assert await health_of(service, "") == SERVING


async def test_a_taken_port_is_an_error_that_names_the_address() -> None:
    async with running({}) as service:
        address = service.server.address

        with pytest.raises(CannotListenError, match=f"cannot listen on {address}"):
            async with running({}, address=address):
                pass


@pytest.fixture
def _hangups_are_not_ignored() -> Iterator[None]:
    """Even if the tests were started by `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_hangups_are_not_ignored")
@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)
async def test_a_signal_sets_the_event_and_leaves_the_next_to_the_system(
    number: signal.Signals,
) -> None:
    before = {each: signal.getsignal(each) for each in STOP_SIGNALS}

    async with stop_signal() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 10)

        assert {signal.getsignal(each) for each in before} == {signal.SIG_DFL}

    assert {each: signal.getsignal(each) for each in before} == before


TAKES_ITS_TIME = """
import asyncio
from herald_rpc.server.serving import stop_signal

async def main():
    async with stop_signal() as stop:
        print("ready", flush=True)
        await stop.wait()
        print("stopping", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.usefixtures("_hangups_are_not_ignored")
@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)
async def test_a_second_signal_ends_the_process_at_once(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TAKES_ITS_TIME, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None

    assert await process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert await process.stdout.readline() == b"stopping\n"
    process.send_signal(number)

    assert await asyncio.wait_for(process.wait(), 10) == -number


async def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        async with stop_signal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(stop.wait(), 10)
            # a handler of the first one would have left it to the system
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_hangup_that_was_ignored_reloads_all_the_same_and_ends_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    reloaded = asyncio.Event()
    try:
        async with stop_signal(on_hangup=reloaded.set) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.wait_for(reloaded.wait(), 10)
            assert not stop.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(stop.wait(), 10)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


HANGS = """
import asyncio, time
from herald_rpc.server.serving import stop_signal

async def main():
    async with stop_signal(end_within=0.1) as stop:
        print("ready", flush=True)
        await stop.wait()
        hang()

def hang():
    time.sleep(3600)

asyncio.run(main())
"""


async def test_a_process_that_does_not_end_in_time_ends_all_the_same_and_says_where_it_was() -> (
    None
):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HANGS, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None

    assert await process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    _, errors = await process.communicate()

    assert process.returncode == 1
    assert b"in hang" in errors
