"""Whoever asks for too much is refused with a reason, and nobody else is."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from herald.segment.v1 import segment_pb2
from herald.segment.v1 import segment_service_pb2 as pb
from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceStub
from tests.harness import forkserver
from tests.harness.processes import Server, free_address
from tests.journeys.flooding import OVERLOADED, PAGE, refusal_text

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(300)]

MIB = 2**20
LIST = "list"
ANSWERED = "NOT_FOUND, ERROR_REASON_SEGMENT_NOT_FOUND"


@contextmanager
def segment_server(database_url: str, log: Path, **settings: str) -> Iterator[Server]:
    address = free_address()
    environment = {"HERALD_DATABASE_URL": database_url, "HERALD_SEGMENT_LISTEN": address}
    with Server(
        "segment_service", address, {**environment, **settings}, log, forkserver.run
    ) as server:
        yield server


def flood(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.journeys.flooding", *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def outcomes(flooding: "subprocess.Popen[str]") -> Counter[str]:
    with flooding:
        return outcomes_so_far(flooding)


def outcomes_so_far(flooding: "subprocess.Popen[str]") -> Counter[str]:
    assert flooding.stdout
    return Counter(json.loads(flooding.stdout.readline()))


@pytest.mark.parametrize(("calls", "connections"), [(3_000, 1), (8_000, 8)])
@pytest.mark.parametrize("most", ["1", "256"])
def test_every_call_of_a_burst_is_answered_or_told_when_to_come_again(
    most: str, calls: int, connections: int, sqlite_url: str, tmp_path: Path
) -> None:
    with segment_server(sqlite_url, tmp_path / "log", HERALD_MAX_CALLS=most) as server:
        ended = outcomes(flood("burst", server.address, calls, connections))

    assert ended.total() == calls
    assert ended[ANSWERED] > 0
    assert set(ended) <= {ANSWERED, OVERLOADED}


async def test_nobody_elses_call_is_cancelled_while_somebody_floods_with_resets(
    sqlite_url: str, tmp_path: Path
) -> None:
    with segment_server(sqlite_url, tmp_path / "log") as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            before = server.memory()
            flooding = [flood("resets", server.address, 50_000) for _ in range(2)]
            ended: Counter[str] = Counter()
            while any(each.poll() is None for each in flooding):
                ended[await outcome(channel)] += 1
            afterwards = [await outcome(channel) for _ in range(10)]
            resets = sum((outcomes(each) for each in flooding), Counter())
            after = await smallest_memory(server, before + 64 * MIB)

    assert resets == {"reset": 100_000}
    assert ended.total() > 0
    assert set(ended) == {ANSWERED}
    assert afterwards == [ANSWERED] * 10
    assert after <= before + 64 * MIB


@pytest.mark.alone
async def test_streams_that_nobody_reads_are_bounded_and_hold_up_nobody_else(
    sqlite_url: str, tmp_path: Path
) -> None:
    limit, too_many = 1_024, 476
    with segment_server(sqlite_url, tmp_path / "log") as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            await add_targets(channel)
            before = server.memory()
            began = time.monotonic()
            flooding = flood("unread", server.address, limit + too_many, LIST)
            first_pages = asyncio.create_task(asyncio.to_thread(outcomes_so_far, flooding))
            delays, others = [0.0], Counter[str]()
            while not first_pages.done():
                asked = time.monotonic()
                others[await outcome(channel)] += 1
                delays.append(time.monotonic() - asked)
            took = time.monotonic() - began
            opened = await first_pages
            full = server.memory()
            flooding.communicate()
            after = await smallest_memory(server, before + 40 * MIB)
            again = flood("unread", server.address, limit, LIST)
            reopened = await asyncio.to_thread(outcomes_so_far, again)
            # the server is stopped with all of them unread
    again.communicate()

    assert opened == {PAGE: limit, OVERLOADED: too_many}
    assert set(others) == {ANSWERED}
    assert max(delays) < took / 2
    assert full <= before + 400 * MIB
    assert after <= before + 40 * MIB
    assert reopened == {PAGE: limit}


async def test_the_streams_of_a_reader_that_is_frozen_are_ended(
    sqlite_url: str, tmp_path: Path
) -> None:
    with segment_server(sqlite_url, tmp_path / "log", HERALD_MAX_STREAMS="1") as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            await add_targets(channel)
            reader = flood("unread", server.address, 1, LIST)
            assert await asyncio.to_thread(outcomes_so_far, reader) == {PAGE: 1}
            reader.send_signal(signal.SIGSTOP)
            try:
                seen = [await stream_outcome(channel)]
                async with asyncio.timeout(60):
                    while seen[-1] != PAGE:
                        await asyncio.sleep(0.5)
                        seen.append(await stream_outcome(channel))
            finally:
                reader.send_signal(signal.SIGCONT)
                reader.communicate()

    assert seen[0] == OVERLOADED
    assert set(seen) == {OVERLOADED, PAGE}


async def add_targets(channel: grpc.aio.Channel) -> None:
    """To a list, so many that a stream of them is longer than what is sent ahead."""
    service = SegmentServiceStub(channel)
    segment = segment_pb2.Segment(id=LIST, type=segment_pb2.SEGMENT_TYPE_USER)
    await service.CreateSegment(pb.CreateSegmentRequest(segment=segment))
    ids = [f"{number:036}" for number in range(10_000)]
    await service.AddTargets(pb.AddTargetsRequest(segment_id=LIST, target_ids=ids))


async def stream_outcome(channel: grpc.aio.Channel) -> str:
    call = SegmentServiceStub(channel).StreamTargets(pb.StreamTargetsRequest(segment_ids=[LIST]))
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        return refusal_text(error)
    finally:
        call.cancel()
    return PAGE


async def outcome(channel: grpc.aio.Channel) -> str:
    try:
        await SegmentServiceStub(channel).GetSegment(pb.GetSegmentRequest(id="none"))
    except grpc.aio.AioRpcError as error:
        return refusal_text(error)
    return "OK"


async def smallest_memory(server: Server, enough: int) -> int:
    """Seen within 30 s, or as soon as it is small enough."""
    smallest = server.memory()
    for _ in range(300):
        if smallest <= enough:
            break
        await asyncio.sleep(0.1)
        smallest = min(smallest, server.memory())
    return smallest
