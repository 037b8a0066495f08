"""What a small call costs beside a health check on the same server, with 64 in flight."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as chat_pb
from herald.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from herald.segment.v1 import segment_pb2
from herald.segment.v1 import segment_service_pb2 as segment_pb
from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceStub
from tests.bench.databases import BenchDatabase, Line
from tests.harness.processes import Server, free_address, servers

_IN_FLIGHT = 64
_SECONDS = 3.0
# before anything is measured: connections are opened and statements compiled
_WARM_UP_SECONDS = 1.0
_USERS = 10_000
_BATCH = 1_000
_READS_GOAL, _WRITES_GOAL = 2_000, 1_000

Call = Callable[[int], Awaitable[Any]]


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    """Each call in turn, from one connection; the caller has a process of its own."""
    url = bench_database.empty()
    logs = bench_database.folder / "logs"
    logs.mkdir(exist_ok=True)
    server, _ = servers(url, free_address(), free_address(), logs=logs)
    with server:
        yield from asyncio.run(_measured(server))


async def _measured(server: Server) -> list[Line]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        await _fill(channel)
        lines, of_health = [], 0.0
        for name, goal, call in _calls(channel):
            await _rate(call, _WARM_UP_SECONDS)
            before = server.processor_seconds()
            calls, seconds = await _rate(call, _SECONDS)
            rate = calls / seconds
            of_health = of_health or rate
            cost = 1_000 * (server.processor_seconds() - before) / calls
            remark = f"{cost:.2f} ms of the server's cores each, {rate / of_health:.2f} of a health check"
            if goal:
                remark += f", goal: {goal:,}"
            lines.append(Line(name, f"{rate:,.0f} a second", remark))
        return lines


def _calls(channel: grpc.aio.Channel) -> Iterator[tuple[str, int, Call]]:
    health: Any = health_pb2_grpc.HealthStub(channel)
    chat, segments = ChatServiceStub(channel), SegmentServiceStub(channel)
    yield "health check", 0, lambda _: health.Check(health_pb2.HealthCheckRequest())
    yield "GetUser", _READS_GOAL, lambda n: chat.GetUser(chat_pb.GetUserRequest(id=_id(n)))
    yield (
        "UpsertUsers of one",
        _WRITES_GOAL,
        lambda n: chat.UpsertUsers(chat_pb.UpsertUsersRequest(users=[_user(n)])),
    )
    yield (
        "UpsertChannels of one",
        _WRITES_GOAL,
        lambda n: chat.UpsertChannels(chat_pb.UpsertChannelsRequest(channels=[_channel(n)])),
    )
    yield (
        "AddTargets of one",
        _WRITES_GOAL,
        lambda n: segments.AddTargets(
            segment_pb.AddTargetsRequest(segment_id="list", target_ids=[_id(n)])
        ),
    )


async def _rate(call: Call, most_seconds: float) -> tuple[int, float]:
    """How many calls were answered, and within how many seconds."""
    numbers = itertools.count()
    begin = perf_counter()

    async def caller() -> None:
        while perf_counter() - begin < most_seconds:
            await call(next(numbers))

    async with asyncio.TaskGroup() as callers:
        for _ in range(_IN_FLIGHT):
            callers.create_task(caller())
    return next(numbers), perf_counter() - begin


async def _fill(channel: grpc.aio.Channel) -> None:
    chat, segments = ChatServiceStub(channel), SegmentServiceStub(channel)
    for first in range(0, _USERS, _BATCH):
        users = map(_user, range(first, first + _BATCH))
        await chat.UpsertUsers(chat_pb.UpsertUsersRequest(users=users))
    listing = segment_pb2.Segment(id="list", type=segment_pb2.SEGMENT_TYPE_USER)
    await segments.CreateSegment(segment_pb.CreateSegmentRequest(segment=listing))


def _user(number: int) -> chat_pb2.User:
    return chat_pb2.User(id=_id(number), name=f"User {number}", teams=["blue"])


def _channel(number: int) -> chat_pb2.Channel:
    return chat_pb2.Channel(type="messaging", id=f"channel-{number % _USERS}")


def _id(number: int) -> str:
    return f"user-{number % _USERS}"
