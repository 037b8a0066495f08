"""How fast targets come out of segments and into them, beside the bare statements that do it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from google.protobuf import json_format

from herald.segment.v1 import segment_pb2
from herald.segment.v1 import segment_service_pb2 as pb
from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceStub
from tests.bench.bare_driver import BareDriver, Rows, open_bare_driver
from tests.bench.databases import BenchDatabase, Kind, Line
from tests.bench.population import HALF, ONE_IN_100
from tests.harness.processes import Server, free_address, open_channel, servers

_T = TypeVar("_T")

_ROUNDS = 3
_STREAM_GOAL = 0.5
_ADDING_GOAL = 10
_MEMORY_GOAL = 50
_PAGE_SIZES = (10_000, 1_000)
_MOST_ADDED = 10_000
_CALL_SECONDS = 300.0

# what one would write by hand: the hard parts of the language left out
_WHERE = {
    Kind.SQLITE: {
        "half": " AND json_extract(custom, '$.age') >= 30",
        "one in 100": """ AND json_extract(custom, '$.country') = 'USA'
            AND json_extract(custom, '$.age') >= 30""",
    },
    Kind.POSTGRESQL: {
        "half": " AND (custom->'age')::int >= 30",
        "one in 100": """ AND custom @> '{"country": "USA"}' AND (custom->'age')::int >= 30""",
    },
}


@dataclass(frozen=True, slots=True)
class _Audience:
    """`rows` is the bare statement without what it selects and its order."""

    name: str
    segment: segment_pb2.Segment
    key: str
    rows: str


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    """The best of a few rounds on either side: whatever else the machine does only adds time."""
    url = bench_database.fresh()
    with open_bare_driver(url) as driver:
        with _serving(bench_database, url) as (_, stub):
            ids = [id_ for (id_,) in driver.fetch("SELECT id FROM users ORDER BY id")]
            listed = ids[::2]
            audiences = _audiences(bench_database.kind, listed)
            for audience in audiences:
                stub.CreateSegment(pb.CreateSegmentRequest(segment=audience.segment))
                _wait_until_counted(stub, audience)
            _add(stub, audiences[-1].segment.id, listed)
            driver.settle()
            for audience in audiences:
                yield from _streamed(stub, driver, audience)
            for audience in audiences:
                yield _counted(stub, driver, audience)
            yield _added(stub, driver, ids[:: max(1, len(ids) // _MOST_ADDED)][:_MOST_ADDED])
        yield _grown(bench_database, url, audiences[0], ids)


def _audiences(kind: Kind, listed: list[str]) -> list[_Audience]:
    reachable = "FROM users WHERE deactivated_at IS NULL AND deleted_at IS NULL"
    everyone = segment_pb2.Segment(id="everyone", type=segment_pb2.SEGMENT_TYPE_USER)
    everyone.all_users = True
    audiences = [_Audience("all users", everyone, "id", reachable)]
    for name, filter_ in (("half", HALF), ("one in 100", ONE_IN_100)):
        segment = segment_pb2.Segment(id=name.replace(" ", "-"), type=segment_pb2.SEGMENT_TYPE_USER)
        json_format.ParseDict(filter_, segment.filter)
        rows = reachable + _WHERE[kind][name]
        audiences.append(_Audience(name, segment, "id", rows))
    listing = segment_pb2.Segment(id="listed", type=segment_pb2.SEGMENT_TYPE_USER)
    rows = "FROM segment_targets WHERE segment_id = 'listed'"
    return [*audiences, _Audience(f"a list of {len(listed):,}", listing, "target_id", rows)]


def _streamed(stub: SegmentServiceStub, driver: BareDriver, audience: _Audience) -> Iterator[Line]:
    query = f"SELECT {audience.key} {audience.rows} ORDER BY {audience.key}"
    bare_seconds = []
    served_seconds: dict[int, list[float]] = {size: [] for size in _PAGE_SIZES}
    for _ in range(_ROUNDS):
        seconds, rows = _timed(partial(driver.fetch, query))
        bare_seconds.append(seconds)
        expected = [id_ for (id_,) in rows]
        for size, all_seconds in served_seconds.items():
            seconds, ids = _timed(partial(_stream, stub, audience, size))
            assert ids == expected, f"{len(ids)} targets of {audience.name}: not those there are"
            all_seconds.append(seconds)
    for size, all_seconds in served_seconds.items():
        yield Line(
            f"stream of {audience.name}, by {size:,}",
            f"{len(expected) / min(all_seconds):,.0f} rows/s",
            f"{min(bare_seconds) / min(all_seconds):.2f} of the bare statement's "
            f"{len(expected) / min(bare_seconds):,.0f}; goal: at least {_STREAM_GOAL}",
        )


def _counted(stub: SegmentServiceStub, driver: BareDriver, audience: _Audience) -> Line:
    request = pb.CountTargetsRequest(segment_ids=[audience.segment.id])
    count = partial(stub.CountTargets, request, timeout=_CALL_SECONDS)
    bare_count = partial(driver.fetch, f"SELECT count(*) {audience.rows}")
    bare_seconds, served_seconds = [], []
    for _ in range(_ROUNDS):
        seconds, ((expected,),) = _timed(bare_count)
        bare_seconds.append(seconds)
        seconds, answer = _timed(count)
        served_seconds.append(seconds)
        assert answer.count == expected, f"{answer.count} {audience.name}, not {expected}"
    return Line(
        f"count of {audience.name}",
        f"{expected / min(served_seconds):,.0f} rows/s",
        f"{expected:,} in {min(served_seconds) * 1000:.0f} ms; "
        f"{min(bare_seconds) / min(served_seconds):.2f} of the bare statement",
    )


def _added(stub: SegmentServiceStub, driver: BareDriver, ids: list[str]) -> Line:
    bare_seconds, served_seconds = [], []
    for number in range(_ROUNDS):
        segment = segment_pb2.Segment(id=f"added-{number}", type=segment_pb2.SEGMENT_TYPE_USER)
        stub.CreateSegment(pb.CreateSegmentRequest(segment=segment))
        seconds, added = _timed(partial(_add, stub, segment.id, ids))
        served_seconds.append(seconds)
        assert added == len(ids), f"{added} targets of {len(ids)} were added"
        (rows,) = _same_rows(driver, segment.id, len(ids))
        seconds, _ = _timed(partial(driver.insert, rows))
        bare_seconds.append(seconds)
    return Line(
        f"AddTargets of {len(ids):,}",
        f"{len(ids) / min(served_seconds):,.0f} rows/s",
        f"{min(served_seconds) * 1000:.0f} ms, {min(served_seconds) / min(bare_seconds):.1f} times "
        f"the bare insert; goal: under {_ADDING_GOAL} times",
    )


def _same_rows(driver: BareDriver, segment_id: str, most: int) -> list[Rows]:
    """Those of the segment, as those of another one."""
    query = f"""SELECT 'bare-{segment_id}' AS segment_id, target_id, created_at
        FROM segment_targets WHERE segment_id = '{segment_id}' ORDER BY target_id"""
    return list(driver.read("segment_targets", query, most))


def _grown(
    bench_database: BenchDatabase, url: str, audience: _Audience, expected: list[str]
) -> Line:
    with _serving(bench_database, url) as (server, stub):
        warming_up = stub.StreamTargets(_streaming(audience, _PAGE_SIZES[0]))
        next(warming_up)
        warming_up.cancel()
        before = server.peak_memory()
        ids = _stream(stub, audience, _PAGE_SIZES[0])
        after = server.peak_memory()
    assert ids == expected, f"{len(ids)} users of {len(expected)}"
    return Line(
        "memory grows over a stream by",
        f"{(after - before) / 2**20:.0f} MiB",
        f"{len(ids):,} targets, to {after / 2**20:.0f} MiB at most; goal: under {_MEMORY_GOAL} MiB",
    )


@contextmanager
def _serving(
    bench_database: BenchDatabase, url: str
) -> Iterator[tuple[Server, SegmentServiceStub]]:
    # counting in the background would take a part of a core from what is measured
    settings = {"HERALD_SIZING_INTERVAL_SECONDS": "86400"}
    server, _ = servers(
        url, free_address(), free_address(), settings=settings, logs=bench_database.folder / "logs"
    )
    (bench_database.folder / "logs").mkdir(exist_ok=True)
    with server, open_channel(server.address) as channel:
        yield server, SegmentServiceStub(channel)


def _wait_until_counted(stub: SegmentServiceStub, audience: _Audience) -> None:
    """What is counted once is left alone for long."""
    if audience.segment.WhichOneof("definition") is None:
        return
    never = threading.Event()
    request = pb.GetSegmentRequest(id=audience.segment.id)
    deadline = time.monotonic() + _CALL_SECONDS
    while not stub.GetSegment(request).segment.HasField("size_updated_at"):
        assert time.monotonic() < deadline, f"{audience.name} were never counted"
        never.wait(0.1)


def _add(stub: SegmentServiceStub, segment_id: str, ids: list[str]) -> int:
    added = 0
    for first in range(0, len(ids), _MOST_ADDED):
        page = ids[first : first + _MOST_ADDED]
        request = pb.AddTargetsRequest(segment_id=segment_id, target_ids=page)
        added += stub.AddTargets(request, timeout=_CALL_SECONDS).added
    return added


def _stream(stub: SegmentServiceStub, audience: _Audience, page_size: int) -> list[str]:
    ids: list[str] = []
    for page in stub.StreamTargets(_streaming(audience, page_size), timeout=_CALL_SECONDS):
        ids.extend(page.target_ids)
    return ids


def _streaming(audience: _Audience, page_size: int) -> pb.StreamTargetsRequest:
    return pb.StreamTargetsRequest(segment_ids=[audience.segment.id], page_size=page_size)


def _timed(work: Callable[[], _T]) -> tuple[float, _T]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result
