"""What a filter costs with 10 to 10,000 operands, and what it costs other callers meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as chat_pb
from herald.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from herald.segment.v1 import segment_pb2
from herald.segment.v1 import segment_service_pb2 as pb
from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceStub
from herald_rpc.wire.structs import to_struct
from tests.bench.databases import BenchDatabase, Line
from tests.harness.processes import free_address, open_channel, servers

_OPERANDS = (10, 100, 1_000, 10_000)
_ROUNDS = 3
_BATCH = 1_000
_CALL_SECONDS = 300.0
# by how much 10,000 operands may take longer than 10, that are a thousandth
_GOAL_TIMES = 100

# by field: an operand of which every tenth is what some user has
_FIELDS: dict[str, Callable[[int], Any]] = {
    "id": lambda n: _id(10 * n),
    "a custom string": lambda n: f"value {10 * n}",
    "a custom number": lambda n: 10 * n,
    "a custom array": lambda n: f"tag {10 * n}",
    "teams": lambda n: f"team-{10 * n}",
}
_NAMES = {"a custom string": "text", "a custom number": "number", "a custom array": "tags"}


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    """The best of a few rounds: whatever else the machine does only adds time."""
    url = bench_database.empty()
    # counting in the background would take a part of a core from what is measured
    settings = {"HERALD_SIZING_INTERVAL_SECONDS": "86400"}
    logs = bench_database.folder / "logs"
    logs.mkdir(exist_ok=True)
    server, _ = servers(url, free_address(), free_address(), settings=settings, logs=logs)
    with server, open_channel(server.address) as channel:
        _fill(ChatServiceStub(channel), bench_database.users)
        stub = SegmentServiceStub(channel)
        for field, operand in _FIELDS.items():
            fewest = 0.0
            for operands in _OPERANDS:
                document = {_NAMES.get(field, field): {"$in": [*map(operand, range(operands))]}}
                line, seconds = _measured(stub, field, operands, document, bench_database.users)
                fewest = fewest or seconds
                times = seconds / fewest
                ratio = f"{times:.1f} times that of 10, goal: under {_GOAL_TIMES}"
                yield Line(line.what, line.value, f"{line.remark}; {ratio}")


def _measured(
    stub: SegmentServiceStub, field: str, operands: int, document: dict[str, Any], users: int
) -> tuple[Line, float]:
    id_ = f"{field}-{operands}".replace(" ", "-")
    segment = segment_pb2.Segment(id=id_, type=segment_pb2.SEGMENT_TYPE_USER)
    segment.filter.CopyFrom(to_struct(document))
    stub.CreateSegment(pb.CreateSegmentRequest(segment=segment), timeout=_CALL_SECONDS)
    expected = min(operands, -(-users // 10))
    with _others(stub) as waited:
        exists = [_timed(lambda: _exists(stub, id_)) for _ in range(_ROUNDS)]
        counts = [_timed(lambda: _count(stub, id_)) for _ in range(_ROUNDS)]
        streams = [_timed(lambda: _stream(stub, id_)) for _ in range(_ROUNDS)]
    assert all(found for _, found in exists), f"the first user is not in {id_}"
    assert {found for _, found in counts} == {expected}, f"{counts}, not {expected} in {id_}"
    assert {found for _, found in streams} == {expected}, f"{streams}, not {expected} in {id_}"
    best = min(seconds for seconds, _ in counts)
    line = Line(
        f"{operands:,} operands on {field}, count",
        _milliseconds(best),
        f"stream {_milliseconds(min(seconds for seconds, _ in streams))}, TargetExists at first"
        f" {_milliseconds(exists[0][0])}, then {_milliseconds(exists[-1][0])}; others wait at most"
        f" {_milliseconds(max(waited))}",
    )
    return line, best


def _fill(stub: ChatServiceStub, users: int) -> None:
    for first in range(0, users, _BATCH):
        numbers = range(first, min(first + _BATCH, users))
        stub.UpsertUsers(chat_pb.UpsertUsersRequest(users=map(_user, numbers)))


def _user(number: int) -> chat_pb2.User:
    custom = {"text": f"value {number}", "number": number, "tags": ["all", f"tag {number}"]}
    teams = ["all", f"team-{number}"]
    return chat_pb2.User(id=_id(number), teams=teams, custom=to_struct(custom))


def _id(number: int) -> str:
    return f"user-{number:06}"


@contextmanager
def _others(stub: SegmentServiceStub) -> Iterator[list[float]]:
    """How long each of somebody else's small calls took."""
    small = segment_pb2.Segment(id="small", type=segment_pb2.SEGMENT_TYPE_USER)
    stub.CreateSegment(pb.CreateSegmentRequest(segment=small))
    waited: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            seconds, _ = _timed(lambda: stub.GetSegment(pb.GetSegmentRequest(id="small")))
            waited.append(seconds)
            stop.wait(0.005)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield waited
    finally:
        stop.set()
        thread.join()


def _exists(stub: SegmentServiceStub, id_: str) -> bool:
    request = pb.TargetExistsRequest(segment_id=id_, target_id=_id(0))
    return stub.TargetExists(request, timeout=_CALL_SECONDS).exists


def _count(stub: SegmentServiceStub, id_: str) -> int:
    request = pb.CountTargetsRequest(segment_ids=[id_])
    return stub.CountTargets(request, timeout=_CALL_SECONDS).count


def _stream(stub: SegmentServiceStub, id_: str) -> int:
    pages = stub.StreamTargets(pb.StreamTargetsRequest(segment_ids=[id_]), timeout=_CALL_SECONDS)
    return sum(len(page.target_ids) for page in pages)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
