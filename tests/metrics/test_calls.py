"""Calls by method and status, whatever callers send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from herald.segment.v1 import segment_service_pb2 as pb
from herald.segment.v1 import segment_service_pb2_grpc
from herald_rpc.metrics.calls import CallMetrics
from herald_rpc.server.failures import Failure
from herald_rpc.server.serving import serving
from tests.metrics.series import Series, series_of

SERVICE = "herald.segment.v1.SegmentService"
ENDLESS = 7
PAGES = [pb.StreamTargetsResponse(target_ids=[name]) for name in ("ann", "bob")]


class NotThereError(Exception):
    pass


class Servicer(segment_service_pb2_grpc.SegmentServiceServicer):  # type: ignore[misc,unused-ignore]
    """Leaves out most of its methods."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()

    async def GetSegment(self, request: Any, _: Any) -> Any:  # noqa: N802 - as in the proto
        if request.id == "missing":
            raise NotThereError
        if request.id == "defect":
            raise ZeroDivisionError
        if request.id == "endless":
            self.entered.set()
            await asyncio.Event().wait()
        return pb.GetSegmentResponse()

    async def StreamTargets(self, request: Any, _: Any) -> Any:  # noqa: N802 - as above
        for page in PAGES:
            yield page
        if request.page_size == ENDLESS:
            self.entered.set()
            await asyncio.Event().wait()


def failure_for(error: Exception) -> Failure | None:
    if isinstance(error, NotThereError):
        return Failure(code=grpc.StatusCode.NOT_FOUND, reason="MISSING", message="not there")
    return None


class Server:
    def __init__(self, channel: grpc.aio.Channel, servicer: Servicer) -> None:
        self.registry = CollectorRegistry()
        self.channel = channel
        self.servicer = servicer
        self.stub: Any = segment_service_pb2_grpc.SegmentServiceStub(channel)

    async def code(self, call: Any) -> grpc.StatusCode:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def handled(self) -> dict[tuple[str, str], float]:
        """The counts by method and code."""
        return {
            (dict(labels)["grpc_method"], dict(labels)["grpc_code"]): number
            for (name, labels), number in self.series().items()
            if name == "grpc_server_handled_total"
        }

    def series(self) -> Series:
        return series_of(self.registry)

    async def ended(self, calls: int) -> None:
        """Returns when the server has noted the end of so many calls: after their callers have."""
        while sum(self.handled().values()) < calls:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running() as server:
        yield server


@asynccontextmanager
async def running() -> AsyncIterator[Server]:
    registry, servicer = CollectorRegistry(), Servicer()  # type: ignore[abstract]

    def add_to(server: grpc.aio.Server) -> None:
        segment_service_pb2_grpc.add_SegmentServiceServicer_to_server(servicer, server)

    async with (
        serving(
            address="127.0.0.1:0",
            services={SERVICE: add_to},
            failure_for=failure_for,
            reflection=True,
            observers=[CallMetrics(registry, [SERVICE])],
        ) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        server = Server(channel, servicer)
        server.registry = registry
        yield server


@pytest.mark.parametrize(
    ("segment_id", "code"),
    [
        ("there", grpc.StatusCode.OK),
        ("missing", grpc.StatusCode.NOT_FOUND),
        ("defect", grpc.StatusCode.INTERNAL),
    ],
)
async def test_a_call_is_counted_under_the_status_that_its_caller_gets(
    server: Server, segment_id: str, code: grpc.StatusCode
) -> None:
    told = await server.code(server.stub.GetSegment(pb.GetSegmentRequest(id=segment_id)))

    await server.ended(1)
    assert told is code
    assert server.handled() == {("GetSegment", code.name): 1}


async def test_a_method_that_is_left_out_is_counted_as_unimplemented(server: Server) -> None:
    await server.code(server.stub.CreateSegment(pb.CreateSegmentRequest()))

    await server.ended(1)
    assert server.handled() == {("CreateSegment", "UNIMPLEMENTED"): 1}


async def test_a_malformed_request_is_counted_under_its_status(server: Server) -> None:
    raw: Any = server.channel.unary_unary(f"/{SERVICE}/GetSegment", None, None)

    await server.code(raw(b"\xff"))

    await server.ended(1)
    assert server.handled() == {("GetSegment", "INVALID_ARGUMENT"): 1}


async def test_a_call_past_its_deadline_and_one_whose_caller_left_are_told_apart(
    server: Server,
) -> None:
    request = pb.GetSegmentRequest(id="endless")
    late = await server.code(server.stub.GetSegment(request, timeout=0.3))
    server.servicer.entered.clear()
    call = server.stub.GetSegment(request)
    await server.servicer.entered.wait()
    call.cancel()

    await server.ended(2)
    assert late is grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.handled() == {
        ("GetSegment", "DEADLINE_EXCEEDED"): 1,
        ("GetSegment", "CANCELLED"): 1,
    }


async def test_a_stream_is_one_call_from_its_first_page_to_its_end(server: Server) -> None:
    pages = [page async for page in server.stub.StreamTargets(pb.StreamTargetsRequest())]
    endless = server.stub.StreamTargets(pb.StreamTargetsRequest(page_size=ENDLESS))
    await server.servicer.entered.wait()
    meanwhile = server.series()[("grpc_server_in_progress", frozenset())]
    endless.cancel()

    await server.ended(2)
    assert pages == PAGES
    assert meanwhile == 1
    assert server.series()[("grpc_server_in_progress", frozenset())] == 0
    assert server.handled() == {("StreamTargets", "OK"): 1, ("StreamTargets", "CANCELLED"): 1}


async def test_methods_that_callers_make_up_share_one_series(server: Server) -> None:
    for number in range(30):
        for path in (f"/{SERVICE}/Made{number}", f"/made.up{number}/GetSegment", f"/{number}"):
            raw: Any = server.channel.unary_unary(path, None, None)
            await server.code(raw(b""))

    await server.ended(90)
    assert server.handled() == {("unknown", "UNIMPLEMENTED"): 90}
    assert len(server.series()) < 20


async def test_health_checks_are_counted_under_their_name(server: Server) -> None:
    stub: Any = health_pb2_grpc.HealthStub(server.channel)

    await stub.Check(health_pb2.HealthCheckRequest())

    await server.ended(1)
    assert server.handled() == {("Check", "OK"): 1}
