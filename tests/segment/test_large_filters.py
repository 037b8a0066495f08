"""The largest filters hold nobody up, and what is larger is refused wherever it comes from."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from typing import Any

import pytest
from sqlalchemy import update

from herald.segment.v1 import segment_service_pb2 as pb
from herald.segment.v1.segment_pb2 import Segment
from herald_rpc.wire.structs import to_struct
from segment_service.sql.tables import segments
from tests.segment.refusals import CODES, refused
from tests.segment.segment_server import NOON, USER, SegmentServer
from tests.segment.test_segments import updated

pytestmark = pytest.mark.alone

HOUR = timedelta(hours=1)
# as many operands as a message has room for: 10,000 in each list
LARGEST: dict[str, Any] = {"$or": [{f"a{n}": {"$in": [n % 10] * 10_000}} for n in range(33)]}
TOO_LARGE: dict[str, Any] = {"age": {"$in": list(range(10_001))}}
ANSWER_BYTES = 4 * 1024 * 1024


@dataclass
class Meanwhile:
    """What the slowest of the other calls took in seconds, the one that still waits included."""

    began: float = 0.0
    slowest: float = 0.0


@asynccontextmanager
async def others(service: SegmentServer) -> AsyncIterator[Meanwhile]:
    """Asks for a small segment, again and again."""
    small = await service.listing()
    seen = Meanwhile(perf_counter())

    def note() -> None:
        seen.slowest = max(seen.slowest, perf_counter() - seen.began)
        seen.began = perf_counter()

    async def ask() -> None:
        while True:
            await service.get(small)
            note()

    asking = asyncio.create_task(ask())
    try:
        yield seen
    finally:
        note()
        asking.cancel()


async def assert_others_are_answered(service: SegmentServer, call: Awaitable[Any]) -> None:
    async with others(service) as meanwhile:
        begin = perf_counter()
        await call
        seconds = perf_counter() - begin
    # held up by it, one would take all of the time
    assert meanwhile.slowest < 0.8 * seconds


CALLS: dict[str, Callable[[SegmentServer, str], Awaitable[Any]]] = {
    "TargetExists": lambda service, id_: service.exists(id_, "anna"),
    "QueryTargets": lambda service, id_: service.query_targets(id_),
    "CountTargets": lambda service, id_: service.count(id_),
    "StreamTargets": lambda service, id_: service.targets(id_),
    "ExplainTarget": lambda service, id_: service.stub.ExplainTarget(
        pb.ExplainTargetRequest(segment_id=id_, target_id="anna")
    ),
}
ANSWERS: dict[str, Callable[[SegmentServer, str], Awaitable[Any]]] = {
    "GetSegment": lambda service, id_: service.get(id_),
    "QuerySegments": lambda service, id_: service.stub.QuerySegments(
        pb.QuerySegmentsRequest(filter=to_struct({"id": {"$in": [id_]}}))
    ),
}
EACH_CALL = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@EACH_CALL
async def test_other_calls_are_answered_while_a_large_filter_is_evaluated(
    service: SegmentServer, call: Callable[[SegmentServer, str], Awaitable[Any]]
) -> None:
    await service.people(["anna"], a7=[7])
    id_ = await service.matching(LARGEST)

    await assert_others_are_answered(service, call(service, id_))


@pytest.mark.parametrize("call", ANSWERS.values(), ids=ANSWERS)
async def test_other_calls_are_answered_while_a_large_filter_is_read(
    sqlite_service: SegmentServer, call: Callable[[SegmentServer, str], Awaitable[Any]]
) -> None:
    id_ = await sqlite_service.matching(LARGEST)

    await assert_others_are_answered(sqlite_service, call(sqlite_service, id_))


async def test_other_calls_are_answered_while_a_large_filter_is_created_and_changed(
    sqlite_service: SegmentServer,
) -> None:
    segment = Segment(id="large", type=USER, filter=to_struct(LARGEST))
    other = Segment(id="large", filter=to_struct(LARGEST | {"b": 1}))

    await assert_others_are_answered(sqlite_service, sqlite_service.create(segment))
    # the same again gives what is there
    await assert_others_are_answered(sqlite_service, sqlite_service.create(segment))
    await assert_others_are_answered(
        sqlite_service, sqlite_service.stub.UpdateSegment(pb.UpdateSegmentRequest(segment=other))
    )


async def test_what_was_evaluated_once_is_evaluated_fast_until_it_changes(
    service: SegmentServer,
) -> None:
    await service.people(["anna"], a7=[7])
    id_ = await service.matching(LARGEST)
    begin = perf_counter()
    first = await service.exists(id_, "anna")
    seconds = perf_counter() - begin
    again = perf_counter()
    second = await service.exists(id_, "anna")
    seconds_again = perf_counter() - again
    service.clock.move(1)
    await updated(service, id=id_, filter=to_struct({"a7": 8}))

    assert (first, second) == (True, True)
    assert seconds_again < seconds / 2
    assert not await service.exists(id_, "anna")


# --- stored when it was still allowed


async def stored_before(service: SegmentServer) -> str:
    """A segment whose filter is larger than one can be given by now."""
    id_ = await service.matching({"age": 1}, id_="old")
    async with service.database.transaction() as connection:
        old = {"filter": TOO_LARGE, "updated_at": NOON + HOUR}
        await connection.execute(update(segments).where(segments.c.id == id_).values(old))
    return id_


@EACH_CALL
async def test_a_filter_that_is_larger_than_allowed_by_now_is_not_evaluated(
    service: SegmentServer, call: Callable[[SegmentServer, str], Awaitable[Any]]
) -> None:
    id_ = await stored_before(service)

    refusal = await refused(call(service, id_))

    assert (refusal.code, refusal.reason) == (CODES.FAILED_PRECONDITION, "SEGMENT_FILTER_REFUSED")
    assert refusal.metadata == {
        "segment_id": "old",
        "field": "filter.age.$in",
        "problem": "at most 10000 operands, not 10001",
    }


async def test_it_can_be_read_and_changed(service: SegmentServer) -> None:
    await service.people(["anna"], age=3)
    id_ = await stored_before(service)

    stored = await service.get(id_)
    await updated(service, id=id_, filter=to_struct({"age": 3}))

    assert stored.filter == to_struct(TOO_LARGE)
    assert await service.targets(id_) == ["anna"]


async def test_it_is_left_alone_by_the_worker_that_counts(service: SegmentServer) -> None:
    id_ = await stored_before(service)
    worker = service.sizing(HOUR)

    assert await worker.run_once()
    assert not await worker.run_once()
    service.clock.move(HOUR.total_seconds() - 1)
    assert not await worker.run_once()
    assert not (await service.get(id_)).HasField("size_updated_at")
