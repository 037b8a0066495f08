"""Whoever asks for too much is refused with a reason, and nobody else is."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from herald.segment.v1 import segment_service_pb2 as pb
from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceStub
from tests.harness import nursery
from tests.harness.processes import Server, free_address
from tests.journeys.flooding import OVERLOADED, told

pytestmark = pytest.mark.timeout(300)

MIB = 2**20
ANSWERED = "NOT_FOUND, ERROR_REASON_SEGMENT_NOT_FOUND"


@contextmanager
def segment_server(database_url: str, log: Path, **settings: str) -> Iterator[Server]:
    address = free_address()
    environment = {"HERALD_DATABASE_URL": database_url, "HERALD_SEGMENT_LISTEN": address}
    with Server(
        "segment_service", address, {**environment, **settings}, log, nursery.run
    ) as server:
        yield server


def flood(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.journeys.flooding", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def outcomes(flooding: "subprocess.Popen[str]") -> Counter[str]:
    with flooding:
        assert flooding.stdout
        return Counter(json.loads(flooding.stdout.read()))


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


async def outcome(channel: grpc.aio.Channel) -> str:
    try:
        await SegmentServiceStub(channel).GetSegment(pb.GetSegmentRequest(id="none"))
    except grpc.aio.AioRpcError as error:
        return told(error)
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
