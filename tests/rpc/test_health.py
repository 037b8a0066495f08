"""Health follows what the server depends on, until the server is stopped."""

import asyncio
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from herald_rpc.process.health import HealthWorker
from tests.rpc.raw_service import NAME, RawService, running

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Dependency:
    def __init__(self) -> None:
        self.well = True
        self.asked = asyncio.Event()

    async def is_well(self) -> bool:
        self.asked.set()
        return self.well


async def health_of(service: RawService) -> list[int]:
    stub: Any = health_pb2_grpc.HealthStub(service.channel)
    requests = [health_pb2.HealthCheckRequest(service=name) for name in ("", NAME)]
    return [(await stub.Check(request)).status for request in requests]


async def test_a_server_serves_while_what_it_depends_on_is_well() -> None:
    dependency, stop = Dependency(), asyncio.Event()
    async with running({}) as service:
        worker = HealthWorker(service.server, dependency.is_well)
        statuses = []
        for well in (True, False, False, True):
            dependency.well = well
            await worker.run_once(stop)
            statuses.append(await health_of(service))

    assert statuses == [[SERVING] * 2, [NOT_SERVING] * 2, [NOT_SERVING] * 2, [SERVING] * 2]


async def test_a_server_that_stops_does_not_serve_again() -> None:
    """Though the last answer, that all is well again, comes after the stop."""
    dependency, stop = Dependency(), asyncio.Event()
    async with running({}) as service:
        worker = HealthWorker(service.server, dependency.is_well)
        dependency.well = False
        await worker.run_once(stop)
        stop.set()
        dependency.well = True
        await worker.run_once(stop)

        assert await health_of(service) == [NOT_SERVING] * 2


async def test_a_check_that_fails_is_a_no_and_the_worker_goes_on() -> None:
    class FailsOnce(Dependency):
        async def is_well(self) -> bool:
            if not self.asked.is_set():
                await super().is_well()
                raise ZeroDivisionError
            statuses.append(await health_of(service))
            stop.set()
            return True

    statuses: list[list[int]] = []
    stop = asyncio.Event()
    async with running({}) as service:
        worker = HealthWorker(service.server, FailsOnce().is_well)
        await worker.run(stop)

    assert statuses == [[NOT_SERVING] * 2]
    assert worker.is_well


async def test_the_worker_ends_at_once_when_it_is_told_to() -> None:
    dependency, stop = Dependency(), asyncio.Event()
    async with running({}) as service, asyncio.TaskGroup() as group:
        group.create_task(HealthWorker(service.server, dependency.is_well).run(stop))
        await dependency.asked.wait()
        stop.set()
